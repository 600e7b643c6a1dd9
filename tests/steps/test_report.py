"""The page of a run: it says what the run folder holds, and nothing that is not known."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.runs.helpers import copy_of, labels_of, lean_run, make_run
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.engine.summary import read_summary
from workflow.errors import StoreError
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import open_images
from workflow.steps import STEPS, projection
from workflow.steps.browsing.explorer_data import flows_between
from workflow.steps.report import ContactSheets, clusters_by_threshold, tell_times
from workflow.steps.tree import stored_tree
from workflow.tree import DEFAULT_RATIO


@pytest.fixture(scope="module")
def finished(client, tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("page")
    np.save(folder / "images.npy", pictures[0])
    return make_run(folder / "images.npy", folder / "run", client)


def table_of(page):
    """Return the rows of the table of clusters, head first."""
    text = page[page.index("Every cluster") :]
    rows = text[: text.index("</table>")].split("<tr>")[1:]
    return [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_page__holds_what_the_tree_and_the_summary_hold(finished):
    page = (finished.path / "report.html").read_text()
    summary, tree = read_summary(finished), stored_tree(finished)
    assert f"<h1>{summary['n_clusters']} clusters in 4,000 images</h1>" in page
    assert f"Method: {summary['tree_method']}" in page
    assert summary["tree_reason"] in page
    low, high = summary["n_clusters_interval"]
    assert (f"Likely {low} to {high} clusters" if low < high else "the same number") in page
    head, *rows = table_of(page)
    certainty = tree.certainty
    assert len(rows) == tree.n_clusters
    for row in rows:
        cells, cluster = dict(zip(head, row, strict=True)), int(row[0].partition("<")[0])
        assert int(cells["images"].replace(",", "")) == summary["cluster_sizes"][cluster]
        assert int(cells["nearest"]) == certainty.nearest[cluster]
        assert float(cells["border"]) == pytest.approx(certainty.border[cluster], abs=0.0051)
        share = float(cells["found again"].rstrip(" %"))
        assert share == pytest.approx(100 * certainty.recovery[cluster], abs=0.05)
        assert (cells["remark"] == "doubtful") == (cluster in summary["doubtful_clusters"])
    assert page.count('class="mark"') == len(summary["doubtful_clusters"])


@pytest.mark.parametrize(
    ("method", "found", "chosen", "plateau"),
    [
        ("contrast", 8, DEFAULT_RATIO, (DEFAULT_RATIO, 0.9)),
        # The test found twelve, which were not believed.
        ("contrast", 12, None, None),
        ("density", 8, None, None),
    ],
)
def test_ladder__only_where_it_made_the_clusters(finished, method, found, chosen, plateau):
    steps = np.array([[0.5, 1], [0.8, 6], [DEFAULT_RATIO, found], [0.9, found], [0.95, 13]])
    tree = replace(stored_tree(finished), method=method, n_clusters_by_threshold=steps)
    assert tree.n_clusters == 8
    ladder = clusters_by_threshold(finished, tree)
    if chosen is None:
        assert ladder is None
        return
    np.testing.assert_array_equal(ladder.threshold, steps[:, 0])
    np.testing.assert_array_equal(ladder.n_clusters, steps[:, 1])
    assert (ladder.chosen, ladder.plateau) == (chosen, plateau)
    assert (
        clusters_by_threshold(finished, replace(tree, n_clusters_by_threshold=np.empty((0, 2))))
        is None
    )


def test_page__written_again_is_the_same(finished):
    page, store = finished.path / "report.html", RunStore.open(finished.path)
    # 2.0 s, but 1.9 s of 1.95.
    store.step("report").seconds = 1.9500004
    tell_times(STEPS, store)
    first = page.read_text()
    assert "compute.threads_per_worker" in first
    for other in ("compute.queue", "compute.ssh_port", "compute.tls_key"):
        assert other not in first, "they count elsewhere"
    report(finished.path)
    assert page.read_text() == first


def test_page__of_another_cut_claims_no_certainty(finished, client):
    recut(finished.path, n_clusters=3)
    page = (finished.path / "report.html").read_text()
    assert report(finished.path).read_text() == page
    store = RunStore.open(finished.path)
    assert read_summary(store)["n_clusters"] == 3
    assert "<h1>4,000 images divided into 3 clusters, as requested</h1>" in page
    # Said once, in words.
    assert page.count("a partition that you asked for (3 clusters requested)") == 1
    assert "separate groups: between" not in page
    assert "{&#39;n_clusters" not in page
    # What the script and its form say holds for every run.
    page = re.sub(
        r'<section class="explore".*?</section>|<script.*?</script>', "", page, flags=re.DOTALL
    )
    assert "doubtful" not in page.replace("doubtful clusters", "")
    assert "redrawn" not in page
    assert "was used" not in page
    head, *rows = table_of(page)
    assert head == ["cluster", "images", "share", "centroids"]
    sizes = [int(row[1].replace(",", "")) for row in rows]
    assert sizes == sorted(filter(None, read_summary(store)["cluster_sizes"]), reverse=True)


@pytest.fixture(scope="module")
def few_kept(pictures, client, tmp_path_factory):
    """A run that keeps few pictures, so that some clusters have less than they show."""
    folder = tmp_path_factory.mktemp("few")
    np.save(folder / "images.npy", pictures[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "n_previews", lambda *_: 90)
        return lean_run(folder / "images.npy", folder / "run", client)


@pytest.mark.parametrize("with_images", [True, False])
def test_sheets__show_what_a_search_through_everything_finds(few_kept, pictures, with_images):
    store = few_kept
    images = open_images(store.manifest.images["path"]) if with_images else None
    summary, labels = read_summary(store), labels_of(store)
    sheets = ContactSheets(store, images, summary, n_clusters=6, n_images=20)
    parts = [np.load(part) for part in sorted((store.path / "projection/kept").glob("*.npz"))]
    kept = np.concatenate([part["row"] for part in parts])
    assert len(kept) == 90 < len(pictures[0])
    exemplar, of_centroid = store.read_model("exemplar", "centroid_label")
    n_fetched = 0
    for cluster, sheet in enumerate(sheets[:6]):
        members = kept[labels["label"].values[kept] == cluster]
        ranked = members[np.argsort(labels["distance"].values[members], kind="stable")]
        rows = ranked[np.linspace(0, len(ranked) - 1, min(20, len(ranked))).astype(int)]
        if with_images:
            near = np.unique(exemplar[of_centroid == cluster])
            near = near[near >= 0][: 20 - len(rows)]
            rows, n_fetched = np.concatenate([rows, near]), n_fetched + len(near)
        np.testing.assert_array_equal(sheet.images, pictures[0][rows])
        assert (sheet.kind, sheet.cluster) == ("cluster", cluster)
    assert (n_fetched > 0) == with_images
    rows = np.arange(4000) if with_images else kept
    ranked = rows[np.argsort(-labels["outlier_score"].values[rows], kind="stable")]
    first = np.unique(labels["centroid"].values[ranked], return_index=True)[1]
    odd = pictures[0][ranked[np.sort(first)[:48]]]
    shown = [sheet for sheet in sheets if sheet.kind == "outliers"]
    assert shown[0].title == "Strongest outliers"
    both = np.concatenate([sheet.images for sheet in shown])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in odd)
    noise = [sheet for sheet in sheets if sheet.kind == "noise"]
    assert len(noise) == bool((labels["label"].values[kept] < 0).any())


def test_sheets__of_a_damaged_file_of_pictures_are_refused(few_kept, tmp_path):
    store = copy_of(few_kept, tmp_path / "run")
    part = next((store.path / "projection/kept").glob("*.npz"))
    content = bytearray(part.read_bytes())
    content[300] ^= 1
    part.write_bytes(content)
    with pytest.raises(StoreError, match="must be as it was written; its checksum differs"):
        ContactSheets(store, None, read_summary(store), n_clusters=3, n_images=3)


def explorer_of(store):
    """Return the JSON of a page, its arrays unpacked."""
    text = (store.path / "report.html").read_text()
    found = re.search(r'<script type="application/json" id="explorer-data">(.*?)</script>', text)

    def unpack(value):
        if set(value) != {"type", "bytes"}:
            return value
        return np.frombuffer(base64.b64decode(value["bytes"]), f"<{value['type']}")

    return json.loads(found[1], object_hook=unpack)


def test_map__shows_the_images_that_the_labels_tell_of(finished, pictures):
    report(finished.path)
    values, labels = explorer_of(finished), labels_of(finished)
    points, summary = values["points"], read_summary(finished)
    assert sorted(points["index"].tolist()) == list(range(4_000))
    own = labels.isel(sample=points["index"])
    for name, stored in (("cluster", "label"), ("centroid", "centroid"), ("family", "family")):
        np.testing.assert_array_equal(points[name], own[stored])
    np.testing.assert_allclose(points["strength"] / 255, own["strength"], atol=0.5 / 255)
    assert values["clusters"]["size"].tolist() == summary["cluster_sizes"]
    # The pictures are those of the first images: each source is a picture with noise.
    sprite = values["sprite"]
    sheet = Image.open(io.BytesIO(base64.b64decode(sprite["png"].split(",")[1])))
    tiles = np.asarray(sheet).reshape(-1, sprite["height"], sprite["columns"], sprite["width"], 3)
    tiles = tiles.swapaxes(1, 2).reshape(-1, *pictures[0].shape[1:])
    np.testing.assert_array_equal(tiles[: sprite["n"]], pictures[0][points["index"][: sprite["n"]]])
    # The strongest of each cluster come first.
    first = own.isel(sample=slice(summary["n_clusters"]))
    assert sorted(first["label"].values) == np.flatnonzero(summary["cluster_sizes"]).tolist()


def test_map__neighbours_are_those_with_the_most_images_between(finished):
    label, *graph = finished.read_model(
        "centroid_label", "graph_indptr", "graph_indices", "graph_weights_three"
    )
    indptr, indices, weights = graph
    n_ids = int(label.max()) + 1
    between = np.zeros((n_ids, n_ids), np.int64)
    for one in range(len(label)):
        for edge in range(indptr[one], indptr[one + 1]):
            pair = label[one], label[indices[edge]]
            if min(pair) >= 0 and pair[0] != pair[1]:
                between[pair] += int(weights[edge])
    neighbors, flow = flows_between(*graph, label=label, n=3)
    for cluster in range(n_ids):
        order = np.argsort(-between[cluster], kind="stable")[:3]
        order = order[between[cluster][order] > 0]
        assert neighbors[cluster][: len(order)].tolist() == order.tolist()
        assert (neighbors[cluster][len(order) :] == -1).all()
        assert flow[cluster][: len(order)].tolist() == between[cluster][order].tolist()
