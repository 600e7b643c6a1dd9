"""A first run numbers clusters by falling number of images, ids stay after that, and every place agrees."""

from __future__ import annotations

import numpy as np
import pytest

import workflow
from tests.runs.helpers import labels_of
from tests.steps.test_labels import noisy_blobs
from workflow.runstore import RunStore
from workflow.steps.tree import cut_by_hand, ids_of_clusters, stored_tree
from workflow.tree import cut


@pytest.fixture(scope="module")
def run(client, tmp_path_factory):
    """Blobs of unequal width in noise: by their centroids they are in another order than by their images."""
    folder = tmp_path_factory.mktemp("numbers")
    points, source = noisy_blobs(n=16_000, n_clusters=15, n_features=6, noise=0.15, seed=4)
    width = np.linspace(0.5, 2.0, 15)[source][:, None]
    points += np.where(source[:, None] < 0, 0, width).astype(np.float32) * np.random.default_rng(
        0
    ).normal(0, 0.5, points.shape).astype(np.float32)
    np.save(folder / "points.npy", points)
    settings = {"block_rows": 2048, "neighbors.enabled": False}
    made = workflow.run(
        folder / "points.npy", folder / "run", client=client, settings=settings, progress=False
    )
    assert made.n_clusters > 8
    return made


def assert_agree(run):
    """Hold the ids against the images of each; return the tree of the cut, and the ids of its clusters."""
    store = RunStore.open(run.path)
    label = labels_of(store)["label"].values
    sizes = np.bincount(label[label >= 0])
    assert run.n_clusters == np.count_nonzero(sizes)
    np.testing.assert_array_equal(run.summary["cluster_sizes"], sizes)
    tree = cut_by_hand(stored_tree(store), store.manifest.cut.get("requested", {}))
    (of_centroid,) = store.read_model("centroid_label")
    ids = ids_of_clusters(tree, of_centroid)
    both = (tree.label >= 0) & (of_centroid >= 0)
    np.testing.assert_array_equal(ids[tree.label[both]], of_centroid[both])
    assert len(np.unique(ids)) == tree.n_clusters
    return tree, ids


def assert_falling(run):
    """Hold the ids of a first run against the number of images of each."""
    sizes = run.summary["cluster_sizes"]
    assert (np.diff(sizes) <= 0).all(), sizes
    tree, ids = assert_agree(run)
    assert ids.tolist() == list(range(tree.n_clusters))
    return tree


def most_shared(before, now):
    """Return the id that each cluster of now keeps, by the images of both."""
    return {
        int(c): int(b)
        for b in np.unique(before[before >= 0])
        for c in np.unique(now[(before == b) & (now >= 0)])
        if 2 * np.sum((before == b) & (now == c)) > max(np.sum(before == b), np.sum(now == c))
    }


def test_run__numbers_clusters_and_layers_by_their_images(run):
    store = RunStore.open(run.path)
    tree = assert_falling(run)
    by_centroids = np.bincount(tree.label[tree.label >= 0], tree.population[tree.label >= 0])
    assert (np.diff(by_centroids) > 0).any(), "the data must tell the two orders apart"
    assert any((layer == tree.label).all() for layer in tree.layers)
    with_images = run.predict(np.load(store.manifest.images["path"])).load()
    np.testing.assert_array_equal(with_images["label"], labels_of(store)["label"])


def test_run__says_of_each_cluster_what_is_known_of_it(run):
    """What the tree knows of a cluster goes with it to its new number."""
    tree = stored_tree(RunStore.open(run.path))
    own = cut(tree, min_cluster_size=tree.min_cluster_size)
    members = {tuple(np.flatnonzero(own.label == c)): c for c in range(own.n_clusters)}
    for cluster in range(tree.n_clusters):
        same = members[tuple(np.flatnonzero(tree.label == cluster))]
        assert tree.persistence[cluster] == own.persistence[same]
        assert tree.selected[cluster] == own.selected[same]
    assert run.summary["doubtful_clusters"] == np.flatnonzero(tree.certainty.is_doubtful).tolist()
    order = np.random.default_rng(0).permutation(tree.n_clusters)
    other = tree.renumbered(order)
    for new, old in enumerate(order):
        np.testing.assert_array_equal(other.label == new, tree.label == old)
        for name in ("recovery", "border"):
            mine, before = getattr(other.certainty, name), getattr(tree.certainty, name)
            assert mine[new] == before[old]
        assert order[other.certainty.nearest[new]] == tree.certainty.nearest[old]


@pytest.mark.parametrize("how", [{"n_clusters": 5}, {"min_cluster_size": 900}])
def test_recut__there_and_back_keeps_ids(run, how):
    before = labels_of(run)["label"].values
    run.recut(**how)
    assert_agree(run)
    there = labels_of(run)["label"].values
    kept = most_shared(before, there)
    assert kept
    for cluster in np.unique(there[there >= 0]).tolist():
        # New ids are those that no cluster has had.
        assert cluster == kept.get(cluster, cluster)
        assert cluster in kept or cluster > before.max()
    run.recut(configured=True)
    assert_falling(run)
    np.testing.assert_array_equal(labels_of(run)["label"].values, before)
    run.recut(**how)
    np.testing.assert_array_equal(labels_of(run)["label"].values, there)
    run.recut(configured=True)


def test_recut__to_a_layer_gives_the_clusters_of_the_layer(run):
    layers = stored_tree(RunStore.open(run.path)).layers
    for number, layer in enumerate(layers):
        run.recut(layer=number)
        tree, _ = assert_agree(run)
        pairs = np.unique(np.column_stack([tree.label, layer]), axis=0)
        assert len(pairs) == len(np.unique(layer)) == len(np.unique(tree.label))
    run.recut(configured=True)


@pytest.mark.parametrize(
    "settings", [{"labels.noise": "resolve"}, {"labels.max_outlier_score": "off"}]
)
def test_run__again_with_other_settings_keeps_ids(run, client, settings):
    path, before = RunStore.open(run.path).manifest.images["path"], labels_of(run)["label"].values
    again = workflow.run(path, run.path, client=client, settings=settings, progress=False)
    assert_agree(again)
    kept = most_shared(before, labels_of(again)["label"].values)
    assert kept == {cluster: cluster for cluster in range(run.n_clusters)}
