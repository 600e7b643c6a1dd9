"""The contrast rule at several thresholds at once: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.tree._pieces import Graph, Joins, Pieces, single_pieces
from workflow.tree._rule import (
    Groups,
    Tests,
    empty_tests,
    put_together,
    settle,
    single_groups,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


@compiled
def _copied(pieces: Pieces, groups: Groups) -> tuple[Pieces, Groups]:
    """Return copies of pieces and groups; what is scratch in between merges is shared."""
    return (
        Pieces(
            pieces.owner.copy(),
            pieces.following.copy(),
            pieces.head.copy(),
            pieces.tail.copy(),
            pieces.n_members.copy(),
            pieces.images.copy(),
            pieces.tree.copy(),
            pieces.held.copy(),
            pieces.flow.copy(),
            pieces.core.copy(),
            pieces.between,
            pieces.out,
            pieces.chosen,
            pieces.touched,
        ),
        Groups(
            groups.first.copy(),
            groups.last.copy(),
            groups.images,
            groups.tests.copy(),
            groups.following.copy(),
            groups.is_new.copy(),
            groups.mark.copy(),
            groups.done.copy(),
        ),
    )


@compiled
def _reset(tests: Tests, kept: Tests) -> None:
    """Put tests back to what the first of them were; all others are free."""
    n_kept = len(kept.following)
    tests.piece[:n_kept], tests.tree[:n_kept] = kept.piece, kept.tree
    tests.result[:n_kept], tests.following[:n_kept] = kept.result, kept.following
    for test in range(n_kept, len(tests.following) - 1):
        tests.following[test] = test + 1
    tests.following[-1] = kept.following[-1] if n_kept == len(tests.following) else -1
    tests.free[0] = kept.free[0]


@compiled
def count_pieces(
    graph: Graph,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    limits: tuple[int, int, int],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return how many pieces `run_rule` leaves at each of some thresholds."""
    # What all thresholds agree on is done once. A merge at which they disagree, and all above it,
    # are done for each of them, from the state before. Joins are numbered by the merge they
    # belong to, so that they compare as those of run_rule do; their history is not kept.
    min_images, total, n_tests = limits
    pieces, joins = single_pieces(graph)
    joins = Joins(joins.left[:0], joins.right[:0], joins.ratio[:0], joins.made)
    groups, tests = single_groups(graph, len(left)), empty_tests(n_tests)
    n_nodes = len(graph.population)
    low, high = thresholds.min(), thresholds.max()
    # Joins made at a merge so far; -1 where nothing has been done, and -2 where all has.
    n_made = np.full(len(left), -1)
    for merge in range(len(left)):
        a, b, into = left[merge], right[merge], n_nodes + merge
        if (a >= n_nodes and n_made[a - n_nodes] != -2) or (
            b >= n_nodes and n_made[b - n_nodes] != -2
        ):
            continue
        joins.made[0] = merge * n_nodes
        done = True
        if put_together(graph, pieces, joins, groups, tests, (a, b, into), (min_images, total)):
            how = (into, total, n_nodes + merge * n_nodes, low, high)
            done = settle(graph, pieces, joins, groups, tests, how)
        n_made[merge] = -2 if done else joins.made[0] - merge * n_nodes
    n_used = 0  # no test behind was ever made
    for test in range(n_tests):
        if tests.piece[test, 0] >= 0:
            n_used = test + 1
    kept = Tests(
        tests.piece[:n_used].copy(),
        tests.tree[:n_used].copy(),
        tests.result[:n_used].copy(),
        tests.following[:n_used].copy(),
        tests.free.copy(),
    )
    n_pieces = np.empty(len(thresholds), np.int64)
    for i in range(len(thresholds)):
        rho = thresholds[i]
        own_pieces, own_groups = _copied(pieces, groups)
        _reset(tests, kept)
        for merge in range(len(left)):
            if n_made[merge] == -2:
                continue
            sides = (left[merge], right[merge], n_nodes + merge)
            joins.made[0] = merge * n_nodes + max(n_made[merge], 0)
            if n_made[merge] >= 0 or put_together(
                graph, own_pieces, joins, own_groups, tests, sides, (min_images, total)
            ):
                how = (n_nodes + merge, total, n_nodes + merge * n_nodes, rho, rho)
                settle(graph, own_pieces, joins, own_groups, tests, how)
        n_pieces[i] = (own_pieces.tree >= 0).sum()
    return n_pieces
