"""The sample that centroids are fitted on: the same rows drawn while they are projected, and later."""

import numpy as np
import pytest

from tests.conftest import picture_set
from tests.runs.helpers import make_run, only
from workflow.chunks import row_ranges
from workflow.engine.partitions import part_path, partitions
from workflow.overcluster import draw_rows, sample_counts
from workflow.rng import generator
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.journal import Journal
from workflow.steps.parts import sample
from workflow.steps.parts.sample import Drawing, DrawTask, ShuffleTask, stored_sample
from workflow.steps.projection import stored_scores

N, BLOCK_ROWS, N_ROWS, SEED = 20_000, 512, 3_000, 7


@pytest.fixture
def scores(tmp_path):
    """Rows that can be told apart."""
    rows = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    create(tmp_path / "scores.zarr", "scores", N, N)
    zarr_io.write_rows(tmp_path / "scores.zarr", "scores", 0, rows)
    return zarr_io.StoredRows.open(tmp_path / "scores.zarr", "scores")


def create(group, name, n_rows, shard_rows):
    """Make an array of pairs."""
    dims = ("row", "component")
    zarr_io.create_rows_array(
        group,
        name,
        n_rows=n_rows,
        tail_shape=(2,),
        dtype="float32",
        shard_rows=shard_rows,
        dims=dims,
    )


def drawn_at_once(rows):
    """The sample by its definition."""
    blocks = row_ranges(N, BLOCK_ROWS)
    counts = sample_counts([block.n_rows for block in blocks], N_ROWS)
    drawn = [
        rows[block.start : block.stop][
            draw_rows(block.n_rows, n, generator(SEED, "overcluster/sample", block.start))
        ]
        for block, n in zip(blocks, counts.tolist(), strict=True)
    ]
    order = generator(SEED, "overcluster/shuffle").permutation(N_ROWS)
    return np.concatenate(drawn)[order]


@pytest.mark.parametrize("shard_rows", [1_024, 2_999, 4_000])
def test_sample__is_drawn_block_by_block_and_shuffled(scores, tmp_path, monkeypatch, shard_rows):
    monkeypatch.setattr(sample, "SAMPLE_SHARD_ROWS", shard_rows)
    drawing = Drawing(N, BLOCK_ROWS, N_ROWS, SEED, tmp_path / "drawn")
    for partition in partitions(N, BLOCK_ROWS):
        report = DrawTask(scores, drawing)(partition)
        assert report["bytes_read"] == partition.n_rows * 8
    target = tmp_path / "sample.zarr"
    create(target, "sample", N_ROWS, shard_rows)
    reports = [ShuffleTask(drawing, scores, target)(shard) for shard in drawing.shards]
    # Nothing is read twice.
    assert sum(report["bytes_read"] for report in reports) == N_ROWS * 8
    found = zarr_io.StoredRows.open(target, "sample").read(0, N_ROWS)
    np.testing.assert_array_equal(found, drawn_at_once(scores.read(0, N)))


@pytest.mark.parametrize("metric", ["euclidean", "within"])
@pytest.mark.parametrize("lost", ["nothing", "a file", "another seed"])
def test_run__fits_on_the_same_rows_whenever_they_are_drawn(
    client, tmp_path, monkeypatch, metric, lost
):
    monkeypatch.setattr(sample, "sample_size", lambda n, _: n // 3)
    images = picture_set(n=3000)[0]
    np.save(tmp_path / "images.npy", images)
    settings = {"projection.metric": metric, "projection.dtype": "float16", "seed": 3}
    out = tmp_path / "run"
    with only("ingest", "pca", "projection", "overcluster"):
        whole = make_run(tmp_path / "images.npy", tmp_path / "whole", client, **settings)
    assert not (whole.path / "overcluster" / "drawn.jsonl").exists()
    first = {**settings, "seed": 4} if lost == "another seed" else settings
    with monkeypatch.context() as patched, only("ingest", "pca", "projection", "overcluster"):
        patched.setattr("workflow.steps.overcluster.draw_sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_run(tmp_path / "images.npy", out, client, **first)
    if lost == "a file":
        part_path(layout.step_folder(out, "overcluster") / "drawn", 2).unlink()
    with only("ingest", "pca", "projection", "overcluster"):
        make_run(tmp_path / "images.npy", out, client, **settings)
    store = RunStore.open(out)
    _, entries = Journal.read(out / "overcluster" / "drawn.jsonl")
    assert bool(entries) == (lost != "nothing")
    for rows in (stored_sample, stored_scores):
        left, right = (rows(s).read(0, 1000) for s in (store, whole))
        np.testing.assert_array_equal(left, right)
    assert not (out / "overcluster" / "drawn").exists()


def interrupted(*_):
    raise KeyboardInterrupt
