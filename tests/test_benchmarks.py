"""The benchmarks run, at their smallest scale, and both sides give answers that agree."""

import os

import pytest

from benchmarks import overcluster, pca, pipeline, run, tree
from benchmarks.data import SCALES, Data
from benchmarks.measure import Result, table


@pytest.fixture(scope="module")
def data():
    return Data(SCALES["tiny"])


def test_moments__are_exact(data):
    (result,) = pca.moments(data)
    assert result.figures == {"is_exact": 1.0, "n_samples": data.scale.n_images}
    assert result.ours_s > 0
    assert result.peer_s > 0


def test_components__keep_no_less_than_those_of_both_peers(data):
    exact, incremental = pca.components(data)
    assert exact.figures["kept"] == pytest.approx(exact.figures["peer_kept"], abs=1e-5)
    # dask-ml finds them from random projections.
    assert 0.9 < incremental.figures["peer_kept"] <= incremental.figures["kept"] + 1e-9


def test_nearest__is_what_every_peer_finds(data):
    results = list(overcluster.nearest(data))
    assert len(results) == 3 - len(overcluster.absent())
    assert all(result.figures["same"] > 0.999 for result in results)


def test_fitting__is_no_worse_than_mini_batches(data):
    (result,) = overcluster.fitting(data)
    assert result.figures["inertia_ratio"] < 1.02
    assert result.figures["n_empty"] == 0


def test_tree__finds_sources(data):
    (result,) = tree.tree(data)
    assert result.figures["occupied"] == 1
    assert result.figures["ari"] > 0.5


def test_whole_run__finds_sources(data, client):
    (result,) = pipeline.whole_run(data, client)
    assert result.figures["ari"] > 0.5
    assert -1 <= result.figures["peer_ari"] <= 1


def test_page__holds_the_table_and_the_machine(tmp_path, capsys):
    page = tmp_path / "performance.md"
    assert run.main(["--scale", "tiny", "--only", "moments", "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "| moments of 6,000 x 768 uint8" in printed
    text = page.read_text()
    assert printed.splitlines()[2] in text
    assert f"{os.cpu_count()} cores" in text


def test_table__says_how_many_times_faster():
    text = table([Result("p", 2.0, "q", 3.0, "same", {})])
    assert text.splitlines()[2].split("|")[5].strip() == "1.50"
