"""The comparisons run, at their smallest scale, and both sides give answers that agree."""

import re

import pytest

from benchmarks import sizes, stores
from benchmarks.data import MADE, SCALES, Data
from benchmarks.measure import Result, table
from benchmarks.pages import markdown
from benchmarks.performance import __main__ as performance
from benchmarks.performance import overcluster, pca, runs, tree
from benchmarks.performance.records import read_records
from workflow.steps import STEPS


@pytest.fixture(scope="module")
def data():
    return Data(SCALES["tiny"])


def test_moments__are_exact(data):
    result, from_zarr = pca.moments(data)
    assert result.figures == {"is_exact": 1.0, "n_samples": data.scale.n_images}
    assert result.ours_s > 0
    assert result.peer_s > 0
    assert from_zarr.figures["kept"] == pytest.approx(next(pca.components(data)).figures["kept"])


def test_components__keep_no_less_than_those_of_both_peers(data):
    exact, incremental = pca.components(data)
    assert exact.figures["kept"] == pytest.approx(exact.figures["peer_kept"], abs=1e-5)
    # dask-ml finds them from random projections.
    assert 0.9 < incremental.figures["peer_kept"] <= incremental.figures["kept"] + 1e-9


def test_nearest__is_what_every_peer_finds(data):
    results = list(overcluster.nearest(data))
    assert len(results) == (1 + len(MADE)) * (3 - len(overcluster.absent()))
    assert all(result.figures["same"] > 0.999 for result in results)


def test_fitting__is_no_worse_than_the_peers(data):
    results = list(overcluster.fitting(data))
    assert len(results) == (1 + len(MADE)) * (2 - len(overcluster.absent()))
    for result in results:
        assert result.figures["inertia_ratio"] < 1.02
        assert result.figures["n_empty"] == 0


def test_stores__hold_what_was_written(data, monkeypatch):
    monkeypatch.setattr(stores, "MAX_BYTES", 1 << 23)
    results = list(stores.stores(data))
    pairs, compressors = results[:8], results[8:]
    assert all(result.figures["same"] == 1 for result in pairs)
    assert all(result.ours_s > 0 < result.peer_s for result in pairs)
    # What is wanted is wanted of the disk; the images of the demo are noise, so not compressed either.
    assert [result.wanted for result in pairs] == [None, None, 0.8, 0.8] * 2
    assert all("not compressed" in result.problem for result in pairs)
    assert ["disk" in result.problem for result in pairs] == [False, False, True, True] * 2
    assert [result.peer for result in compressors] == list(stores.COMPRESSORS)[1:]


def test_libraries__keep_what_was_written(data, monkeypatch):
    monkeypatch.setattr(stores, "MAX_BYTES", 1 << 23)
    results = list(stores.libraries(data))
    n_peers = 1 + len(stores.PIPELINES) - len(stores.absent())
    # A library writes by shards and by blocks; three arrays, in memory and on disk.
    assert len(results) == 6 * (3 * n_peers - 1)
    assert all(result.figures["peer_share"] > 0 for result in results)
    shares = [result.figures["peer_share"] for result in results if result.peer == stores.PLAIN]
    assert shares == [1.0] * 12


@pytest.mark.skipif(runs.faiss is None, reason="faiss is not installed")
def test_command__finds_sources(data, monkeypatch):
    monkeypatch.setattr(runs, "MADE", {})
    for solve in (runs.command, runs.command_avx2):
        (result,) = solve(data)
        assert result.figures["n_clusters"] > 1
        assert result.peer_s > 0


def test_tree__finds_sources(data):
    whole, one_linkage, *_ = tree.tree(data)
    assert whole.figures["occupied"] == 1
    assert min(whole.figures["ari"], one_linkage.figures["ari"]) > 0.5


def test_whole_run__finds_sources(data, client):
    (result,) = runs.whole_run(data, client)
    assert result.figures["ari"] > 0.5
    assert -1 <= result.figures["peer_ari"] <= 1


def test_page__holds_the_table_and_the_machine_and_keeps_what_is_not_measured_again(
    tmp_path, capsys, monkeypatch
):
    page = tmp_path / "performance.md"
    words = ["--scale", "tiny", "--output", str(page), "--only"]
    assert performance.main([*words, "moments"]) == 0
    printed = capsys.readouterr().out
    assert "| moments of 6,000 x 768 uint8" in printed
    text = page.read_text()
    (line,) = re.findall(r"^\| moments of .*\|$", printed, re.MULTILINE)
    assert line in text
    assert "| float32 product | " in text.partition("| problem")[0]
    other = Result("other work", 1.0, "nobody", 2.0, "same", {})
    monkeypatch.setitem(performance.PROBLEMS, "components", lambda data: iter([other]))
    assert performance.main([*words, "components"]) == 0
    both = page.read_text()
    assert re.search(r"^\| other work +\| 1 +\| nobody ", both, re.MULTILINE)
    cells = [cell.strip() for cell in line.split("|")]
    (kept,) = re.findall(r"^\| moments of .*\|$", both, re.MULTILINE)
    assert [cell.strip() for cell in kept.split("|")] == cells
    assert re.search(r"^\| machine +\| moments +\| components +\|$", both, re.MULTILINE)


def test_performance_page__is_a_view_of_its_records():
    page = performance.PAGE
    records = read_records(page.with_suffix(".json"), "full")
    assert set(records) >= set(performance.NAMES) - set(performance.BY_NAME)
    assert page.read_text() == performance.page(
        "full", records, page.parent / "img/performance.png"
    )


def test_table__says_how_many_times_faster():
    text = table([Result("p", 2.0, "q", 3.0, "same", {})])
    assert text.splitlines()[2].split("|")[5].strip() == "1.50"


def test_sizes__page_has_every_step_and_the_machine_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKFLOW_COMPUTE__N_WORKERS", "1")
    monkeypatch.setenv("WORKFLOW_TREE__N_RESAMPLES", "0")
    words = ["--images", "3000", "--centroids", "100", "--place", str(tmp_path)]
    words += ["--output", str(tmp_path / "sizes.md")]
    assert sizes.main(words) == 0
    text = (tmp_path / "sizes.md").read_text()
    assert re.search(r"^\| step +\| 3,000 images \|$", text, re.MULTILINE)
    assert all(f"\n| {step.name} [s] " in text for step in STEPS)
    assert "| float32 product | " in text
    assert (tmp_path / "img" / "sizes.png").stat().st_size > 10_000
    assert [place.name for place in tmp_path.glob("3000-100*")] == ["3000-100.json"]
    # A page made of notes has the machine that they were taken on.
    assert sizes.main(words) == 0
    assert (tmp_path / "sizes.md").read_text() == text


def test_sizes__of_several_machines_have_a_column_each(tmp_path):
    summary = {
        "n_samples": 3_000, "n_centroids": 100, "n_clusters": 3, "peak_rss_bytes": 2**30,
        "seconds": dict.fromkeys(sizes.STEPS, 1.0) | {"total": 8.0},
        "truth": {"n_sources": 3, "n_clusters": 3, "ari": 1.0},
        "neighbors": {"found": True}, "families": "found",
    }  # fmt: skip
    old = {"wall": 9.0, "summary": summary, "counters": {}}
    new = old | {
        "summary": summary | {"n_samples": 6_000, "families": "untested"},
        "machine": {"processor": "one"},
    }
    text = sizes.page([old, new], tmp_path / "img" / "sizes.png")
    assert re.search(r"^\| machine +\| 3,000 images +\| 6,000 images \|$", text, re.MULTILINE)
    assert re.search(r"^\| processor +\| not recorded +\| one +\|$", text, re.MULTILINE)
    assert re.search(r"^\| families \[s\] +\| 1.0 +\| left out +\|$", text, re.MULTILINE)


def test_markdown__reads_as_plain_text():
    lines = markdown(("a", "long"), [("wide one", "1")]).splitlines()
    assert lines == ["| a        | long |", "| -------- | ---- |", "| wide one | 1    |"]
