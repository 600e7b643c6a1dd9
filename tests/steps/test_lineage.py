"""Ids over many labellings: on the same centroids, on others, and where images came to a run."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.labels import count_overlap
from workflow.labels.lineage import overlap_of
from workflow.steps.parts.clusters.lineage import COLUMNS, MAX_STATES, Lineage
from workflow.steps.parts.clusters.ties import Ties

NOTHING = Lineage(np.empty((0, 0), np.int32), 0, np.empty((0, len(COLUMNS)), np.int64), [])


def numbers_of(label):
    """Labels as they come: numbered from 0 without gaps, by falling number of centroids."""
    clusters, counts = np.unique(label[label >= 0], return_counts=True)
    number = {-1: -1} | {c: n for n, c in enumerate(clusters[np.argsort(-counts, kind="stable")])}
    return np.array([number[c] for c in label], np.int32)


@pytest.mark.parametrize("seed", range(3))
def test_follow__gives_any_labelling_that_was_there_its_ids_again(seed):
    rng = np.random.default_rng(seed)
    ties = Ties.same(rng.integers(1, 100, 60))
    labellings = [numbers_of(rng.integers(-1, k, 60)) for k in (3, 9, 5, 14, 2)]
    lineage, ids = NOTHING, {}
    seen = set()
    for turn in rng.integers(0, len(labellings), 40).tolist():
        next_id = lineage.next_id
        found, lineage = lineage.follow(labellings[turn], ties, done="cut", of="key")
        assert len(set(found.tolist())) == len(found)
        assert ids.setdefault(turn, found.tolist()) == found.tolist()
        assert set(found[~np.isin(found, list(seen))]) <= set(range(next_id, lineage.next_id))
        seen |= set(found.tolist())
        np.testing.assert_array_equal(lineage.states[-1], np.append(found, -1)[labellings[turn]])
    assert len(lineage.states) == len(ids)
    one, after = lineage.follow(np.zeros(60, np.int32), ties, done="cut", of="key")
    assert one.tolist() == [0]
    assert after.records == lineage.records


def test_follow__forgets_the_earliest_labellings_and_gives_no_id_twice(monkeypatch):
    monkeypatch.setattr("workflow.steps.parts.clusters.lineage.MAX_STATES", 3)
    assert MAX_STATES > 3
    rng, lineage, given = np.random.default_rng(0), NOTHING, []
    ties = Ties.same(np.ones(200, np.int64))
    for _ in range(8):
        label = numbers_of(rng.integers(0, 6, 200))
        ids, lineage = lineage.follow(label, ties, done="cut", of="key")
        given += ids.tolist()
    # Random labellings share little: every id is a new one.
    assert given == list(range(48))
    assert len(lineage.states) == len(lineage.records) == 3
    assert set(lineage.rows[:, 0]) == {5, 6, 7}


def test_follow__goes_by_the_images_that_were_there_however_many_have_come():
    source = np.repeat([0, 1, 2, 3], [100, 60, 40, 900])
    old = np.where(source < 3, source, -1)
    _, lineage = NOTHING.follow(
        np.arange(3, dtype=np.int32), Ties.same(np.bincount(source[:200])), done="run", of="a"
    )
    # Two clusters grow to ten times what they were, another one is new; the order is another one, too.
    now = np.concatenate([source[:200], np.repeat([0, 1, 3], 300)])
    ties = Ties(overlap_of(old, now, np.ones(1100, int)), 4, are_moved=True)
    label = np.array([1, 2, 3, 0], np.int32)
    ids, lineage = lineage.follow(label, ties, done="update", of="a")
    assert ids.tolist() == [3, 0, 1, 2]
    np.testing.assert_array_equal(lineage.states[-1], [0, 1, 2, 3])
    counts = lineage.records[-1]
    assert (counts["kept"], counts["grew"], counts["born"], counts["gone"]) == (3, 2, 1, 0)


def test_follow__on_other_centroids_goes_by_the_images_of_both():
    rng = np.random.default_rng(1)
    source = np.repeat([0, 1, 2], [500, 300, 200])
    # Cells of one source each, and then others.
    old, new = 10 * source + rng.integers(0, 10, 1000), 7 * source + rng.integers(0, 7, 1000)
    first, population = np.repeat([0, 1, 2], 10).astype(np.int32), np.bincount(old)
    _, lineage = NOTHING.follow(first, Ties.same(population), done="run", of="a")
    joined = np.repeat([1, 0, 1], 10).astype(np.int32)
    ids, lineage = lineage.follow(joined, Ties.same(population), done="recut", of="a")
    assert ids.tolist() == [1, 0]
    ties = Ties(overlap_of(old, new, np.ones(1000, int)), 21, are_moved=True)
    assert not lineage.are_of("b")
    ids, lineage = lineage.follow(
        np.repeat([0, 1, 2], 7).astype(np.int32), ties, done="run", of="b"
    )
    # Those of the labels before, and one that was gone comes back.
    assert ids.tolist() == [0, 1, 2]
    assert lineage.are_of("b")
    np.testing.assert_array_equal(lineage.states[-1], np.repeat([0, 1, 2], 7))
    counts = lineage.records[-1]
    assert (counts["split"], counts["split_into"], counts["kept"]) == (1, 2, 1)
    unknown = Ties.unknown(np.bincount(new))
    assert lineage.follow(lineage.states[-1], unknown, done="run", of="c").ids.tolist() == [3, 4, 5]


def test_follow__counts_new_images_nowhere_but_in_sizes():
    """New centroids come behind the old ones, and may take images from them."""
    population = np.array([40, 40, 30])
    stored = np.repeat([0, 0, 1], population).astype(np.int32)
    _, lineage = NOTHING.follow(
        np.array([0, 0, 1], np.int32), Ties.same(population), done="run", of="a"
    )
    label = np.array([1, 1, 2, 0], np.int32)
    new = np.repeat(label, [35, 40, 30, 5])
    new = np.concatenate([new[:35], [0] * 5, new[35:105]]).astype(np.int32)
    overlap = count_overlap([(stored, new)])
    sizes = np.array([5 + 1000, 75, 30 + 2])
    ids, after = lineage.follow(
        label,
        Ties.same(np.array([35, 40, 32, 1005])),
        done="update",
        of="a",
        overlap=overlap,
        sizes=sizes,
    )
    assert ids.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(after.states, [[0, 0, 1, -1], [0, 0, 1, 2]])
    rows = {tuple(row) for row in after.rows[after.rows[:, 0] == 1, 1:].tolist()}
    # Born of the five it took and the new ones, shrank by the five, grew by two: `CHANGES` by number.
    assert rows == {(0, 2, -1, 1005, 0), (2, 0, 0, 75, 80), (1, 1, 1, 32, 30)}
