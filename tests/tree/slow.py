"""The inner loops of the tree in plain Python and NumPy: slow, and easy to check."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import sparse

from workflow.graph import Graph
from workflow.numerics import weighted_median
from workflow.tree.contrast.constants import UNTESTED
from workflow.tree.flows.dendrogram import Merges, flow_merges
from workflow.tree.flows.graph import make_flow_graph
from workflow.tree.nodes import make_nodes


def graph_of(n: int, row, col, weight) -> Graph:
    """The graph of edges given once, with whole weights in float64, by SciPy."""
    dense = sparse.coo_array((weight, (row, col)), shape=(n, n)).toarray()
    matrix = sparse.csr_array((dense + dense.T).astype(float))
    return Graph(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)


def random_edges(seed: int, n: int, density: float, largest: int):
    """Edges of a random graph near a line, in components where `density` is small."""
    rng = np.random.default_rng(seed)
    row, col = np.triu_indices(n, 1)
    near = rng.random(len(row)) < density * np.exp(-(col - row) / 6)
    row, col = row[near], col[near]
    return row, col, rng.integers(1, largest + 1, len(row))


def slow_merges(n, row, col, weight) -> Merges:
    """The nearest-neighbour chain with dicts of dicts."""
    flows = {node: {} for node in range(n)}
    degree = dict.fromkeys(range(n), 0)
    for a, b, w in zip(row.tolist(), col.tolist(), weight.tolist(), strict=True):
        flows[a][b] = flows[b][a] = w
        degree[a] += w
        degree[b] += w
    found, height = [], dict.fromkeys(range(n), 0.0)
    for start in range(n):
        chain = [start] if start in flows else []
        while chain:
            last = chain.pop()
            if not flows[last]:
                del flows[last]
                continue
            nearest = min(flows[last], key=lambda o: (-flows[last][o] / degree[o], o))
            if not chain or chain[-1] != nearest:
                chain += [last, nearest]
                continue
            chain.pop()
            joined = n + len(found)
            distance = degree[last] / (flows[last][nearest] / degree[nearest])
            height[joined] = max(distance / weight.sum(), height[last], height[nearest])
            found.append((last, nearest))
            both = flows.pop(last), flows.pop(nearest)
            flows[joined] = {}
            for other in (both[0].keys() | both[1].keys()) - {last, nearest}:
                flow = both[0].get(other, 0) + both[1].get(other, 0)
                flows[other].pop(last, None)
                flows[other].pop(nearest, None)
                flows[joined][other] = flows[other][joined] = flow
            degree[joined] = degree[last] + degree[nearest]
            chain = chain or [joined]
    heights = np.array([height[n + i] for i in range(len(found))])
    order = np.argsort(heights, kind="stable")
    name = np.arange(n + len(found))
    name[n + order] = np.arange(n, n + len(found))
    ends = np.sort(name[np.array(found, int).reshape(-1, 2)[order]], axis=1)
    return Merges(ends[:, 0], ends[:, 1], heights[order])


class SlowRule:
    """The contrast rule with sets of nodes and a dense matrix; every test made anew."""

    def __init__(self, weight, level, population, position, min_images):
        self.weight, self.level, self.population = weight, level, population
        self.position, self.min_images = position, min_images
        self.joins = []

    def images(self, *clusters):
        return sum(int(self.population[p["members"]].sum()) for p in clusters)

    def flow(self, a, b):
        return self.weight[np.ix_(a["members"], b["members"])].sum()

    def test(self, a, b):
        chance, floored, error, border = 1.0, 1.0, 0.0, 0.0
        total = self.flow(a, b)
        for own, far in ((a["members"], b["members"]), (b["members"], a["members"])):
            out = self.weight[np.ix_(own, far)].sum(axis=1)
            stay = self.weight[np.ix_(own, own)].sum(axis=1)
            both = out * (out - 1) / np.maximum(out + stay - 1, 1)
            mean = both.sum() / total
            floor = max(mean, 0.5 / total)
            chance, floored = chance * mean, floored * floor
            variance = np.square(both - mean * out).sum() / total**2
            variance += np.square(2.0 * mean * out).sum() / total**2
            error += (variance + 0.02 / total) / floor**2
            border += (out * self.level[own]).sum() / total / 2
        core = min(
            weighted_median(self.level[p["members"]], self.population[p["members"]]) for p in (a, b)
        )
        drop = np.exp(0.5 * min(0.0, border - core))
        q, error = np.sqrt(chance) * drop, np.sqrt(floored) / 2 * np.sqrt(error) * drop
        inside = [(p["held"] + 30 * 0.22) / (p["flow"] + 30) for p in (a, b) if p["flow"] > 0]
        if not inside:
            return UNTESTED, total, q
        held = min(inside[0], 0.3) if len(inside) == 1 else np.sqrt(inside[0] * inside[1])
        smaller = min(self.images(a), self.images(b))
        caution = 0.5 * np.sqrt(2 * np.log(self.population.sum() / smaller))
        near = a if len(a["members"]) <= len(b["members"]) else b
        outside = np.setdiff1d(np.arange(len(self.population)), near["members"])
        share = total / self.weight[np.ix_(near["members"], outside)].sum()
        return (q + caution * error * min(1.0, (share / 0.4) ** 2)) / held, total, q

    def join(self, a, b, test=None):
        held, flow, ratio = a["held"] + b["held"], a["flow"] + b["flow"], UNTESTED
        if test is not None:
            ratio, total, q = test
            held, flow = q * total + held / 2, total + flow / 2
        self.joins.append((a["tree"], b["tree"], ratio))
        return {
            "members": np.concatenate([a["members"], b["members"]]),
            "held": held,
            "flow": flow,
            "tree": len(self.population) + len(self.joins) - 1,
        }

    def attach(self, fragment, group):
        flows = [self.flow(fragment, p) for p in group]
        best = int(np.argmax(flows))
        if flows[best] == 0:
            middle = self.position[fragment["members"]].mean(axis=0)
            gaps = [
                np.square(self.position[p["members"]] - middle).sum(axis=1).min() for p in group
            ]
            best = int(np.argmin(gaps))
        return [*group[:best], self.join(group[best], fragment), *group[best + 1 :]]

    def settle(self, group, rho):
        while True:
            tests = {
                (a["tree"], b["tree"]): (self.test(a, b), a, b)
                for a, b in itertools.combinations(sorted(group, key=lambda p: p["tree"]), 2)
                if self.flow(a, b)
            }
            best = max(tests, key=lambda pair: (*tests[pair][0][:2], pair), default=None)
            if best is None or tests[best][0][0] < rho:
                return group
            test, a, b = tests[best]
            group = [p for p in group if p is not a and p is not b]
            group.append(self.join(a, b, test))

    def unite(self, a, b, rho):
        small_a, small_b = (self.images(*g) < self.min_images for g in (a, b))
        if small_a and small_b:
            return [self.join(a[0], b[0])]
        if small_a or small_b:
            return self.attach(a[0], b) if small_a else self.attach(b[0], a)
        return self.settle([*a, *b], rho)

    def run(self, merges, rho):
        """Return the groups that are left, one per tree of the forest, by their node."""
        n = len(self.population)
        groups = {
            i: [{"members": np.array([i]), "held": 0.0, "flow": 0.0, "tree": i}] for i in range(n)
        }
        for node, (a, b) in enumerate(merges, n):
            groups[node] = self.unite(groups.pop(a), groups.pop(b), rho)
        return groups

    def run_all(self, merges, rho):
        groups = sorted(self.run(merges, rho).values(), key=lambda g: -self.images(*g))
        united = groups[0]
        for group in groups[1:]:
            united = self.unite(united, group, rho)
        return united

    def join_on(self, clusters):
        left = self.settle(clusters, -1.0)
        left.sort(key=lambda p: (-self.images(p), p["members"].min()))
        top = left[0]
        for cluster in left[1:]:
            top = self.join(top, cluster)
            self.joins[-1] = (*self.joins[-1][:2], 0.0)


def problem(seed: int, n: int, density: float, largest: int):
    """Nodes on a line with unequal images, their graph and its dendrogram."""
    rng = np.random.default_rng(seed)
    row, col, weight = random_edges(seed, n, density, largest)
    position = np.arange(n)[:, None] + rng.random((n, 2)) * 0.5
    population = rng.integers(1, 30, n)
    nodes = make_nodes(position, population, graph_of(n, row, col, weight))
    flows = make_flow_graph(nodes, set_aside=bool(seed % 2))
    return nodes, flows, flow_merges(flows.graph)


def slow_rule(nodes, flows, min_images) -> SlowRule:
    dense = flows.nodes
    return SlowRule(
        flows.graph.to_sparse().toarray(),
        flows.level[dense],
        nodes.population[dense],
        nodes.position[dense],
        min_images,
    )


def pairs(merges: Merges):
    return list(zip(merges.left.tolist(), merges.right.tolist(), strict=True))
