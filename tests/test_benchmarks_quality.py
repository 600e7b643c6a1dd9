"""The quality benchmark runs, at its smallest scale, and measures what a run would give."""

import re

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, homogeneity_score

import workflow
from benchmarks.quality import __main__ as quality
from benchmarks.quality import clustering, peers, sets
from benchmarks.quality.agreement import agreement, n_clusters, stability
from benchmarks.quality.cells import SCALES, Bench
from benchmarks.quality.clustering import (
    Scores,
    cluster_rows,
    cluster_scores,
    families_of,
    scores_of,
)
from benchmarks.quality.comparison import peers_tables
from benchmarks.quality.page import draw_curves
from benchmarks.quality.peers import PEERS, Peer, Problem, timed
from benchmarks.quality.records import Record, Records
from benchmarks.quality.sets import labelled_sets, stored_sets, structureless_sets
from benchmarks.quality.touching import CLUSTERS, DIMENSIONS, touching
from workflow.neighbors import nearest_neighbors

#: Largest picture that belongs into a repository [bytes].
MAX_PICTURE = 150_000


def assert_same_as_run(found, run):
    stored = run.dataset.load()
    shared = set(stored.data_vars) & set(found.labels._fields)
    assert {"label", "label_resolved", "strength", "centroid", "distance"} <= shared
    for name in shared:
        np.testing.assert_array_equal(getattr(found.labels, name), stored[name].values, name)
    assert found.tree.structure == run.summary["structure"]


def test_cluster_rows__gives_what_a_run_with_default_settings_gives(client, tmp_path):
    images, _ = labelled_sets()["blobs"].make(1_500, 0)
    run = workflow.run(images, tmp_path / "run", client=client, progress=False)
    found = cluster_rows(images)
    assert found.tree.n_clusters > 1
    assert_same_as_run(found, run)
    family = families_of(scores_of(images)).family
    assert n_clusters(family) > 0
    np.testing.assert_array_equal(family, run.dataset["family"].values)


@pytest.mark.parametrize(
    ("metric", "setting"),
    [("whiten", {"pca.whiten": True}), ("within", {"projection.metric": "within"})],
)
def test_cluster_rows__gives_what_a_run_with_another_metric_gives(
    metric, setting, client, tmp_path
):
    images, _ = labelled_sets()["digits"].make(900, 0)
    settings = setting
    run = workflow.run(images, tmp_path / "run", client=client, settings=settings, progress=False)
    assert_same_as_run(cluster_rows(images, metric=metric), run)
    with pytest.raises(AssertionError):
        assert_same_as_run(cluster_rows(images), run)


def test_cluster_rows__gives_what_a_run_in_many_blocks_gives(
    client, tmp_path, pictures, monkeypatch
):
    # Two blocks in a partition: their sums merge in the order of the tasks.
    monkeypatch.setattr(clustering, "choose_block_rows", lambda _: 10)
    settings = {"block_rows": 10, "overcluster.n_centroids": 21, "seed": 3}
    images = pictures[0][:645]
    run = workflow.run(images, tmp_path / "run", client=client, settings=settings, progress=False)
    assert len(scores_of(images).parts[0].blocks) == 2
    assert_same_as_run(cluster_rows(images, seed=3, n_centroids=21), run)


def test_cluster_scores__drops_centroids_without_rows(monkeypatch):
    fit = clustering.fit_centroids

    class WithOneFarAway:
        def __init__(self, *args, **kwargs):
            near = fit(*args, **kwargs).centroids
            self.centroids = np.vstack([near, np.full((1, near.shape[1]), 1e3)])

    monkeypatch.setattr(clustering, "fit_centroids", WithOneFarAway)
    scores = scores_of(labelled_sets()["moons"].make(500, 0)[0])
    found = cluster_scores(scores, n_centroids=20)
    assert len(found.centroids) == found.graph.n_nodes == 20
    assert len(np.unique(found.labels.centroid)) == 20


@pytest.mark.parametrize("name", [*labelled_sets(), *structureless_sets()])
def test_sets__are_made_from_their_seed_alone(name):
    one = (labelled_sets() | structureless_sets())[name]
    n = one.size(600)
    (rows, truth), (again, _), (other, _) = one.make(n, 1), one.make(n, 1), one.make(n, 2)
    assert len(rows) == len(truth) == n
    np.testing.assert_array_equal(rows, again)
    assert (rows != other).any()
    assert np.isfinite(rows).all()
    assert truth.min() >= sets.NOISE
    assert n_clusters(truth) == 1 or name in labelled_sets()


def test_blobs__are_apart_in_the_noise_of_the_requested_share():
    rows, truth = sets.blobs(12, 5, 0.25)(8_000, 0)
    assert (truth == sets.NOISE).sum() == 2_000
    assert n_clusters(truth) == 12
    center = np.array([rows[truth == k].mean(axis=0) for k in range(12)])
    width = np.array([rows[truth == k].std(axis=0).mean() for k in range(12)])
    gap = np.linalg.norm(center[:, None] - center[None], axis=2) / np.add.outer(width, width)
    wanted = sets.GAP + sets.GAP_PER_ROOT * 5**0.5
    # The closest pair is as close as wanted, but for what the means of a few hundred rows miss.
    assert gap[np.triu_indices(12, 1)].min() == pytest.approx(wanted, rel=0.05)


def test_gradient__falls_a_hundredfold():
    rows, _ = structureless_sets()["gradient-2d"].make(100_000, 0)
    counts = np.histogram(rows[:, 0], bins=[0, 0.02, 0.98, 1])[0]
    assert counts[2] / counts[0] == pytest.approx(100**0.98, rel=0.15)


def test_tracks__are_like_within_a_source_and_seldom_alone():
    images, truth = labelled_sets()["tracks"].make(1_500, 0)
    assert images.shape == (1_500, 16 * 16 * 3)
    assert (truth == sets.NOISE).mean() == pytest.approx(sets.LONE_SHARE)
    sizes = np.bincount(truth[truth >= 0])
    assert sizes[:-1].min() >= sets.TRACK_BOUNDS[0]
    assert sizes.max() <= sets.TRACK_BOUNDS[1]
    # The nearest other image is of the same source, for nearly all that have one.
    nearest = nearest_neighbors(images.astype(np.float32), 1)[0][:, 0]
    known = truth >= 0
    assert (truth[nearest] == truth)[known].mean() > 0.9


@pytest.mark.parametrize("seed", [0, 3])
def test_touching__has_as_many_clusters_as_its_truth_says(seed):
    rows, truth = touching(12_000, seed)
    again, _ = touching(12_000, seed)
    np.testing.assert_array_equal(rows, again)
    assert np.isfinite(rows).all()
    assert 6_000 <= len(rows) <= 12_000
    assert DIMENSIONS[0] <= rows.shape[1] <= DIMENSIONS[1]
    sizes = np.bincount(truth)
    assert CLUSTERS[0] <= len(sizes) <= CLUSTERS[1]
    assert sizes.min() > 0.15 * sizes.mean()


@pytest.fixture
def folder(tmp_path):
    """Two stored sets: one with images before they were resized, one of vectors."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    native = np.zeros((60, 12, 12), np.uint8)
    native[:, 4:8, 4:8] = 200
    images = rng.integers(0, 9, (60, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images, native=native, labels=labels)
    np.savez(tmp_path / "points.npz", vectors=rng.random((40, 5)), labels=labels[:40])
    return tmp_path


def test_stored_sets__take_native_images_and_vectors(folder):
    found = stored_sets(folder, 1)
    assert list(found) == ["mnist", "points"]
    assert found["mnist"].make(60, 0)[0].shape == (60, 12, 12)
    rows, truth = found["points"].make(10, 0)
    stored = np.load(folder / "points.npz")
    kept = [int(np.flatnonzero((stored["vectors"] == row).all(axis=1))[0]) for row in rows]
    assert kept == sorted(set(kept))
    np.testing.assert_array_equal(truth, stored["labels"][kept])
    assert found["points"].size(None) == 40
    assert found["points"].has_sources
    assert not labelled_sets()["digits"].has_sources


def test_stored_sets__hold_deformed_copies(folder):
    one = stored_sets(folder, 3)["mnist-deformed"]
    images, truth = one.make(one.size(None), 0)
    assert images.shape == (180, 12, 12)
    np.testing.assert_array_equal(truth, np.tile(np.arange(60) % 3, 3))
    assert (images[60:] != np.tile(images[:60], (2, 1, 1))).any(axis=(1, 2)).all()
    # A little turned and shifted: the square stays about as bright and about where it was.
    light = images.reshape(180, -1).sum(axis=1) / images[0].sum()
    assert 0.6 < light.min() < light.max() < 1.7


def test_stored_sets__say_what_they_must_hold(tmp_path):
    np.savez(tmp_path / "odd.npz", pictures=np.zeros((3, 2)), labels=np.arange(3))
    with pytest.raises(ValueError, match=r"must hold `labels` and `images`.*holds pictures"):
        stored_sets(tmp_path, 1)["odd"].make(3, 0)


def test_made_set__needs_a_size():
    with pytest.raises(ValueError, match="a made set needs a number of images"):
        labelled_sets()["moons"].size(None)


def test_agreement__counts_noise_both_ways():
    truth = np.array([0, 0, 0, 1, 1, 1, -1, -1, -1, -1])
    labels = np.array([5, 5, -1, 2, 2, 2, -1, -1, 2, 5])
    found = agreement(truth, labels)
    assert (found["n"], found["n_true"], found["n_found"]) == (10, 2, 2)
    assert found["noise_share"] == 0.3
    assert found["noise_precision"] == pytest.approx(2 / 3)
    assert found["noise_recall"] == 0.5
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth[:6], [5, 5, 9, 2, 2, 2]))
    clean = agreement(truth[:6], truth[:6])
    assert (clean["ari"], clean["ami"]) == (1.0, pytest.approx(1.0))
    assert clean["noise_precision"] is clean["noise_recall"] is None
    # Without noise: five of six images, all where they belong.
    assert (found["ari_kept"], found["kept"], found["purity"]) == (1.0, pytest.approx(5 / 6), 1.0)
    joined = agreement(truth[:6], np.zeros(6, int))
    assert (joined["ari_kept"], joined["purity"]) == (0.0, 0.5)
    nothing = agreement(truth, np.full(10, -1))
    assert nothing["ari_kept"] is nothing["purity"] is None
    assert nothing["kept"] == 0.0


def test_stability__is_over_images_that_neither_calls_noise():
    one = np.array([0, 0, 1, 1, -1, 0])
    other = np.array([3, 3, 4, 4, 3, -1])
    assert stability(one, other) == {"ami": pytest.approx(1.0), "share": pytest.approx(4 / 6)}
    assert stability(one, np.full(6, -1)) == {"ami": None, "share": 0.0}


@pytest.fixture(scope="module")
def problem():
    images, truth = sets.blobs(4, 6, 0.0)(1_200, 0)
    return Problem(scores_of(images), truth, 0)


# UMAP says when it is imported that it has no Tensorflow.
@pytest.mark.filterwarnings("ignore::ImportWarning")
@pytest.mark.parametrize("name", [peer.name for peer in peers.installed()])
def test_peers__tell_separate_blobs_apart(name, problem):
    labels, seconds = timed(PEERS[name], problem)
    known = labels >= 0
    assert homogeneity_score(problem.truth[known], labels[known]) > 0.95
    # Those that need an extra may split a blob, or call a good part of it noise.
    if not PEERS[name].modules:
        assert known.mean() > 0.8
        assert adjusted_rand_score(problem.truth[known], labels[known]) > 0.9
    assert seconds >= 0
    finest, _ = timed(PEERS[name], problem, "families")
    known = finest >= 0
    assert homogeneity_score(problem.truth[known], finest[known]) > 0.95


def test_ours__is_the_same_among_the_peers(problem):
    np.testing.assert_array_equal(timed(PEERS["ours"], problem)[0], problem.ours.labels.label)
    family, _ = timed(PEERS["ours"], problem, "families")
    np.testing.assert_array_equal(family, families_of(problem.scores).family)


def test_min_cluster_size__is_a_tenth_of_the_mean(problem):
    assert problem.min_cluster_size == 30
    assert Problem(Scores(problem.rows[:4], []), np.arange(4), 0).min_cluster_size == 5


def test_peers_tables__name_the_first_of_each_row():
    def record(name, method, ari, level="clusters"):
        figures = {"ari": ari, "ari_kept": ari, "kept": 0.9, "n_found": 3, "seconds": 1.0}
        key = {"set": name, "n": 5, "level": level, "method": method}
        return Record("peers", "tiny", key, figures | {"versions": ""})

    records = [
        record("a", "ours", 0.8), record("a", "k-means", 0.803), record("b", "ours", 0.5),
        record("b", "k-means", 0.7), record("b", "ours", 0.9, "families"),
        record("b", "k-means", 0.4, "families"),
    ]  # fmt: skip
    text = peers_tables(records, {}, None)
    assert "is first, or within 0.005 of the first, in 2 of 3 rows" in text
    assert "* b (5): k-means 0.700, ours 0.500." in text
    lines = re.findall(r"^\| (?:a|b).*\*\*.*$", text, flags=re.MULTILINE)
    bold = [re.findall(r"\*\*([\d.]+)\*\*", line) for line in lines]
    assert bold == [["0.800", "0.803"], ["0.700"], ["0.900"]]
    assert "0.700 (10%)" in text


SETS = "blobs,tracks,ring,touching,blobs-8d-noise-10%"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The page of a few sets, made by the command."""
    place = tmp_path_factory.mktemp("quality") / "docs" / "quality.md"
    assert quality.main(["--scale", "tiny", "--sets", SETS, "--out", str(place)]) == 0
    return place


def test_page__has_a_row_for_each_set_in_each_section(measured):
    parts = re.split(r"^## ", measured.read_text(), flags=re.MULTILINE)
    first = [re.findall(r"^\| ([\w%-]+)", part, flags=re.MULTILINE)[1:] for part in parts]
    labelled, families, structureless, stable, intervals, noise, peers, metrics = (
        [name for name in names if name != "set" and not name.startswith("-")]
        for names in first[1:9]
    )
    assert labelled == families == stable == ["blobs", "tracks"]
    assert structureless == ["ring"]
    assert intervals == ["1"]
    assert noise == ["blobs-8d-noise-10%"]
    # Three tables, and two rows for sets with sources.
    assert peers == 3 * ["blobs", "tracks", "tracks"]
    assert metrics == ["blobs", "tracks", "tracks"]
    # What was not requested is said to be missing.
    assert all("Not measured yet: " in parts[i] for i in (1, 2, 3, 4, 7, 8))
    assert "left out: crawlfamilies, fashion900, mnist, signdigits" in parts[0]
    left_out = "".join(re.findall("^Not installed, so left out: (.*) `pip", parts[7], re.MULTILINE))
    assert re.findall(r"([\w-]+) \(", left_out) == [p.name for p in PEERS.values() if p.missing]


def test_page__has_pictures_that_are_small(measured):
    linked = re.findall(r"\]\((img/[\w-]+\.png)\)", measured.read_text())
    assert linked == ["img/quality-n.png", "img/quality-n-centroids.png"]
    for name in linked:
        content = (measured.parent / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < MAX_PICTURE


def test_resume__measures_only_what_is_missing(measured, capsys):
    before, lines = measured.read_text(), measured.with_suffix(".jsonl").read_text().splitlines()
    # The last one was cut short by a kill.
    measured.with_suffix(".jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])
    given = ["--scale", "tiny", "--sets", SETS, "--out", str(measured), "--resume"]
    assert quality.main(given) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("curves 4 of 4: set=blobs axis=n_centroids")

    def without_rates(text):
        return re.sub(r"^\| (?:processor|float32 product|disk) .*$", "", text, flags=re.MULTILINE)

    assert without_rates(measured.read_text()) == without_rates(before)
    assert "| float32 product | " in before.partition("##")[0]


def test_records__of_other_code_or_scale_do_not_count(tmp_path):
    records = Records(tmp_path / "r.jsonl")
    assert records.current("tiny") == {}
    records.add(Record("noise", "tiny", {"set": "a"}, {"ari": 0.1}))
    records.add(Record("noise", "tiny", {"set": "a"}, {"ari": 0.2}))
    records.add(Record("noise", "small", {"set": "a"}, {"ari": 0.3}))
    records.add(Record("noise", "tiny", {"set": "b"}, {"ari": 0.4}, code="another"))
    assert [r.figures["ari"] for r in records.current("tiny").values()] == [0.2]
    assert records.n_outdated("tiny") == 1
    assert records.n_outdated("small") == 0


def test_a_peer_that_fails__is_said_to_have(tmp_path, monkeypatch, capsys):
    def fail(problem, _):
        msg = f"too many | rows: {len(problem.rows)}"
        raise ValueError(msg)

    monkeypatch.setitem(PEERS, "broken", Peer("broken", "always fails", fail, {}))
    monkeypatch.setitem(PEERS, "gone", Peer("gone", "", fail, {"no_such_module": "no-such-dist"}))
    place = tmp_path / "q.md"
    given = ["--scale", "tiny", "--sections", "peers", "--sets", "digits", "--out", str(place)]
    assert quality.main([*given, "--methods", "broken,k-means"]) == 0
    text = place.read_text()
    assert "| failed: ValueError: too many / rows: 1000 |" in text
    assert "Not installed, so left out:" in text
    assert "gone (no-such-dist)" in text
    with pytest.raises(SystemExit):
        quality.main([*given, "--methods", "gone"])
    assert "needs no-such-dist: pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sets", "blobs,nothing"], "--sets must be among blobs, .*; got nothing"),
        (["--sections", "none"], "--sections must be among labelled, .*; got none"),
        (["--methods", "magic"], "--methods must be among ours, .*; got magic"),
        (["--data", "no-such-folder"], "--data must be a folder with .npz files"),
    ],
)
def test_options__say_what_there_is(words, said, capsys):
    with pytest.raises(SystemExit):
        quality.main(words)
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("scale", SCALES)
def test_plan__names_each_measurement_once(scale, folder):
    bench = Bench(SCALES[scale], folder)
    for cells in bench.sections.values():
        keys = [tuple(cell.key.items()) for cell in cells()]
        assert len(keys) == len(set(keys)) > 0


def test_full_plan__holds_what_the_page_promises(folder):
    bench = Bench(SCALES["full"], folder)
    null = [cell.key for cell in bench.sections["structureless"]()]
    assert {key["ratio"] for key in null} == {10, 30, 100, 300, 1_000}
    assert {key["seed"] for key in null} == set(range(10))
    assert {key["set"] for key in bench_keys(bench, "curves")} == {"blobs", "mnist"}
    deformed = [k for k in bench_keys(bench, "labelled") if k["set"] == "mnist-deformed"]
    assert {key["n"] for key in deformed} == {600}
    levels = {key["set"] for key in bench_keys(bench, "peers") if key["level"] == "families"}
    assert {"tracks"} <= levels
    assert "digits" not in levels
    limit = PEERS["hdbscan"].max_images
    assert all(k["n"] <= limit for k in bench_keys(bench, "peers") if k["method"] == "hdbscan")


def bench_keys(bench, section):
    return [cell.key for cell in bench.sections[section]()]


def test_curves__of_many_places_keep_numbers_apart(tmp_path):
    curve = {float(x): [{"ari": 0.5, "n_found": 3, "n_true": 3}] for x in range(100, 3_000, 100)}
    place = tmp_path / "img" / "c.png"
    draw_curves({"a": curve, "b": {500.0: curve[500.0] * 2}}, "images", place)
    assert 0 < place.stat().st_size < MAX_PICTURE
