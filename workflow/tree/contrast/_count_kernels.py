"""The contrast rule at several thresholds at once: inner loops.

Nine thresholds take as long as one or two: what they agree on, which is nearly all, is done once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.tree.contrast._cluster_kernels import Clusters, Flows, Joins, single_clusters
from workflow.tree.contrast._rule_kernels import (
    GroupLimits,
    Groups,
    Limits,
    Merge,
    Tests,
    empty_tests,
    join_group,
    single_groups,
    unite_groups,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "constants.py", "../../graph.py")


@compiled
def _copied(clusters: Clusters, groups: Groups) -> tuple[Clusters, Groups]:
    """Return copies of clusters and groups; what is scratch in between merges is shared."""
    return (
        Clusters(
            clusters.owner.copy(),
            clusters.following.copy(),
            clusters.head.copy(),
            clusters.tail.copy(),
            clusters.n_members.copy(),
            clusters.images.copy(),
            clusters.tree.copy(),
            clusters.held.copy(),
            clusters.flow.copy(),
            clusters.core.copy(),
            clusters.between,
            clusters.out,
            clusters.chosen,
            clusters.touched,
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
def _reset(tests: Tests, shared: Tests) -> None:
    """Put tests back to what the first of them were; all others are free."""
    n_shared = len(shared.following)
    tests.cluster[:n_shared], tests.tree[:n_shared] = shared.cluster, shared.tree
    tests.result[:n_shared], tests.following[:n_shared] = shared.result, shared.following
    for test in range(n_shared, len(tests.following) - 1):
        tests.following[test] = test + 1
    tests.following[-1] = shared.following[-1] if n_shared == len(tests.following) else -1
    tests.free[0] = shared.free[0]


@compiled
def count_clusters(
    flows: Flows,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    limits: Limits,
    thresholds: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return how many clusters `run_rule` leaves at each of some thresholds."""
    # What all thresholds agree on is done once. A merge at which they disagree, and all above it,
    # are done for each of them, from the state before. Joins are numbered by the merge they
    # belong to, so that they compare as those of run_rule do; their history is not shared.
    clusters, joins = single_clusters(flows)
    joins = Joins(joins.left[:0], joins.right[:0], joins.ratio[:0], joins.made)
    groups, tests = single_groups(flows, len(left)), empty_tests(limits.n_tests)
    n_nodes = len(flows.population)
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
        if unite_groups(flows, clusters, joins, groups, tests, Merge(a, b, into), limits):
            how = GroupLimits(low, high, n_nodes + merge * n_nodes)
            done = join_group(flows, clusters, joins, groups, tests, into, limits.n_images, how)
        n_made[merge] = -2 if done else joins.made[0] - merge * n_nodes
    n_used = 0  # no test behind was ever made
    for test in range(limits.n_tests):
        if tests.cluster[test, 0] >= 0:
            n_used = test + 1
    shared = Tests(
        tests.cluster[:n_used].copy(),
        tests.tree[:n_used].copy(),
        tests.result[:n_used].copy(),
        tests.following[:n_used].copy(),
        tests.free.copy(),
    )
    n_clusters = np.empty(len(thresholds), np.int64)
    for i in range(len(thresholds)):
        own_clusters, own_groups = _copied(clusters, groups)
        _reset(tests, shared)
        for merge in range(len(left)):
            if n_made[merge] == -2:
                continue
            sides = Merge(left[merge], right[merge], n_nodes + merge)
            joins.made[0] = merge * n_nodes + max(n_made[merge], 0)
            if n_made[merge] >= 0 or unite_groups(
                flows, own_clusters, joins, own_groups, tests, sides, limits
            ):
                how = GroupLimits(thresholds[i], thresholds[i], n_nodes + merge * n_nodes)
                join_group(
                    flows, own_clusters, joins, own_groups, tests, sides.into, limits.n_images, how
                )
        n_clusters[i] = (own_clusters.tree >= 0).sum()
    return n_clusters
