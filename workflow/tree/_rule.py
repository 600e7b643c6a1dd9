"""The contrast rule on pieces of a graph: which are joined, in which order; inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.tree._pieces import (
    Graph,
    Joins,
    Pieces,
    flows_to,
    forget,
    join_tested,
    join_untested,
    single_pieces,
    test_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


class Tests(NamedTuple):
    """Tests of pairs of pieces in the same group, as linked lists; those not used are one, too.

    A test is void once either piece has become part of another or has got a
    fragment: then `tree` is not that of the piece any more.
    """

    piece: NDArray[np.int64]
    tree: NDArray[np.int64]
    result: NDArray[np.float64]
    following: NDArray[np.int64]
    free: NDArray[np.int64]


class Groups(NamedTuple):
    """Pieces below each node of the dendrogram, in order, and the tests among them.

    `is_new` says of a piece that it was not yet tested against its group;
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


@compiled
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


@compiled
def single_groups(graph: Graph, n_merges: int) -> Groups:
    """Return one group per node of the dendrogram, those of merges empty, and two more of these."""
    n = len(graph.population)
    n_groups = n + n_merges + 2
    first = np.full(n_groups, -1)
    first[:n] = np.arange(n)
    images = np.zeros(n_groups, np.int64)
    images[:n] = graph.population
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
def _attach(
    graph: Graph, pieces: Pieces, joins: Joins, groups: Groups, fragment: int, group: int
) -> None:
    """Give a fragment to the piece of a group with the largest flow, or the nearest one."""
    best, before_best = groups.first[group], -1
    if groups.first[group] != groups.last[group]:
        n_touched = flows_to(graph, pieces, fragment)
        largest, before, piece = 0.0, -1, groups.first[group]
        while piece >= 0:
            if pieces.between[piece] > largest:
                best, before_best, largest = piece, before, pieces.between[piece]
            before, piece = piece, groups.following[piece]
        forget(pieces, n_touched)
        if largest == 0:
            best, before_best = _nearest_piece(graph, pieces, groups, fragment, group)
    after = groups.following[best]
    joined = join_untested(pieces, joins, best, fragment)
    groups.is_new[joined] = True
    groups.following[joined] = after
    if before_best >= 0:
        groups.following[before_best] = joined
    else:
        groups.first[group] = joined
    if after < 0:
        groups.last[group] = joined


@compiled
def _nearest_piece(
    graph: Graph, pieces: Pieces, groups: Groups, fragment: int, group: int
) -> tuple[int, int]:
    """Return which piece of a group has the node nearest to a fragment, and the one before it."""
    middle = np.zeros(graph.position.shape[1])
    node = pieces.head[fragment]
    while node >= 0:
        middle += graph.position[node]
        node = pieces.following[node]
    middle /= pieces.n_members[fragment]
    best, before_best, least = groups.first[group], -1, np.inf
    before, piece = -1, groups.first[group]
    while piece >= 0:
        node = pieces.head[piece]
        while node >= 0:
            gap = 0.0
            for k in range(len(middle)):
                gap += (graph.position[node, k] - middle[k]) ** 2
            if gap < least:
                best, before_best, least = piece, before, gap
            node = pieces.following[node]
        before, piece = piece, groups.following[piece]
    return best, before_best


@compiled
def _add_test(
    graph: Graph, pieces: Pieces, tests: Tests, pair: tuple[int, int], head: int, total: int
) -> int:
    """Test two pieces and put the result before a list; return the new head."""
    a, b = pair
    if pieces.tree[a] > pieces.tree[b]:
        a, b = b, a
    new = tests.free[0]
    tests.free[0] = tests.following[new]
    tests.piece[new, 0], tests.piece[new, 1] = a, b
    tests.tree[new, 0], tests.tree[new, 1] = pieces.tree[a], pieces.tree[b]
    ratio, flow, concentration = test_of(graph, pieces, a, b, total)
    tests.result[new, 0], tests.result[new, 1], tests.result[new, 2] = ratio, flow, concentration
    tests.following[new] = head
    return int(new)


@compiled
def _best_test(pieces: Pieces, tests: Tests, head: int) -> tuple[int, int, int]:
    """Drop void tests of a list; return its head and the one with the highest ratio, or -1.

    Equal ratios are told apart by the flow, then by the pieces.  `touched`
    lists pieces that did not change but of which a test was void, and
    `between` marks them until `forget`; how many is the last number returned.
    """
    best, before, test, n_touched = -1, -1, head, 0
    while test >= 0:
        further = tests.following[test]
        if (
            tests.tree[test, 0] != pieces.tree[tests.piece[test, 0]]
            or tests.tree[test, 1] != pieces.tree[tests.piece[test, 1]]
        ):
            if before >= 0:
                tests.following[before] = further
            else:
                head = further
            tests.following[test] = tests.free[0]
            tests.free[0] = test
            for k in range(2):
                piece = tests.piece[test, k]
                if tests.tree[test, k] == pieces.tree[piece] and pieces.between[piece] == 0:
                    pieces.between[piece] = 1.0
                    pieces.touched[n_touched] = piece
                    n_touched += 1
        else:
            if best < 0 or _is_before(tests, best, test):
                best = test
            before = test
        test = further
    return head, best, n_touched


@compiled
def _is_before(tests: Tests, a: int, b: int) -> bool:
    """Return whether test a comes before test b by ratio, flow and pieces."""
    for k in range(2):
        if tests.result[a, k] != tests.result[b, k]:
            return bool(tests.result[a, k] < tests.result[b, k])
    if tests.tree[a, 0] != tests.tree[b, 0]:
        return bool(tests.tree[a, 0] < tests.tree[b, 0])
    return bool(tests.tree[a, 1] < tests.tree[b, 1])


@compiled
def _test_group(
    graph: Graph,
    pieces: Pieces,
    groups: Groups,
    tests: Tests,
    how: tuple[int, int, int, int],
) -> None:
    """Test all pairs of two groups that touch and were not tested; they become the first one.

    Tests found when either group was settled still hold, but for pieces that
    have got a fragment since.
    """
    into, a, b, total = how
    head = _concatenated(tests, groups.tests[a], groups.tests[b])
    head, _, n_touched = _best_test(pieces, tests, head)
    forget(pieces, n_touched)
    for side, group in enumerate((a, b)):
        piece = groups.first[group]
        while piece >= 0:
            groups.mark[piece] = 2 * into + side
            piece = groups.following[piece]
    lighter = 0 if groups.images[a] <= groups.images[b] else 1
    for side, group in enumerate((a, b)):
        piece = groups.first[group]
        while piece >= 0:
            if groups.is_new[piece] or side == lighter:
                n_touched = flows_to(graph, pieces, piece)
                for i in range(n_touched):
                    other = pieces.touched[i]
                    mark = groups.mark[other]
                    if mark // 2 != into or groups.done[other] == into:
                        continue
                    if mark % 2 != side or groups.is_new[piece] or groups.is_new[other]:
                        head = _add_test(graph, pieces, tests, (piece, other), head, total)
                forget(pieces, n_touched)
                groups.done[piece] = into
            piece = groups.following[piece]
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
def settle(
    graph: Graph,
    pieces: Pieces,
    joins: Joins,
    groups: Groups,
    tests: Tests,
    how: tuple[int, int, int, float, float],
) -> bool:
    """Join the pair of a group with the highest ratio while that is at least a threshold."""
    # how is the group, all images, the first node that the joins of the group make, and the lowest
    # and the highest of some thresholds. False means that these disagree on the next join: the
    # group is left as it is, to be settled for each of them.
    group, total, oldest, low, high = how
    while True:
        head, best, _ = _best_test(pieces, tests, groups.tests[group])
        groups.tests[group] = head
        if best < 0 or tests.result[best, 0] < low:
            break
        if tests.result[best, 0] < high:
            return False
        a, b = tests.piece[best, 0], tests.piece[best, 1]
        result = (tests.result[best, 0], tests.result[best, 1], tests.result[best, 2])
        joined = join_tested(pieces, joins, a, b, result)
        # What touched either side touches the two together: its tests are the void ones.
        head, _, n_touched = _best_test(pieces, tests, head)
        for i in range(n_touched):
            pair = (joined, pieces.touched[i])
            head = _add_test(graph, pieces, tests, pair, head, total)
        forget(pieces, n_touched)
        groups.tests[group] = head
    _put_in_order(pieces, groups, group, oldest)
    return True


@compiled
def _put_in_order(pieces: Pieces, groups: Groups, group: int, oldest: int) -> None:
    """List what is left of a group: pieces that were there before, then those made since."""
    last, n_made, piece = -1, 0, groups.first[group]
    made = pieces.touched
    while piece >= 0:
        further = groups.following[piece]
        groups.is_new[piece] = False
        if pieces.tree[piece] >= oldest:
            place = n_made
            while place > 0 and pieces.tree[made[place - 1]] > pieces.tree[piece]:
                made[place] = made[place - 1]
                place -= 1
            made[place] = piece
            n_made += 1
        elif pieces.tree[piece] >= 0:
            last = _append(groups, group, last, piece)
        piece = further
    for i in range(n_made):
        last = _append(groups, group, last, made[i])
    groups.following[last] = -1
    groups.last[group] = last


@compiled
def _append(groups: Groups, group: int, last: int, piece: int) -> int:
    """Put a piece after the last of a group, -1 for none, and return it."""
    if last >= 0:
        groups.following[last] = piece
    else:
        groups.first[group] = piece
    return piece


@compiled
def put_together(
    graph: Graph,
    pieces: Pieces,
    joins: Joins,
    groups: Groups,
    tests: Tests,
    sides: tuple[int, int, int],
    limits: tuple[int, int],
) -> bool:
    """Make one group of two; return whether its pieces are to be joined by tests."""
    a, b, into = sides
    min_images, total = limits
    groups.images[into] = groups.images[a] + groups.images[b]
    small_a, small_b = groups.images[a] < min_images, groups.images[b] < min_images
    if small_a and small_b:
        joined = join_untested(pieces, joins, groups.first[a], groups.first[b])
        groups.is_new[joined] = True
        groups.first[into] = groups.last[into] = joined
        return False
    if small_a or small_b:
        fragment, group = (a, b) if small_a else (b, a)
        _attach(graph, pieces, joins, groups, groups.first[fragment], group)
        groups.first[into], groups.last[into] = groups.first[group], groups.last[group]
        groups.tests[into] = groups.tests[group]
        return False
    _test_group(graph, pieces, groups, tests, (into, a, b, total))
    groups.following[groups.last[a]] = groups.first[b]
    groups.first[into], groups.last[into] = groups.first[a], groups.last[b]
    return True


@compiled
def run_rule(
    graph: Graph,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    limits: tuple[int, int, int, float],
    join_on: bool,  # noqa: FBT001 - kernels take no keywords
) -> tuple[NDArray[np.int64], Pieces, Joins]:
    """Join pieces along the merges of a forest; return the piece of each node where that stops."""
    # limits are the fewest images of a piece that is tested, all images, room for tests, and the
    # least ratio of a join. With join_on the pieces of the last group are joined further while
    # anything flows, after the stop.
    min_images, total, n_tests, rho = limits
    pieces, joins = single_pieces(graph)
    groups, tests = single_groups(graph, len(left)), empty_tests(n_tests)
    n_nodes = len(graph.population)
    for merge in range(len(left)):
        sides = (left[merge], right[merge], n_nodes + merge)
        if put_together(graph, pieces, joins, groups, tests, sides, (min_images, total)):
            how = (n_nodes + merge, total, n_nodes + joins.made[0], rho, rho)
            settle(graph, pieces, joins, groups, tests, how)
    stopped = pieces.owner.copy()
    if join_on:
        a, b, into = n_nodes + len(left) - 1, n_nodes + len(left), n_nodes + len(left) + 1
        _test_group(graph, pieces, groups, tests, (into, a, b, total))
        groups.first[into] = groups.first[a]
        how = (into, total, n_nodes + joins.made[0], -1.0, -1.0)
        settle(graph, pieces, joins, groups, tests, how)
    return stopped, pieces, joins
