"""Method `contrast`: clusters are real where crossings between them are thinner than those inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree.crossing import (
    CAUTION,
    PRIOR_CONCENTRATION,
    PRIOR_FLOWS,
    SINGLE_REFERENCE_LIMIT,
    crossing,
    weighted_median,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.crossing import Flows
    from workflow.tree.flow_dendrogram import Merges

#: Ratio of joins that were not tested.
UNTESTED = 10.0


@dataclass(slots=True, eq=False)
class Piece:
    """A cluster while it grows.

    Attributes
    ----------
    members : int64 array
        Its nodes.
    images : int
        Their images.
    held, flow : float
        Sums of concentration times flow, and flow, over the joins that made it.
    tree : int
        Its node in the history of joins.
    core : float, optional
        Log density of its median image, once it is known.
    """

    members: NDArray[np.int64]
    images: int
    held: float
    flow: float
    tree: int
    core: float | None = None

    def reference(self) -> float | None:
        """Return the concentration that joins inside had, None where none was tested."""
        if self.flow <= 0:
            return None
        return (self.held + PRIOR_FLOWS * PRIOR_CONCENTRATION) / (self.flow + PRIOR_FLOWS)


class Test(NamedTuple):
    """Result of testing the join of two pieces.

    Attributes
    ----------
    ratio : float
        Concentration of the crossing over that of the joins inside.
    flow : float
        Images that cross.
    concentration : float
        Concentration of the crossing.
    """

    ratio: float
    flow: float
    concentration: float


@dataclass(slots=True, eq=False)
class History:
    """Joins in the order they were made.

    Attributes
    ----------
    n_nodes : int
        Leaves of the history.
    joins : list of (int, int, float)
        The two sides and the ratio of the test, `UNTESTED` without one.
    """

    n_nodes: int
    joins: list[tuple[int, int, float]] = field(default_factory=list)

    def add(self, a: int, b: int, ratio: float) -> int:
        """Record a join and return its node."""
        self.joins.append((a, b, ratio))
        return self.n_nodes + len(self.joins) - 1


class Contrast:
    """The rule on one graph: joins pieces bottom-up along a dendrogram.

    Parameters
    ----------
    flows : Flows
        The graph.
    position : float64 array of shape (n_nodes, n_components)
        Where the nodes are; decides only where nothing flows.
    min_images : int
        Smaller pieces are joined without a test.
    """

    def __init__(self, flows: Flows, position: NDArray[np.float64], min_images: int) -> None:
        self.flows = flows
        self.position = position
        self.min_images = min_images
        self.total = int(flows.population.sum())

    def core(self, piece: Piece) -> float:
        """Return the log density of the median image of a piece, computed when first asked for."""
        if piece.core is None:
            members = piece.members
            piece.core = weighted_median(self.flows.level[members], self.flows.population[members])
        return piece.core

    def test(self, a: Piece, b: Piece) -> Test:
        """Compare the crossings between two pieces that touch with those inside them."""
        core = min(self.core(a), self.core(b))
        between = crossing(self.flows, a.members, b.members, core)
        references = [r for r in (a.reference(), b.reference()) if r is not None]
        if not references:
            return Test(UNTESTED, between.flow, between.concentration)
        reference = float(np.sqrt(references[0] * references[-1]))
        if len(references) == 1:
            reference = min(references[0], SINGLE_REFERENCE_LIMIT)
        # More pieces of this size could have been split off by chance: ask for more.
        caution = CAUTION * np.sqrt(2 * np.log(self.total / min(a.images, b.images)))
        ratio = (between.concentration + caution * between.error) / reference
        return Test(float(ratio), between.flow, between.concentration)

    def join(self, a: Piece, b: Piece, history: History, tested: Test | None) -> Piece:
        """Return the union of two pieces; older joins count half where this one was tested."""
        held, flow, ratio = a.held + b.held, a.flow + b.flow, UNTESTED
        if tested is not None:
            ratio = tested.ratio
            held = tested.concentration * tested.flow + held / 2
            flow = tested.flow + flow / 2
        members = np.concatenate([a.members, b.members])
        node = history.add(a.tree, b.tree, ratio)
        return Piece(members, a.images + b.images, held, flow, node)

    def run(self, merges: Merges, rho: float, history: History) -> list[Piece]:
        """Return the clusters at threshold `rho` and record how they came about."""
        n_nodes = len(self.flows.population)
        images = self.flows.population.tolist()
        groups = {i: [Piece(np.array([i]), images[i], 0.0, 0.0, i)] for i in range(n_nodes)}
        for merge, (a, b) in enumerate(
            zip(merges.left.tolist(), merges.right.tolist(), strict=True)
        ):
            groups[n_nodes + merge] = self.unite(groups.pop(a), groups.pop(b), rho, history)
        united: list[Piece] = []
        # Pieces that nothing connects come last, the largest first.
        for group in sorted(groups.values(), key=lambda g: -sum(p.images for p in g)):
            united = self.unite(united, group, rho, history) if united else group
        return united

    def unite(self, a: list[Piece], b: list[Piece], rho: float, history: History) -> list[Piece]:
        """Return what two groups of pieces become when their parent is reached."""
        small_a = sum(p.images for p in a) < self.min_images
        small_b = sum(p.images for p in b) < self.min_images
        if small_a and small_b:
            return [self.join(a[0], b[0], history, None)]
        if small_a or small_b:
            fragment, group = (a[0], b) if small_a else (b[0], a)
            return self.attach(fragment, group, history)
        return self.settle([*a, *b], rho, history)

    def attach(self, fragment: Piece, group: list[Piece], history: History) -> list[Piece]:
        """Give a fragment to the piece with the largest flow, or the nearest one."""
        best = 0
        if len(group) > 1:
            flow = self.flow_to(fragment, group)
            best = int(np.argmax(flow)) if max(flow) > 0 else self.nearest(fragment, group)
        kept = list(group)
        kept[best] = self.join(group[best], fragment, history, None)
        return kept

    def flow_to(self, piece: Piece, group: list[Piece]) -> list[float]:
        """Return the flow from a piece to each of a group."""
        owner = np.full(len(self.flows.population), -1)
        for index, other in enumerate(group):
            owner[other.members] = index
        _, entry = self.flows.entries(piece.members)
        target = owner[self.flows.indices[entry]]
        inside = target >= 0
        flow = np.bincount(target[inside], self.flows.weight[entry][inside], minlength=len(group))
        return [float(f) for f in flow]

    def nearest(self, piece: Piece, group: list[Piece]) -> int:
        """Return which of a group has the node nearest to a piece."""
        middle = self.position[piece.members].mean(axis=0)
        gaps = [np.square(self.position[p.members] - middle).sum(axis=1).min() for p in group]
        return int(np.argmin(gaps))

    def settle(self, pieces: list[Piece], rho: float, history: History) -> list[Piece]:
        """Join the pair with the highest ratio while that is at least `rho`."""
        alive = {p.tree: p for p in pieces}
        tests: dict[tuple[int, int], Test] = {}
        for index, piece in enumerate(pieces):
            self.test_against(piece, pieces[index + 1 :], tests)
        while tests:
            best = max(tests, key=lambda pair: (tests[pair].ratio, tests[pair].flow, pair))
            if tests[best].ratio < rho:
                break
            a, b = (alive.pop(tree) for tree in best)
            joined = self.join(a, b, history, tests[best])
            tests = {pair: t for pair, t in tests.items() if not {*best} & {*pair}}
            self.test_against(joined, list(alive.values()), tests)
            alive[joined.tree] = joined
        return list(alive.values())

    def test_against(
        self, piece: Piece, others: list[Piece], tests: dict[tuple[int, int], Test]
    ) -> None:
        """Test a piece against those of `others` to which it has a flow; the rest has ratio 0."""
        if not others:
            return
        for other, flow in zip(others, self.flow_to(piece, others), strict=True):
            if flow:
                pair = (min(piece.tree, other.tree), max(piece.tree, other.tree))
                tests[pair] = self.test(piece, other)
