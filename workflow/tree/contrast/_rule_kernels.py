"""The contrast rule on clusters of a graph: which are joined, in which order; inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.tree.contrast._cluster_kernels import (
    Clusters,
    Flows,
    Joins,
    Test,
    clear_flows,
    flows_to,
    join_tested,
    join_untested,
    test_join,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "constants.py", "../../graph.py")


class Tests(NamedTuple):
    """Tests of pairs of clusters in the same group, as linked lists; those not used are one, too.

    A test is void once either cluster has become part of another or has got a
    fragment: then `tree` is not that of the cluster any more.
    """

    cluster: NDArray[np.int64]
    tree: NDArray[np.int64]
    result: NDArray[np.float64]
    following: NDArray[np.int64]
    free: NDArray[np.int64]


class Groups(NamedTuple):
    """Clusters below each node of the dendrogram, in order, and the tests among them.

    `is_new` says of a cluster that it was not yet tested against its group;
    `mark` and `done` are scratch.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    images: NDArray[np.int64]
    tests: NDArray[np.int64]
    following: NDArray[np.int64]
    is_new: NDArray[np.bool_]
    mark: NDArray[np.int64]
    done: NDArray[np.int64]


class Limits(NamedTuple):
    """Minimum images of a cluster that is tested, images in all, and maximum of tests at a time."""

    min_images: int
    n_images: int
    n_tests: int


class Merge(NamedTuple):
    """A merge of the dendrogram: its two sides and the node that it makes."""

    left: int
    right: int
    into: int


class _BestTest(NamedTuple):
    """Head of a list of tests, the one with the highest ratio or -1, and how many are `touched`."""

    head: int
    test: int
    n_touched: int


def empty_tests(size: int) -> Tests:
    """Return room for so many tests."""
    following = np.arange(1, size + 1)
    following[-1] = -1
    return Tests(
        np.full((size, 2), -1),
        np.empty((size, 2), np.int64),
        np.empty((size, 3)),
        following,
        np.zeros(1, np.int64),
    )


def single_groups(flows: Flows, n_merges: int) -> Groups:
    """Return one group per node of the dendrogram, those of merges empty, and two more of these."""
    n = len(flows.population)
    n_groups = n + n_merges + 2
    first = np.full(n_groups, -1)
    first[:n] = np.arange(n)
    images = np.zeros(n_groups, np.int64)
    images[:n] = flows.population
    return Groups(
        first,
        first.copy(),
        images,
        np.full(n_groups, -1),
        np.full(n, -1),
        np.ones(n, np.bool_),
        np.full(n, -1),
        np.full(n, -1),
    )


@compiled
def _join_fragment(
    flows: Flows, clusters: Clusters, joins: Joins, groups: Groups, fragment: int, group: int
) -> None:
    """Give a fragment to the cluster of a group with the largest flow, or the nearest one."""
    best, before_best = groups.first[group], -1
    if groups.first[group] != groups.last[group]:
        n_touched = flows_to(flows, clusters, fragment)
        largest, before, cluster = 0.0, -1, groups.first[group]
        while cluster >= 0:
            if clusters.between[cluster] > largest:
                best, before_best, largest = cluster, before, clusters.between[cluster]
            before, cluster = cluster, groups.following[cluster]
        clear_flows(clusters, n_touched)
        if largest == 0:
            best, before_best = _nearest_cluster(flows, clusters, groups, fragment, group)
    after = groups.following[best]
    joined = join_untested(clusters, joins, best, fragment)
    groups.is_new[joined] = True
    groups.following[joined] = after
    if before_best >= 0:
        groups.following[before_best] = joined
    else:
        groups.first[group] = joined
    if after < 0:
        groups.last[group] = joined


@compiled
def _nearest_cluster(
    flows: Flows, clusters: Clusters, groups: Groups, fragment: int, group: int
) -> tuple[int, int]:
    """Return which cluster of a group has the node nearest to a fragment, and the one before it."""
    middle = np.zeros(flows.position.shape[1])
    node = clusters.head[fragment]
    while node >= 0:
        middle += flows.position[node]
        node = clusters.following[node]
    middle /= clusters.n_members[fragment]
    best, before_best, smallest = groups.first[group], -1, np.inf
    before, cluster = -1, groups.first[group]
    while cluster >= 0:
        node = clusters.head[cluster]
        while node >= 0:
            gap = 0.0
            for k in range(len(middle)):
                gap += (flows.position[node, k] - middle[k]) ** 2
            if gap < smallest:
                best, before_best, smallest = cluster, before, gap
            node = clusters.following[node]
        before, cluster = cluster, groups.following[cluster]
    return best, before_best


@compiled
def _add_test(
    flows: Flows, clusters: Clusters, tests: Tests, pair: tuple[int, int], head: int, n_images: int
) -> int:
    """Test two clusters and put the result before a list; return the new head."""
    a, b = pair
    if clusters.tree[a] > clusters.tree[b]:
        a, b = b, a
    new = tests.free[0]
    tests.free[0] = tests.following[new]
    tests.cluster[new, 0], tests.cluster[new, 1] = a, b
    tests.tree[new, 0], tests.tree[new, 1] = clusters.tree[a], clusters.tree[b]
    test = test_join(flows, clusters, a, b, n_images)
    tests.result[new, 0], tests.result[new, 1] = test.ratio, test.flow
    tests.result[new, 2] = test.concentration
    tests.following[new] = head
    return int(new)


@compiled
def _best_test(clusters: Clusters, tests: Tests, head: int) -> _BestTest:
    """Drop void tests of a list and find the one with the highest ratio.

    Of equal ratios the flow, then the clusters decide.  `touched` lists
    clusters that did not change but of which a test was void, and `between`
    marks them until `clear_flows`.
    """
    best, before, test, n_touched = -1, -1, head, 0
    while test >= 0:
        further = tests.following[test]
        if (
            tests.tree[test, 0] != clusters.tree[tests.cluster[test, 0]]
            or tests.tree[test, 1] != clusters.tree[tests.cluster[test, 1]]
        ):
            if before >= 0:
                tests.following[before] = further
            else:
                head = further
            tests.following[test] = tests.free[0]
            tests.free[0] = test
            for k in range(2):
                cluster = tests.cluster[test, k]
                if tests.tree[test, k] == clusters.tree[cluster] and clusters.between[cluster] == 0:
                    clusters.between[cluster] = 1.0
                    clusters.touched[n_touched] = cluster
                    n_touched += 1
        else:
            if best < 0 or _is_before(tests, best, test):
                best = test
            before = test
        test = further
    return _BestTest(head, best, n_touched)


@compiled
def _is_before(tests: Tests, a: int, b: int) -> bool:
    """Return whether test a comes before test b by ratio, flow and clusters."""
    for k in range(2):
        if tests.result[a, k] != tests.result[b, k]:
            return bool(tests.result[a, k] < tests.result[b, k])
    if tests.tree[a, 0] != tests.tree[b, 0]:
        return bool(tests.tree[a, 0] < tests.tree[b, 0])
    return bool(tests.tree[a, 1] < tests.tree[b, 1])


@compiled
def _test_group(
    flows: Flows,
    clusters: Clusters,
    groups: Groups,
    tests: Tests,
    merge: Merge,
    n_images: int,
) -> None:
    """Test all pairs of two groups that touch and were not tested; they become the first one.

    Tests made when either group was joined still hold, but for clusters that
    have got a fragment since.
    """
    a, b, into = merge
    head = _concatenated(tests, groups.tests[a], groups.tests[b])
    found = _best_test(clusters, tests, head)
    clear_flows(clusters, found.n_touched)
    head = found.head
    for side, group in enumerate((a, b)):
        cluster = groups.first[group]
        while cluster >= 0:
            groups.mark[cluster] = 2 * into + side
            cluster = groups.following[cluster]
    lighter = 0 if groups.images[a] <= groups.images[b] else 1
    for side, group in enumerate((a, b)):
        cluster = groups.first[group]
        while cluster >= 0:
            if groups.is_new[cluster] or side == lighter:
                n_touched = flows_to(flows, clusters, cluster)
                for i in range(n_touched):
                    other = clusters.touched[i]
                    mark = groups.mark[other]
                    if mark // 2 != into or groups.done[other] == into:
                        continue
                    if mark % 2 != side or groups.is_new[cluster] or groups.is_new[other]:
                        head = _add_test(flows, clusters, tests, (cluster, other), head, n_images)
                clear_flows(clusters, n_touched)
                groups.done[cluster] = into
            cluster = groups.following[cluster]
    groups.tests[into] = head


@compiled
def _concatenated(tests: Tests, a: int, b: int) -> int:
    """Return the head of two lists made one."""
    if a < 0:
        return b
    last = a
    while tests.following[last] >= 0:
        last = tests.following[last]
    tests.following[last] = b
    return a


@compiled
def _join_group(
    flows: Flows,
    clusters: Clusters,
    joins: Joins,
    groups: Groups,
    tests: Tests,
    group: int,
    n_images: int,
    threshold: float,
) -> None:
    """Join the pair of a group with the highest ratio while that is at least a threshold."""
    oldest = len(flows.population) + joins.made[0]
    while True:
        found = _best_test(clusters, tests, groups.tests[group])
        best = found.test
        groups.tests[group] = found.head
        if best < 0 or tests.result[best, 0] < threshold:
            break
        a, b = tests.cluster[best, 0], tests.cluster[best, 1]
        test = Test(tests.result[best, 0], tests.result[best, 1], tests.result[best, 2])
        joined = join_tested(clusters, joins, a, b, test)
        # What touched either side touches the two together: its tests are the void ones.
        found = _best_test(clusters, tests, found.head)
        head = found.head
        for i in range(found.n_touched):
            pair = (joined, clusters.touched[i])
            head = _add_test(flows, clusters, tests, pair, head, n_images)
        clear_flows(clusters, found.n_touched)
        groups.tests[group] = head
    _put_in_order(clusters, groups, group, oldest)


@compiled
def _put_in_order(clusters: Clusters, groups: Groups, group: int, oldest: int) -> None:
    """List what is left of a group: clusters that were there before, then those made since."""
    last, n_made, cluster = -1, 0, groups.first[group]
    made = clusters.touched
    while cluster >= 0:
        further = groups.following[cluster]
        groups.is_new[cluster] = False
        if clusters.tree[cluster] >= oldest:
            place = n_made
            while place > 0 and clusters.tree[made[place - 1]] > clusters.tree[cluster]:
                made[place] = made[place - 1]
                place -= 1
            made[place] = cluster
            n_made += 1
        elif clusters.tree[cluster] >= 0:
            last = _append(groups, group, last, cluster)
        cluster = further
    for i in range(n_made):
        last = _append(groups, group, last, made[i])
    groups.following[last] = -1
    groups.last[group] = last


@compiled
def _append(groups: Groups, group: int, last: int, cluster: int) -> int:
    """Put a cluster after the last of a group, -1 for none, and return it."""
    if last >= 0:
        groups.following[last] = cluster
    else:
        groups.first[group] = cluster
    return cluster


@compiled
def _unite_groups(
    flows: Flows,
    clusters: Clusters,
    joins: Joins,
    groups: Groups,
    tests: Tests,
    merge: Merge,
    limits: Limits,
) -> bool:
    """Make one group of two; return whether its clusters are to be joined by tests."""
    a, b, into = merge
    groups.images[into] = groups.images[a] + groups.images[b]
    small_a, small_b = groups.images[a] < limits.min_images, groups.images[b] < limits.min_images
    if small_a and small_b:
        joined = join_untested(clusters, joins, groups.first[a], groups.first[b])
        groups.is_new[joined] = True
        groups.first[into] = groups.last[into] = joined
        return False
    if small_a or small_b:
        fragment, group = (a, b) if small_a else (b, a)
        _join_fragment(flows, clusters, joins, groups, groups.first[fragment], group)
        groups.first[into], groups.last[into] = groups.first[group], groups.last[group]
        groups.tests[into] = groups.tests[group]
        return False
    _test_group(flows, clusters, groups, tests, merge, limits.n_images)
    groups.following[groups.last[a]] = groups.first[b]
    groups.first[into], groups.last[into] = groups.first[a], groups.last[b]
    return True


@compiled
def run_rule(
    flows: Flows,
    clusters: Clusters,
    joins: Joins,
    groups: Groups,
    tests: Tests,
    merges: tuple[NDArray[np.int64], NDArray[np.int64]],
    limits: Limits,
    threshold: float,
    join_on: bool,  # noqa: FBT001 - kernels take no keywords
) -> NDArray[np.int64]:
    """Join clusters along the merges of a forest; return that of each node where this stops."""
    # With join_on the clusters of the last group are joined further while anything flows, after
    # the stop.
    left, right = merges
    n_nodes = len(flows.population)
    top = n_nodes + len(left) - 1
    stopped = clusters.owner
    for i in range(len(left) + join_on):
        is_last = i == len(left)
        if is_last:
            stopped = clusters.owner.copy()
            merge = Merge(top, top + 1, top + 2)
            _test_group(flows, clusters, groups, tests, merge, limits.n_images)
            groups.first[merge.into] = groups.first[top]
        else:
            merge = Merge(left[i], right[i], n_nodes + i)
            if not _unite_groups(flows, clusters, joins, groups, tests, merge, limits):
                continue
        lowest = -1.0 if is_last else threshold
        _join_group(flows, clusters, joins, groups, tests, merge.into, limits.n_images, lowest)
    return stopped
