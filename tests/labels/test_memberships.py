"""Shares of a row among clusters and noise, against a plain loop, and what must always hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.labels import (
    MAX_OUTLIER_SCORE,
    N_TOP,
    CentroidLabels,
    label_rows,
    top_memberships,
)


def shared(nearest, q, labels, *, is_noise, limit):
    """Share one row, as the documentation says: (cluster, share) by falling share."""
    known = [
        (int(labels.label_resolved[c]), float(d) + float(labels.offset_sq[c]))
        for c, d in zip(nearest, q, strict=True)
        if c >= 0
    ][:3]
    own = known[0][1]
    far = {}
    for cluster, d in known:
        if cluster >= 0:
            far[cluster] = max(min(far.get(cluster, np.inf), d), own)
    # Weights in units of the first, 1 where both are 0.
    weights = {c: 1.0 if d == own else own / d for c, d in far.items()}
    limit = float(np.float32(min(limit, 0.7) if labels.label[nearest[0]] < 0 else limit))
    constant = float(labels.radius_sq[nearest[0]]) * (limit / (1 - limit))
    noise = own / constant if constant else (np.inf if own else 0.0)
    noise = max(noise, 1 + 2.0**-20) if is_noise else min(noise, 1 - 2.0**-20)
    total = sum(weights.values()) + noise
    return sorted(((c, w / total) for c, w in weights.items()), key=lambda item: -item[1])


def drawn(seed, n=60, n_centroids=7, n_nearest=3):
    """Random rows with ties, coincident centroids, missing ones, no radius, and every kind of label."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4)
    lowest, highest = [(-1, 3), (-1, 1), (0, 3), (-1, 0)][kind]
    label = rng.integers(lowest, highest, n_centroids).astype(np.int32)
    clusters = label[label >= 0]
    if clusters.size:
        resolved = np.where(label < 0, rng.choice(clusters, n_centroids), label)
    else:
        resolved = label
    radius_sq = rng.choice([0.0, 1.0, 10.0 ** rng.uniform(-3, 3)], n_centroids)
    offset_sq = np.where(label < 0, rng.choice([0.0, 0.5, 20.0], n_centroids), 0.0)
    labels = CentroidLabels(
        label,
        resolved.astype(np.int32),
        np.where(label < 0, 0.0, rng.random(n_centroids)).astype(np.float32),
        radius_sq.astype(np.float32),
        offset_sq.astype(np.float32),
    )
    nearest = rng.permuted(np.tile(np.arange(n_centroids), (n, 1)), axis=1)[:, :n_nearest]
    q = np.sort(10.0 ** rng.uniform(-3, 3, (n, n_nearest)), axis=1)
    q[:10] = np.sort(rng.integers(0, 3, (10, n_nearest)), axis=1)
    q[10:15] = np.sort(10.0 ** rng.uniform(-38, 38, (5, n_nearest)), axis=1)
    # Right at the limit, and all three equally far.
    q[15:20] = (3 * labels.radius_sq - labels.offset_sq).clip(0)[nearest[15:20, :1]]
    nearest, q = nearest.astype(np.int32), q.astype(np.float32)
    for row, n_known in ((20, 1), (21, 2)):
        nearest[row, n_known:], q[row, n_known:] = -1, np.inf
    return nearest, q, labels


MODES = [("keep", 0.75), ("keep", 0.5), ("keep", 0.999), ("keep", None), ("resolve", 0.75)]


@settings(max_examples=60)
@given(st.integers(0, 100_000), st.sampled_from([0.5, 0.75, 0.9]))
def test_top_memberships__equal_a_loop(seed, limit):
    nearest, q, labels = drawn(seed)
    is_noise = np.random.default_rng(seed).random(len(nearest)) < 0.5
    is_noise |= labels.label_resolved[nearest[:, 0]] < 0
    clusters, shares = top_memberships(nearest, q, labels, is_noise, max_outlier_score=limit)
    for i in range(len(nearest)):
        expected = shared(nearest[i], q[i], labels, is_noise=is_noise[i], limit=limit)
        listed = clusters[i][clusters[i] >= 0]
        assert listed.tolist()[:1] == [c for c, _ in expected][:1]
        assert sorted(listed) == sorted(c for c, _ in expected)
        np.testing.assert_allclose(
            shares[i, : len(expected)], [share for _, share in expected], rtol=1e-6, atol=1e-30
        )
        for cluster, share in expected:
            assert shares[i][clusters[i] == cluster] == pytest.approx(share, rel=1e-6, abs=1e-30)


@settings(max_examples=200)
@given(st.integers(0, 100_000), st.sampled_from(MODES))
def test_label_rows__the_largest_share_is_that_of_the_label(seed, mode):
    noise, limit = mode
    nearest, q, labels = drawn(seed)
    rows = label_rows(nearest, q, labels, noise=noise, max_outlier_score=limit)
    clusters, shares = rows.top_label, rows.top_membership
    assert clusters.shape == shares.shape == (len(nearest), N_TOP)
    assert (clusters.dtype, shares.dtype) == (np.int32, np.float32)
    exact = shares.astype(np.float64)
    noise_share = 1 - exact.sum(axis=1)
    assert (exact >= 0).all()
    assert (noise_share >= 0).all(), "the sum is at most 1, not only nearly"
    assert (np.diff(exact, axis=1) <= 0).all(), "by falling share"
    assert (shares[clusters < 0] == 0).all()
    assert (np.diff((clusters < 0).astype(int), axis=1) >= 0).all(), "what is missing comes last"
    np.testing.assert_array_equal(clusters[:, 0], rows.label_resolved)
    is_noise = rows.label < 0
    np.testing.assert_array_equal(rows.label[~is_noise], rows.label_resolved[~is_noise])
    assert (noise_share[is_noise] > exact[is_noise, 0]).all()
    assert (noise_share[~is_noise] < exact[~is_noise, 0]).all()
    assert (rows.strength[is_noise] == 0).all()
    for listed in clusters:
        kept = listed[listed >= 0]
        assert len(set(kept)) == len(kept)


@given(st.integers(0, 100_000))
def test_label_rows__where_the_score_decides_nothing_is_held_back(seed):
    """The bounds on the share of noise say only what its distance says already."""
    nearest, q, labels = drawn(seed)
    rows = label_rows(nearest, q, labels)
    if not labels.has_noise:
        return
    own = q[:, 0].astype(np.float64) + labels.offset_sq[nearest[:, 0]]
    radii = np.where(labels.label[nearest[:, 0]] < 0, 7 / 3, 4)
    constant = radii * labels.radius_sq[nearest[:, 0]].astype(np.float64)
    clear = np.abs(own - constant) > 1e-5 * constant
    np.testing.assert_array_equal((rows.label < 0)[clear], (own > constant)[clear])


def plain(label, radius_sq=1.0):
    """Labelled centroids of one radius."""
    label = np.array(label, np.int32)
    one = np.ones(len(label), np.float32)
    return CentroidLabels(label, label, one, one * np.float32(radius_sq), 0 * one)


def dense_along(line, centroids, labels):
    """Return the order of the centroids, and the share of each of two clusters, along a line."""
    squared = np.square(line[:, None] - centroids).sum(axis=2)
    order = np.argsort(squared, axis=1, kind="stable")
    rows = label_rows(order, np.take_along_axis(squared, order, axis=1), labels)
    dense = np.zeros((len(line), 2))
    for rank in range(N_TOP):
        listed = np.flatnonzero(rows.top_label[:, rank] >= 0)
        dense[listed, rows.top_label[listed, rank]] = rows.top_membership[listed, rank]
    return order[:, 0], dense


@pytest.mark.parametrize("radii", [[1.0, 1.0, 1.0], [0.5, 2.0, 1.0]])
def test_top_memberships__do_not_jump_at_a_border(radii):
    """Along a line past three labelled centroids: two of one cluster, one of another."""
    centroids = np.array([[0.0, 1.0], [2.0, 0.5], [4.0, 0.5]])
    labels = plain([0, 1, 1])
    labels = CentroidLabels(
        labels.label, labels.label, labels.membership, np.array(radii, np.float32), labels.offset_sq
    )
    line = np.stack([np.linspace(-1, 5, 6001), np.zeros(6001)], axis=1)
    nearest, dense = dense_along(line, centroids, labels)
    assert len(set(nearest.tolist())) == 3, "the line crosses two borders"
    if len(set(radii)) == 1:
        assert np.abs(np.diff(dense, axis=0)).max() < 5e-3
    # Whatever the radii, clusters keep their proportions.
    assert np.abs(np.diff(dense[:, 0] / dense.sum(axis=1))).max() < 5e-3


def test_top_memberships__more_centroids_do_not_make_a_cluster_nearer():
    nearest, q = np.array([[0, 1, 2]]), np.array([[1.0, 1.25, 1.25]])
    clusters, shares = top_memberships(nearest, q, plain([0, 1, 1]), np.array([False]))
    assert clusters.tolist() == [[0, 1, -1]]
    weight = np.array([1, 1 / 1.25, 1 / 4])
    np.testing.assert_allclose(shares[0, :2], weight[:2] / weight.sum(), rtol=1e-6)


def test_top_memberships__are_never_nearer_than_the_own_cluster():
    """A noise centroid is nearest; with its offset, its cluster is farther than the others."""
    labels = plain([0, 1, 2])
    offset = np.array([4.0, 0.0, 0.0], np.float32)
    labels = CentroidLabels(
        np.array([-1, 1, 2], np.int32), labels.label, labels.membership, labels.radius_sq, offset
    )
    nearest, q = np.array([[0, 1, 2]]), np.array([[1.0, 2.0, 10.0]])
    rows = label_rows(nearest, q, labels)
    # 1 + 4 for the first, so no less for the second; noise at 7 / 3.
    assert rows.label.tolist() == [-1]
    assert rows.top_label.tolist() == [[0, 1, 2]]
    weight = np.array([1 / 5, 1 / 5, 1 / 10, 3 / 7])
    np.testing.assert_allclose(rows.top_membership[0], weight[:3] / weight.sum(), rtol=1e-6)


def test_top_memberships__an_offset_changes_the_order_of_the_others():
    labels = plain([0, 1, 2])
    offset = np.array([0.0, 9.0, 0.0], np.float32)
    labels = CentroidLabels(
        np.array([0, -1, 2], np.int32), labels.label, labels.membership, labels.radius_sq, offset
    )
    found = top_memberships(
        np.array([[0, 1, 2]]), np.array([[1.0, 1.5, 2.0]]), labels, np.array([False])
    )
    assert found[0].tolist() == [[0, 2, 1]]


def test_top_memberships__of_a_row_on_its_centroid():
    no = np.array([False])
    for radius_sq in (0.0, 1.0):
        labels = plain([0, 1, 2], radius_sq)
        for q, expected in (
            ([0.0, 1.0, 2.0], [1, 0, 0]),
            ([0.0, 0.0, 2.0], [0.5, 0.5, 0]),
            ([0.0, 0.0, 0.0], np.full(3, 1 / 3)),
        ):
            found = top_memberships(np.array([[0, 1, 2]]), np.array([q], np.float32), labels, no)
            np.testing.assert_allclose(found[1][0], expected, rtol=1e-6)
    # A cluster without extent, and a row beside it: noise, as its score says.
    rows = label_rows(
        np.array([[0, 1]]),
        np.array([[1.0, 4.0]]),
        CentroidLabels(
            np.array([0, -1], np.int32), np.zeros(2, np.int32), *np.zeros((3, 2), np.float32)
        ),
    )
    assert rows.label.tolist() == [-1]
    assert rows.top_label.tolist() == [[0, -1, -1]]
    assert rows.top_membership.tolist() == [[0, 0, 0]]


def test_top_memberships__do_not_depend_on_the_other_rows():
    nearest, q, labels = drawn(0)
    is_noise = np.arange(len(nearest)) % 3 == 0
    limit = MAX_OUTLIER_SCORE
    whole = top_memberships(nearest, q, labels, is_noise, max_outlier_score=limit)
    for few in (slice(0, 1), slice(7, 40), slice(0, 0)):
        part = top_memberships(nearest[few], q[few], labels, is_noise[few], max_outlier_score=limit)
        for one, other in zip(whole, part, strict=True):
            np.testing.assert_array_equal(one[few], other)
