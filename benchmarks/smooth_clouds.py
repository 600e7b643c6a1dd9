"""Make the table of communities of smooth clouds that families are tested against.

    python -m benchmarks.smooth_clouds          # some 20 minutes on two cores

Clouds of 20,000 points without structure: uniform on a torus, which has one density and no faces, and
two that are steep, one-sided exponential and Student's t with three degrees of freedom.  Communities
by the map equation, and by modularity at several resolutions for the sizes that it does not make.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from workflow.families.ambient import ambient_dimension, representatives
from workflow.families.find import measure
from workflow.families.methods import MapEquation, Modularity
from workflow.families.neighbor_graph import N_NEIGHBORS, neighbor_graph
from workflow.families.smooth import TABLE, log_odds

N_POINTS, SEED = 20_000, 11
DIMENSIONS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28)
#: The steep clouds are made in these only, and count for those between.
STEEP = (2, 3, 5, 7, 10, 14, 20)
RESOLUTIONS = (1.0, 4.0, 8.0, 32.0, 128.0, 512.0)
METHODS = (MapEquation(), *(Modularity(resolution) for resolution in RESOLUTIONS))
#: Bounds of the sizes that are taken together.
SIZES = np.array([3, 4, 6, 9, 13, 18, 26, 37, 52, 75, 105, 150, 210, 300])
MIDDLES = np.sqrt(SIZES * np.append(SIZES[1:] - 1.0, 450.0))
#: Fewest communities that a mean or the lowest half per cent is taken of.
FEWEST, FEWEST_STEEP = 30, 4
TAIL = 0.005


def torus(dimension, seed=SEED):
    angle = 2 * np.pi * np.random.default_rng([seed, dimension]).random((N_POINTS, dimension))
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def exponential(dimension, seed=SEED):
    return np.random.default_rng([seed, dimension, 1]).exponential(size=(N_POINTS, dimension))


def student(dimension, seed=SEED):
    rng = np.random.default_rng([seed, dimension, 2])
    normal = rng.standard_normal((N_POINTS, dimension))
    return normal / np.sqrt(rng.chisquare(3, (N_POINTS, 1)) / 3)


def brute_force(rows, n_neighbors=N_NEIGHBORS, block=512):
    """Nearest neighbours by comparing all with all."""
    rows = (rows - rows.mean(axis=0)).astype(np.float32)
    norms = np.einsum("ij,ij->i", rows, rows)
    index = np.empty((len(rows), n_neighbors), np.int32)
    distance = np.empty((len(rows), n_neighbors), np.float32)
    n_candidates = min(n_neighbors + 5, len(rows) - 1)
    for start in range(0, len(rows), block):
        part = np.arange(start, min(start + block, len(rows)))
        squared = norms - 2 * (rows[part] @ rows.T)
        squared[np.arange(len(part)), part] = np.inf
        found = np.argpartition(squared, n_candidates, axis=1)[:, :n_candidates]
        difference = (rows[found] - rows[part, None]).astype(np.float64)
        length = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference)).astype(np.float32)
        order = np.lexsort((found, length), axis=1)[:, :n_neighbors]
        index[part] = np.take_along_axis(found, order, axis=1)
        distance[part] = np.take_along_axis(length, order, axis=1)
    return index, distance


def communities(cloud):
    """Size, log odds of the conductance and dimension around of all communities of a cloud."""
    graph = neighbor_graph(*brute_force(cloud))
    found = []
    for method in METHODS:
        community = method.find(graph)
        size, conductance = measure(graph, community)[:2]
        around = ambient_dimension(cloud[representatives(community)])
        kept = (conductance > 0) & (conductance < 1) & np.isfinite(around)
        found.append(np.stack([size, log_odds(conductance), around], axis=1)[kept])
    return found[0], np.concatenate(found)


def by_size(values, sizes, statistic, fewest=FEWEST):
    """Statistic of the log odds in each bin of sizes; NaN of too few."""
    place = np.searchsorted(SIZES, sizes, side="right") - 1
    return np.array(
        [
            statistic(values[place == i]) if np.count_nonzero(place == i) >= fewest else np.nan
            for i in range(len(SIZES))
        ]
    )


def filled(row, fall=0.0):
    """Fill missing values from the nearest known ones; beyond the largest size they fall."""
    known = np.flatnonzero(np.isfinite(row))
    beyond = np.maximum(np.log(MIDDLES) - np.log(MIDDLES[known[-1]]), 0)
    return np.interp(np.arange(len(row)), known, row[known]) - fall * beyond


def tail(values):
    return np.quantile(values, TAIL)


def below(values):
    """How far the lowest of a steep cloud lie below a mean of 0, in units of the normal's tail."""
    return np.quantile(values, TAIL, method="lower") / ndtri(TAIL)


def main():
    """Write the table."""
    flat = {d: communities(torus(d)) for d in DIMENSIONS}
    key = np.array([np.median(flat[d][0][:, 2]) for d in DIMENSIONS])
    # Surface over volume: beyond the sizes that were made, the odds fall by the root of the dimension.
    center = np.array(
        [filled(by_size(a[:, 1], a[:, 0], np.mean), 1 / d) for d, (_, a) in flat.items()]
    )
    low = [by_size(a[:, 1], a[:, 0], tail) for _, a in flat.values()]
    spread = np.array([filled((c - t) / -ndtri(TAIL)) for c, t in zip(center, low, strict=True)])
    for d in STEEP:
        for cloud in (exponential, student):
            _, a = communities(cloud(d))
            # Read at the dimension that each community has around it, not at that of the cloud.
            row = np.argmin(np.abs(np.log(key)[:, None] - np.log(a[:, 2])), axis=0)
            for place in range(len(key)):
                here = a[row == place]
                against = here[:, 1] - np.interp(np.log(here[:, 0]), np.log(MIDDLES), center[place])
                worst = by_size(against, here[:, 0], below, FEWEST_STEEP)
                spread[place] = np.fmax(spread[place], worst)
    lines = ["dimension,size,center,spread"]
    for i, d in enumerate(key):
        for j, m in enumerate(MIDDLES):
            lines.append(f"{d:.3f},{m:.1f},{center[i, j]:.3f},{spread[i, j]:.3f}")
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
