"""Names, merging, splitting and undo: what a person's say changes, what it leaves, and what brings it back."""

from __future__ import annotations

import contextlib
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import workflow
from tests.conftest import last_json, spawn_cli
from tests.runs.helpers import LEAN, assert_same_labels, copy_of, labels_of, make_run
from tests.steps.test_labels import noisy_blobs
from workflow.commands.status import status
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, StoreError
from workflow.report.names import with_names
from workflow.runstore import RunStore

#: Small, with noise, and clusters that the tree can part.
SMALL = {"block_rows": 1024, "overcluster.n_centroids": 160, **LEAN}


@pytest.fixture(scope="module")
def made(client, tmp_path_factory):
    """Blobs of unequal size in noise."""
    folder = tmp_path_factory.mktemp("edits")
    np.save(folder / "points.npy", noisy_blobs(n=8_000, n_clusters=9, n_features=6)[0])
    return make_run(folder / "points.npy", folder / "run", client, defaults={}, **SMALL)


@pytest.fixture
def run(made, tmp_path):
    """A copy of that run, to be changed."""
    return workflow.Run(copy_of(made, tmp_path / "run").path)


def images_in(run):
    return RunStore.open(run.path).manifest.images["path"]


def assert_sound(run):
    """Hold summary, numbers and checksums of a run against its labels."""
    label = labels_of(run)["label"].values
    sizes = np.bincount(label[label >= 0])
    assert run.n_clusters == np.count_nonzero(sizes)
    assert run.summary["cluster_sizes"] == sizes.tolist()
    found = status(run.path, verify=True)
    assert found["damaged"] == []
    assert {step["state"] for step in found["steps"].values()} == {"complete"}
    predicted = run.predict(np.load(images_in(run))).load()
    np.testing.assert_array_equal(predicted["label"], label)


def others(label, edited):
    """Return labels, which stay; what was edited is -2."""
    return np.where(np.isin(label, list(edited)), -2, label)


def test_merge__makes_one_of_some_and_leaves_the_rest(run):
    before, automatic = labels_of(run), run.summary
    found = run.merge([4, 1])
    after, label = labels_of(run), before["label"].values
    expected = others(label, {1, 4})
    np.testing.assert_array_equal(
        after["label"], np.where(expected == -2, found["cluster"], expected)
    )
    assert found["n_images"] == np.isin(label, [1, 4]).sum()
    for name in ("outlier_score", "distance", "centroid", "second_centroid"):
        np.testing.assert_array_equal(after[name], before[name])
    same = ~np.isin(before["label_resolved"].values, [1, 4])
    for name in ("strength", "top_membership"):
        near = ~np.isin(before["top_label"].values, [1, 4]).any(axis=1)
        np.testing.assert_array_equal(
            after[name].values[same & near], before[name].values[same & near]
        )
    assert found["n_clusters"] == run.n_clusters == automatic["n_clusters"] - 1
    assert run.summary["structure"] == automatic["structure"]
    assert run.summary["n_clusters_tested"] == automatic["n_clusters_tested"]
    assert run.summary["cut"] == {"edits": 1}
    assert (
        "a partition that you asked for (1 edit by hand)" in (run.path / "report.html").read_text()
    )
    assert_sound(run)
    run.plot.tree()


def test_split__parts_one_and_a_merge_of_the_parts_is_what_was_before(run):
    before = labels_of(run)
    label = before["label"].values
    found = run.split(2)
    after = labels_of(run)["label"].values
    expected = others(label, {2})
    np.testing.assert_array_equal(after[expected != -2], expected[expected != -2])
    assert len(found["clusters"]) > 1
    # Each a tenth at least, where the tree has no border.
    assert found["is_border"] or min(found["n_images"]) >= 0.1 * sum(found["n_images"])
    assert set(after[expected == -2]) == set(found["clusters"])
    assert found["n_images"] == [np.count_nonzero(after == c) for c in found["clusters"]]
    assert_sound(run)
    assert run.plot.tree() is not None
    run.merge(found["clusters"])
    assert_same_labels(before, labels_of(run))


def test_merge_of_all__is_one_cluster_that_can_be_split(run):
    n = run.n_clusters
    noise = labels_of(run)["label"].values < 0
    assert run.merge(range(n))["cluster"] == 0
    assert run.n_clusters == 1
    np.testing.assert_array_equal(labels_of(run)["label"].values < 0, noise)
    assert_sound(run)
    found = run.split(0)
    assert found["n_clusters"] > 1
    assert found["is_border"]
    assert_sound(run)


def state_of(run):
    """Return all that undo must bring back: every byte of the labels, names, the cut, the clusters of centroids."""
    files = sorted(p for p in (run.path / "labels.zarr").rglob("*") if p.is_file())
    store = RunStore.open(run.path)
    return {
        "labels": {p.relative_to(run.path): p.read_bytes() for p in files},
        "names": (run.names, store.manifest.names),
        "cut": store.manifest.cut,
        "clusters": store.read_model("centroid_label")[0].tolist(),
        "summary": {
            k: v for k, v in run.summary.items() if k not in ("seconds", "report", "lineage")
        },
        "history": store.manifest.history,
    }


def test_undo__gives_every_bit_back_step_by_step(run):
    def ids():
        return np.flatnonzero(run.summary["cluster_sizes"]).tolist()

    done = [
        lambda: run.name(3, "sky"),
        lambda: run.merge([3, 0]),
        lambda: run.name(4, "sea"),
        lambda: run.split(1),
        lambda: run.recut(n_clusters=4),
        lambda: run.name(ids()[0], "<b>both</b>"),
        lambda: run.merge(ids()[1:3]),
        lambda: run.recut(configured=True),
        lambda: run.name(3, ""),
    ]
    states = []
    for do in done:
        states.append(state_of(run))
        do()
    assert len({json.dumps(state["clusters"]) for state in states}) > 4
    for left, state in reversed(list(enumerate(states))):
        assert run.undo()["n_left"] == left
        assert state_of(run) == state
    assert_sound(run)
    with pytest.raises(ConfigError, match="`undo` must find something that was done by hand"):
        run.undo()


def test_recut__leaves_edits_behind_and_configured_brings_the_automatic_clusters(made, run):
    run.merge([0, 1])
    edited = labels_of(run)
    run.recut(n_clusters=4)
    assert run.summary["cut"] == {"n_clusters": 4}
    run.recut(configured=True)
    assert run.summary["cut"] == "configured"
    assert_same_labels(labels_of(made), labels_of(run))
    run.undo()
    run.undo()
    assert_same_labels(edited, labels_of(run))


def shared_most(label, other, cluster):
    """Return the cluster that holds most of the images of another one and is mostly made of them, or None."""
    inside = other[(label == cluster) & (other >= 0)]
    if not len(inside):
        return None
    best = int(np.bincount(inside).argmax())
    n_shared = np.count_nonzero(inside == best)
    enough = 2 * n_shared > max(np.count_nonzero(label == cluster), np.count_nonzero(other == best))
    return best if enough else None


def test_names__go_where_their_images_go(made, run, client):
    label = labels_of(run)["label"].values
    names = {cluster: f"of {cluster}" for cluster in range(run.n_clusters)}
    for cluster, name in names.items():
        run.name(cluster, name)
    assert run.names == names == {int(c): n for c, n in run.summary["cluster_names"].items()}

    def assert_carried():
        there = labels_of(run)["label"].values
        found = {shared_most(label, there, c): name for c, name in names.items()}
        found.pop(None, None)
        assert run.names == found
        lost = [name for name in names.values() if name not in found.values()]
        assert status(run.path)["names_not_found"] == lost
        return found

    run.recut(n_clusters=4)
    assert len(assert_carried()) < len(names)
    run.recut(configured=True)
    assert run.names == names
    # Other centroids, found from other starts: nothing but the images is the same.
    run.recut(n_clusters=4)
    present, next_id = labels_of(run)["label"].values, run.lineage["cluster"].max() + 1
    settings = {**SMALL, "overcluster.n_centroids": 120, "seed": 5}
    make_run(images_in(run), run.path, client, defaults={}, **settings)
    found = assert_carried()
    assert len(found) > 4
    # So do ids: those of the last labels first, then those that were there before; others are new.
    now = labels_of(run)["label"].values
    kept = {shared_most(present, now, c): c for c in np.unique(present[present >= 0]).tolist()}
    before = {shared_most(label, now, c): c for c in names} | kept
    for cluster in np.unique(now[now >= 0]).tolist():
        assert cluster == before.get(cluster, cluster)
        assert cluster in before or cluster >= next_id
    assert {c: int(name.split()[-1]) for c, name in found.items() if c not in kept} == {
        c: c for c in found if c not in kept
    }
    assert status(run.path, verify=True)["damaged"] == []
    with pytest.raises(ConfigError, match="there is nothing, or nothing more"):
        run.undo()


def test_names__of_another_cut_do_not_take_each_others_place(run):
    run.name(2, "whole")
    part = run.split(2)["clusters"][0]
    run.name(part, "part")
    assert run.names == {part: "part"}
    assert run.undo()["changed"] == f"took back: named cluster {part} part"
    run.name(part, "part")
    run.recut(configured=True)
    assert run.names == {2: "whole"}


def test_merge__keeps_the_name_of_the_largest_named(run):
    run.name(5, "small")
    run.name(3, "large")
    found = run.merge([0, 3, 5])
    assert run.names == {found["cluster"]: "large"}
    assert "not found now: small" in found["changed"]
    run.recut(configured=True)
    assert run.names == {3: "large", 5: "small"}


def test_run__again_keeps_edits_and_settings_put_them_aside(made, run, client):
    run.merge([0, 1])
    run.name(0, "both")
    edited = labels_of(run)
    again = workflow.run(images_in(run), run.path, client=client, progress=False)
    assert_same_labels(edited, labels_of(again))
    assert again.names == {0: "both"}
    # The labels step alone, with the cut in force: as a new version of it would.
    store = RunStore.open(run.path)
    shutil.rmtree(run.path / "labels.zarr")
    again = workflow.run(images_in(run), run.path, client=client, progress=False)
    assert_same_labels(edited, labels_of(again))
    assert again.names == {0: "both"}
    make_run(images_in(run), run.path, client, defaults={}, **SMALL)
    assert_same_labels(labels_of(made), labels_of(run))
    assert status(run.path)["done"][0] == "brought the configured cut back"
    run.undo()
    assert_same_labels(edited, labels_of(run))
    assert RunStore.open(run.path).manifest.cut == store.manifest.cut


def test_name__changes_nothing_on_the_page_but_the_name(run):
    page = run.path / "report.html"
    before = page.read_text()
    run.name(1, 'a <script>"x"</script> & b')
    after = page.read_text()
    assert "a &lt;script&gt;&#34;x&#34;&lt;/script&gt; &amp; b" in after
    assert with_names(after, {}) == before
    run.name(1, None)
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("name", 99, "sky"), r"0 to \d+; got 99"),
        (("name", -1, "sky"), "got noise"),
        (("name", 1, "two\nlines"), r"one line of at most 100 characters; got the character '\\n'"),
        (("name", 1, "bell\a"), r"got the character '\\x07'"),
        (("name", 1, "\u202eturned"), "got the character"),
        (("name", 1, "x" * 10_000), "got 10,000 characters"),
        (("name", 1), "told a name, or --remove; got cluster 1 alone"),
        (("name", 1, "sky", "--remove"), "got both"),
        (("name", "sky"), "'sky' is not a valid integer"),
        (("name", 4, "taken"), "'taken' is that of cluster 2. Give another name, or make them one: `merge 2 4`"),
        (("merge", 3), "two clusters or more; got 3 alone"),
        (("merge", 3, 3), "two clusters or more; got 3 alone"),
        (("merge",), "CLUSTER"),
        (("merge", 3, -1), "got noise"),
        (("merge", 3, 1000), r"0 to \d+; got 1000"),
        (("split", -1), "got noise"),
        (("split", 1000), r"0 to \d+; got 1000"),
        (("split", "first"), "'first' is not a valid integer"),
    ],
)  # fmt: skip
def test_mistakes__are_one_line_and_change_nothing(named, run_cli, words, said):
    before = (named / "manifest.json").read_bytes()
    command, *rest = words
    state, out, err = run_cli(command, named, *rest)
    assert (state, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(said, err), err
    assert (named / "manifest.json").read_bytes() == before


@pytest.fixture(scope="module")
def named(made, tmp_path_factory):
    """A copy of the run with a name; tests of mistakes leave it as it is."""
    path = copy_of(made, tmp_path_factory.mktemp("named") / "run").path
    workflow.Run(path).name(2, "taken")
    return path


def test_commands__say_what_they_did(run, run_cli):
    path = run.path
    assert run_cli("name", path, 2, "blue sky")[:2] == (0, "named cluster 2 blue sky\n")
    state, out, _ = run_cli("merge", path, 2, 5, "--json")
    found = last_json(out)
    assert state == 0
    assert found["changed"].startswith("merged clusters 2 (blue sky) and 5: cluster ")
    assert run_cli("name", path)[1].splitlines() == [
        f"{found['cluster']:>7}  blue sky",
        "done by hand, the last first (`undo` takes it back):",
        "  merged clusters 2 (blue sky) and 5",
        "  named cluster 2 blue sky",
    ]
    lines = run_cli("status", path)[1].splitlines()
    assert f"names: {found['cluster']} blue sky" in lines
    state, out, _ = run_cli("predict", path, images_in(run), "--out", "new.zarr", "--json")
    assert last_json(out)["cluster_names"] == {str(found["cluster"]): "blue sky"}
    assert run_cli("undo", path)[1].startswith("took back: merged clusters 2 (blue sky) and 5")
    assert run_cli("name", path, 2, "--remove")[1] == "took the name blue sky from cluster 2\n"
    assert run_cli("name", path, 2, "")[1] == "cluster 2 has no name\n"
    state, out, _ = run_cli("split", path, 0)
    assert (state, out.count("\n")) == (0, 1)
    assert out.startswith("split cluster 0: now ")


def test_two_editors__never_lose_a_name(made, tmp_path):
    path = copy_of(made, tmp_path / "run").path
    editors = {n: spawn_cli("name", path, n, f"name {n}") for n in range(2)}
    said = {n: editor.communicate(timeout=120)[1] for n, editor in editors.items()}
    won = [n for n, editor in editors.items() if editor.returncode == 0]
    assert won
    for n in editors.keys() - set(won):
        assert editors[n].returncode == 2
        assert "one command at a time may write" in said[n]
        assert said[n].count("\n") == 1
    assert workflow.Run(path).names == {n: f"name {n}" for n in won}
    assert len(RunStore.open(path).manifest.history) == len(won)


class StopHereError(Exception):
    """A kill, as far as files can tell."""


@pytest.mark.parametrize("edit", ["name", "merge"])
def test_edit__cut_short_is_finished_by_the_next_opener(run, monkeypatch, edit):
    before = state_of(run)
    with monkeypatch.context() as patch, contextlib.suppress(StopHereError):
        patch.setattr(RunStore, "_finish_moves", lambda self: (_ for _ in ()).throw(StopHereError))
        run.name(0, "sky") if edit == "name" else run.merge([0, 1])
    store = RunStore.open(run.path)
    assert store.step("report").state == "partial"
    if edit == "name":
        assert read_summary(store)["cluster_names"] == {"0": "sky"}
    else:
        assert read_summary(store)["n_clusters"] == before["summary"]["n_clusters"] - 1
    run.undo()
    assert state_of(run) == before
    run.report()
    assert_sound(run)


def test_folder_that_cannot_be_written__is_said(run):
    lock = run.path / ".lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(StoreError, match="can be written and locked"):
        run.name(0, "sky")
    assert run.names == {}


def test_run_without_labels__is_told_to_finish(run):
    store = RunStore.open(run.path)
    store.step("labels").state = "absent"
    store.save()
    for edit in (lambda: run.name(0, "a"), lambda: run.merge([0, 1]), lambda: run.split(0)):
        with pytest.raises(StoreError, match=r"must have labels; .* Finish it with `run`"):
            edit()


def test_manifest_of_a_version_without_names__takes_some(run):
    """Runs made before have neither of the keys."""
    path = run.path / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("names", "history", "lineage", "checksum"):
        del content[key]
    path.write_text(json.dumps(content))
    (run.path / "labels" / "lineage.npz").unlink()
    run.name(0, "sky")
    assert run.names == {0: "sky"}
    before = labels_of(run)
    run.recut(n_clusters=4)
    assert run.lineage["state"].unique().tolist() == [1]
    run.recut(configured=True)
    assert_same_labels(before, labels_of(run))
    assert run.names == {0: "sky"}


def test_lineage__is_none_of_a_first_run(made):
    assert "lineage" not in read_summary(made)
    assert 'id="lineage"' not in (made.path / "report.html").read_text()
    first = workflow.Run(made.path).lineage
    assert first["change"].unique().tolist() == ["born"]
    assert first["cluster"].tolist() == list(range(read_summary(made)["n_clusters"]))


def test_recut__says_what_became_of_the_clusters_and_all_show_the_same_ids(made, run, run_cli):
    n_before = run.n_clusters
    state, _, err = run_cli("recut", run.path, "--n-clusters", 4)
    assert state == 0
    (told,) = [line for line in err.splitlines() if f"{n_before} clusters before" in line]
    ids = np.flatnonzero(run.summary["cluster_sizes"]).tolist()
    assert ids != list(range(len(ids)))
    last = run.summary["lineage"][-1]
    assert last["done"] == "recut --n-clusters 4"
    assert (last["n_before"], last["n_clusters"]) == (n_before, len(ids))
    assert f"{last['n_clusters']} now: {last['kept']} kept" in told
    assert "date" not in last
    changes = run.lineage[run.lineage["state"] == last["state"]]
    assert (changes["change"] == "merged").sum() == last["merged_from"]
    assert (changes["change"] == "gone").sum() == last["gone"]
    assert set(changes["cluster"]) <= {-1, *ids}
    page = (run.path / "report.html").read_text()
    assert 'id="lineage"' in page
    assert "recut --n-clusters 4" in page
    assert {int(c) for c in re.findall(r'data-name-of="(\d+)"', page)} == set(ids)
    label = labels_of(run)["label"].values
    table = pd.read_csv(run.export(run.path.with_name("table.csv")))
    np.testing.assert_array_equal(table["label"], label)
    model = workflow.load_model(run.path)
    np.testing.assert_array_equal(model.predict(np.load(images_in(run)))["label"], label)
    for cluster in ids:
        assert run.members(cluster, 1).sizes["sample"] == 1
    gone = next(c for c in range(n_before) if c not in ids)
    with pytest.raises(ConfigError, match=f"`label` must be .*; got {gone}"):
        run.members(gone)
    state, out, err = run_cli("members", run.path, gone)
    assert (state, out, err.count("\n")) == (2, "", 1)
    assert_sound(run)
    run.plot.sizes()
    run.recut(configured=True)
    assert_same_labels(labels_of(made), labels_of(run))
    assert run.summary["doubtful_clusters"] == read_summary(made)["doubtful_clusters"]
