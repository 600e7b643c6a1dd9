"""What steps count is what they read and write: the pixels twice, the scores once out and twice in."""

from __future__ import annotations

import re
import threading
from collections import Counter

import numpy as np
import pytest
from distributed import Client, LocalCluster

from tests.runs.helpers import make_run
from workflow.runstore import layout, zarr_io
from workflow.runstore.image_store import ImageStore
from workflow.steps.browsing.odd_images import MAX_COMPARED
from workflow.steps.report import N_ODD

BLOCK = 512


class Watch:
    """Notes every read and write of rows, by what is read and which rows."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reads, self.writes = Counter(), Counter()

    def note(self, counter, what, start, stop):
        with self.lock:
            for row in range(start, stop):
                counter[what, row] += 1

    def times(self, counter, what):
        """Return how often each row of something was touched."""
        return {number for (name, _), number in counter.items() if name == what}


@pytest.fixture(scope="module", params=["float32", "uint8"])
def watched(tmp_path_factory, pictures, request):
    """A run in threads of this process, and what it read and wrote."""
    folder = tmp_path_factory.mktemp("counters")
    np.save(folder / "images.npy", pictures[0].astype(request.param))
    watch = Watch()
    read_image, read_rows = ImageStore.read, zarr_io.StoredRows.read
    append = zarr_io.RowsWriter.append

    def image(self, start, stop):
        watch.note(watch.reads, "images", start, stop)
        return read_image(self, start, stop)

    def rows(self, start, stop):
        watch.note(watch.reads, self.name, start, stop)
        return read_rows(self, start, stop)

    def written(self, block):
        watch.note(watch.writes, self.folder.name, self.next_row, self.next_row + len(block))
        return append(self, block)

    with (
        pytest.MonkeyPatch.context() as patch,
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        patch.setattr(ImageStore, "read", image)
        patch.setattr(zarr_io.StoredRows, "read", rows)
        patch.setattr(zarr_io.RowsWriter, "append", written)
        # Without sheets no single picture is fetched for the page.
        settings = {"report.n_clusters_shown": 0, "block_rows": BLOCK}
        # Neighbours and the map read the scores, too.
        settings |= {"neighbors.enabled": False, "map.enabled": False}
        store = make_run(folder / "images.npy", folder / "run", client, **settings)
    return store, watch


def test_pixels__are_read_twice(watched):
    """Once for the moments, once for the scores."""
    store, watch = watched
    images = zarr_io.open_images(store.manifest.images["path"])
    times = np.array([watch.reads["images", row] for row in range(images.n_samples)])
    np.testing.assert_array_equal(times, 2)
    image_bytes = images.n_features * images.dtype.itemsize
    steps = store.manifest.steps
    assert steps["pca"].counters["bytes_read"] == images.n_samples * image_bytes
    assert steps["projection"].counters["bytes_read"] == images.n_samples * image_bytes


def test_scores__are_written_once_and_read_once(watched):
    """By the last pass; the sample is drawn while they are made, and the rounds read it."""
    store, watch = watched
    assert watch.times(watch.writes, "scores") == {1}
    scores = zarr_io.StoredRows.open(store.path / "projection" / "scores.zarr", "scores")
    times = np.array([watch.reads["scores", row] for row in range(scores.n_samples)])
    # The page looks again at its outliers and at some around each.
    assert times.min() == 1
    assert np.count_nonzero(times > 1) <= N_ODD * (MAX_COMPARED + 1)
    n_bytes = 4 * scores.n_samples * scores.n_features
    kept = sum(f.stat().st_size for f in (store.path / "projection" / "kept").iterdir())
    counted = store.manifest.steps["projection"].counters
    drawn = counted["bytes_written"] - n_bytes - kept
    sample_bytes = zarr_io.read_array(layout.sample(store.path), "sample").nbytes
    assert sample_bytes < drawn < 1.1 * sample_bytes
    assert watch.times(watch.writes, "nearest") == {1}
    assert watch.times(watch.writes, "label") == {1}
    labels = store.manifest.steps["labels"].counters
    assert (labels["bytes_read"], labels["bytes_written"]) == (
        24 * scores.n_samples,
        52 * scores.n_samples,
    )


def test_page__shows_what_was_counted(watched):
    store, _ = watched
    page = (store.path / "report.html").read_text()
    text = page[page.index("<h2>Steps") :]
    rows = text[: text.index("</table>")].split("<tr>")[1:]
    head, *body = [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert head[-3:] == ["read", "written", "memory"]
    shown = {row[0]: dict(zip(head, row, strict=True)) for row in body}
    assert shown["pca"]["read"] != ""
    assert shown["projection"]["written"] != ""
    # What is not counted is not called zero.
    assert shown["tree"]["read"] == ""
    # Not known of the step that writes the page.
    assert {name for name, row in shown.items() if not row["memory"]} == {"start", "report"}
