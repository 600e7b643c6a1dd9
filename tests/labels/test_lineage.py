"""Ids that stay, against the assignment of largest total Jaccard index and plain sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from workflow.labels import (
    CHANGES,
    count_changes,
    count_overlap,
    find_changes,
    kept_ids,
    new_ids,
    overlap_of,
)


def drifted(rng, n=4000, n_before=12, share=0.25):
    """Labels before and now, with gaps and noise: some images went elsewhere, two clusters joined, one parted."""
    before = rng.integers(-1, n_before, n)
    now = np.where(rng.random(n) < share, rng.integers(-1, n_before, n), before)
    now[(now == 3) | (now == 4)] = 3
    now[(now == 5) & (rng.random(n) < 0.5)] = n_before
    now = np.unique(now, return_inverse=True)[1] - 1
    return np.where(before < 0, -1, 3 * before + 2).astype(np.int32), now.astype(np.int32)


def members(label):
    """The images of each cluster."""
    return {int(c): set(np.flatnonzero(label == c).tolist()) for c in np.unique(label) if c >= 0}


@pytest.mark.parametrize("seed", range(8))
def test_kept_ids__are_the_assignment_of_largest_jaccard(seed):
    rng = np.random.default_rng(seed)
    before, now = drifted(rng, share=rng.uniform(0, 0.9))
    old, new = members(before), members(now)
    jaccard = np.zeros((len(old), len(new)))
    for i, a in enumerate(old.values()):
        for j, b in enumerate(new.values()):
            shared = len(a & b)
            if 2 * shared > len(a) and 2 * shared > len(b):
                jaccard[i, j] = shared / len(a | b)
    expected = np.full(len(new), -1)
    for i, j in zip(*linear_sum_assignment(jaccard, maximize=True), strict=True):
        if jaccard[i, j] > 0:
            expected[j] = list(old)[i]
    found = kept_ids(count_overlap([(before, now)]), len(new))
    assert found.tolist() == expected.tolist()
    assert len(set(found[found >= 0])) == np.count_nonzero(found >= 0)


def test_count_overlap__is_the_same_for_any_blocks_and_ways_to_count(monkeypatch):
    before, now = drifted(np.random.default_rng(0))
    whole = count_overlap([(before, now)])
    cuts = [0, 1, 7, 2000, 2000, 3999, 4000]
    blocks = [(before[a:b], now[a:b].astype(np.int64)) for a, b in itertools.pairwise(cuts)]
    monkeypatch.setattr("workflow.labels.lineage.MAX_DENSE", 0)
    sparse = count_overlap(blocks)
    expected = overlap_of(before, now, np.ones(len(now), np.int64))
    for one, other, third in zip(whole, sparse, expected, strict=True):
        assert one.tolist() == other.tolist() == third.tolist()
    assert whole.images.sum() == len(now)
    large = overlap_of([2**31 - 2, 0], [0, 2**31 - 2], [5, 6])
    assert large.before.tolist() == [0, 2**31 - 2]
    assert large.now.tolist() == [2**31 - 2, 0]


def test_new_ids__come_back_are_never_given_twice_and_count_on():
    first = np.repeat([0, 1, 2, 3], 10)
    joined = np.repeat([0, 0, 1, 1], 10)
    ids = new_ids(count_overlap([(first, joined)]), 2, next_id=4)
    # Half is not more than half.
    assert ids.tolist() == [4, 5]
    present = np.array([4, 5])[joined]
    to_joined, to_first = (count_overlap([(one, first)]) for one in (present, first))
    assert new_ids(to_joined, 4, next_id=6).tolist() == [6, 7, 8, 9]
    assert new_ids(to_joined, 4, 6, [to_first]).tolist() == [0, 1, 2, 3]
    # An id that a present cluster keeps does not come back as well.
    shrunk = np.where(np.arange(40) < 6, 0, -1)
    parts = np.where(np.arange(40) < 6, 0, np.where(np.arange(40) < 10, 1, -1))
    overlap = count_overlap([(shrunk, parts)])
    assert new_ids(overlap, 2, 6, [count_overlap([(first, parts)])]).tolist() == [0, 6]


@pytest.mark.parametrize("seed", range(4))
def test_find_changes__are_those_of_plain_sets(seed):
    rng = np.random.default_rng(seed)
    before, now = drifted(rng, share=rng.uniform(0, 0.5))
    overlap = count_overlap([(before, now)])
    old, new = members(before), members(now)
    ids = new_ids(overlap, len(new), next_id=100)
    went = {a: [j for j, b in new.items() if 2 * len(s & b) > len(s)] for a, s in old.items()}
    came = {j: [a for a, s in old.items() if 2 * len(s & b) > len(b)] for j, b in new.items()}
    rows = set()
    for j, b in new.items():
        sources = [a for a in old if j in went[a]]
        parts = [k for k in new if came[j] and came[k] == came[j]]
        if len(sources) > 1:
            rows |= {("merged", ids[j], a, len(b), len(old[a])) for a in sources}
        elif len(parts) > 1:
            rows.add(("split", ids[j], came[j][0], len(b), len(old[came[j][0]])))
        elif ids[j] >= 100:
            rows.add(("born", ids[j], -1, len(b), 0))
        elif len(b) != len(old[ids[j]]):
            change = "grew" if len(b) > len(old[ids[j]]) else "shrank"
            rows.add((change, ids[j], ids[j], len(b), len(old[ids[j]])))
    told = {a for _, _, a, _, _ in rows} | set(ids.tolist())
    rows |= {("gone", -1, a, 0, len(s)) for a, s in old.items() if a not in told}
    changes = find_changes(overlap, ids)
    found = list(zip(*(column.tolist() for column in changes), strict=True))
    assert {(CHANGES[change], *rest) for change, *rest in found} == rows
    assert len(found) == len(rows)
    counts = count_changes(changes, len(old), len(new))
    parts = ("kept", "merged", "split_into", "born")
    assert sum(counts[name] for name in parts) == counts["n_clusters"] == len(new)
    for name in ("grew", "shrank", "born", "gone"):
        assert counts[name] == sum(row[0] == name for row in rows)


def test_find_changes__count_new_images_only_where_they_came():
    old = np.repeat([5, 8], [30, 20])
    ids = kept_ids(count_overlap([(old, np.repeat([1, 0], [30, 20]))]), 2)
    overlap = count_overlap([(old, np.repeat([1, 0], [30, 20]))])
    changes = find_changes(overlap, ids, sizes=np.array([20, 37]))
    assert [CHANGES[change] for change in changes.change] == ["grew"]
    assert (changes.cluster[0], changes.n_before[0], changes.n_images[0]) == (5, 30, 37)
