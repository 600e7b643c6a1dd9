"""Families: communities of the graph of the images that a smooth cloud does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow.families._graph_kernels import weight_inside
from workflow.families.ambient import ambient_dimension, representatives, touching_dimension
from workflow.families.methods import MapEquation
from workflow.families.neighbor_graph import N_NEIGHBORS, local_scales, neighbor_graph
from workflow.families.smooth import against_smooth, benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.families.methods import Method
    from workflow.graph import Graph

#: Fewest and most images of a family: far beyond the sizes of the table nothing can be told.
MIN_SIZE, MAX_SIZE = 3, 1_000
#: Expected share of false families among those that pass.
SIGNIFICANCE = 0.01
#: An image whose scale is larger than that of its neighbours by more than this lies alone.
MAX_SPARSITY = 1.7
#: Exemplars of a family.
N_EXEMPLARS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Families:
    """Groups of images of the same source.

    Attributes
    ----------
    family : int32 array of shape (n_samples,)
        Family of each image, from 0, the largest first; -1 for none.
    strength : float32 array of shape (n_samples,)
        Share of the weight of an image's edges that stays in its family, 0 to
        1; 0 for images of none.
    size : int64 array of shape (n_families,) [images]
        Images of each family.
    conductance : float64 array of shape (n_families,)
        Weight that leaves its community over the weight of its images.
    expected : float64 array of shape (n_families,)
        What that is in a smooth cloud of the same dimension, of the same size.
    dimension : float64 array of shape (n_families,)
        Dimension around the family.
    p : float64 array of shape (n_families,)
        How probable a conductance as low is in a smooth cloud.
    exemplars : int64 array of shape (n_families, 5)
        Rows of its most central images, most central first; -1 where fewer.
    n_tested : int
        Communities that were tested.
    state : {"found", "none", "untested"}
        Whether there are families; untested where there are too few images.
    """

    family: NDArray[np.int32]
    strength: NDArray[np.float32]
    size: NDArray[np.int64]
    conductance: NDArray[np.float64]
    expected: NDArray[np.float64]
    dimension: NDArray[np.float64]
    p: NDArray[np.float64]
    exemplars: NDArray[np.int64]
    n_tested: int
    state: Literal["found", "none", "untested"]

    @property
    def n_families(self) -> int:
        """Number of families."""
        return len(self.size)


def find_families(
    index: NDArray[np.int32],
    distance: NDArray[np.float32],
    read_rows: Callable[[NDArray[np.int64]], NDArray[Any]],
    *,
    method: Method | None = None,
    significance: float = SIGNIFICANCE,
    max_sparsity: float = MAX_SPARSITY,
) -> Families:
    """Find the communities of the images that a smooth cloud does not have.

    Parameters
    ----------
    index : int32 array of shape (n_samples, n_neighbors)
        Nearest neighbours of each image, by (distance, index), not itself; -1
        where missing.  The first 15 are used; fewer than 15 columns are only
        allowed of fewer than 16 images.
    distance : float32 array of shape (n_samples, n_neighbors) [score]
        Their distances, infinite where missing.
    read_rows : callable
        Returns the scores of some images, given their rows, as an array of
        shape (n_rows, n_components).  One image of each community is asked for.
    method : Method, optional
        How to find communities; the map equation if None.
    significance : float
        Expected share of false families among those found.
    max_sparsity : float
        Images whose distance to the seventh neighbour is more than this many
        times the median of that of their neighbours lie alone.

    Returns
    -------
    Families
        Nothing is drawn: the same arrays give the same families.

    Raises
    ------
    ValueError
        If the arrays are not as above.

    Notes
    -----
    In a smooth cloud the graph looks the same everywhere, whatever the density,
    and the conductance of a community depends on the dimension and its size
    alone.  A community is kept if its own is lower than chance allows
    (`workflow.families.smooth`), corrected for how many are tested.  The
    dimension is that at the distance of the next communities, or the lower one
    of how many communities it touches (`workflow.families.ambient`).  Memory is some 40 bytes an edge.
    """
    _check(index, distance)
    graph = neighbor_graph(index, distance)
    community = (method or MapEquation()).find(graph)
    size, conductance, inside, total = measure(graph, community)
    dimension = np.minimum(
        ambient_dimension(read_rows(representatives(community))),
        touching_dimension(graph, community),
    )
    tested = tested_communities(size, conductance, dimension, significance)
    member = tested.passed[community] & ~lies_alone(index, distance, max_sparsity)
    kept, number = numbered(np.bincount(community[member], minlength=len(size)))
    family = np.where(member, number[community], -1).astype(np.int32)
    strength = np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)
    return Families(
        family=family,
        strength=np.where(family >= 0, strength, 0).astype(np.float32),
        size=np.bincount(family[family >= 0], minlength=len(kept)),
        conductance=conductance[kept],
        expected=tested.expected[kept],
        dimension=dimension[kept],
        p=tested.p[kept],
        exemplars=central(family, inside, len(kept)),
        n_tested=tested.n_tested,
        state=tested.state(len(kept)),
    )


class Tested(NamedTuple):
    """What the test says of communities.

    Attributes
    ----------
    expected, p : float64 arrays of shape (n_communities,)
        Conductance of such a community of a smooth cloud, and how probable
        one as low is there; 1 where it was not tested.
    passed : bool array of shape (n_communities,)
        Those that a smooth cloud does not have.
    n_tested : int
        Communities that were tested.
    """

    expected: NDArray[np.float64]
    p: NDArray[np.float64]
    passed: NDArray[np.bool_]
    n_tested: int

    def state(self, n_families: int) -> Literal["found", "none", "untested"]:
        """Return what is said of so many families."""
        if not self.n_tested:
            return "untested"
        return "found" if n_families else "none"


def tested_communities(
    size: NDArray[np.int64],
    conductance: NDArray[np.float64],
    dimension: NDArray[np.float64],
    significance: float,
) -> Tested:
    """Compare all communities with those of a smooth cloud.

    Parameters
    ----------
    size : int64 array of shape (n_communities,) [images]
        Their sizes.
    conductance, dimension : float64 arrays of shape (n_communities,)
        What each has, and the dimension around it; NaN where that is unknown.
    significance : float
        Expected share of false families among those that pass.

    Returns
    -------
    Tested
        Corrected for how many are tested.
    """
    tested = (size >= MIN_SIZE) & (size <= MAX_SIZE) & np.isfinite(dimension)
    expected, p = np.ones(len(size)), np.ones(len(size))
    expected[tested], p[tested] = against_smooth(
        conductance[tested], size[tested], dimension[tested]
    )
    passed = np.zeros(len(size), bool)
    passed[tested] = benjamini_hochberg(p[tested], significance)
    return Tested(expected, p, passed, int(np.count_nonzero(tested)))


def numbered(left: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Give numbers to the communities that are families, the largest first.

    Parameters
    ----------
    left : int64 array of shape (n_communities,) [images]
        Images of each that are no lone ones; 0 for those that have not passed.

    Returns
    -------
    kept : int64 array of shape (n_families,)
        Communities in the order of their numbers.
    number : int32 array of shape (n_communities,)
        Number of each, -1 for none.
    """
    kept = np.flatnonzero(left >= MIN_SIZE)
    kept = kept[np.argsort(-left[kept], kind="stable")]
    number = np.full(len(left), -1, np.int32)
    number[kept] = np.arange(len(kept))
    return kept, number


def measure(
    graph: Graph, community: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return size and conductance of communities, and the weight of each image inside and in all.

    Parameters
    ----------
    graph : Graph
        The graph of the images.
    community : int64 array of shape (n_samples,)
        Community of each image; every number from 0 is used.

    Returns
    -------
    size, conductance : arrays of shape (n_communities,)
        As `conductances` gives them.
    inside, total : float64 arrays of shape (n_samples,)
        Weight of the edges of an image to its own community, and of all.
    """
    inside, total = weight_inside(graph, community), graph.weight_sums()
    return *conductances(community, inside, total), inside, total


def conductances(
    community: NDArray[np.int64], inside: NDArray[np.float64], total: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return size and conductance of communities.

    Parameters
    ----------
    community : int64 array of shape (n_samples,)
        Community of each image; every number from 0 is used.
    inside, total : float64 arrays of shape (n_samples,)
        Weight of the edges of an image to its own community, and of all.

    Returns
    -------
    size : int64 array of shape (n_communities,) [images]
        Images of each community.
    conductance : float64 array of shape (n_communities,)
        Weight that leaves it over the weight of its images; 1 without edges.
    """
    volume, held = np.bincount(community, total), np.bincount(community, inside)
    share = np.divide(held, volume, out=np.zeros_like(held), where=volume > 0)
    return np.bincount(community), 1 - share


def lies_alone(
    index: NDArray[np.int32], distance: NDArray[np.float32], max_sparsity: float
) -> NDArray[np.bool_]:
    """Return which images lie in a much sparser place than their neighbours.

    Parameters
    ----------
    index, distance : arrays of shape (n_samples, n_neighbors)
        As for `find_families`.
    max_sparsity : float
        Largest ratio of their scale to the median of their neighbours'.

    Returns
    -------
    bool array of shape (n_samples,)
        Images without neighbours do, exact copies of each other do not.
    """
    scale = local_scales(distance)
    return lies_alone_among(index[:, :N_NEIGHBORS], scale, scale, max_sparsity)


def lies_alone_among(
    index: NDArray[np.integer[Any]],
    own_scale: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]],
    max_sparsity: float,
) -> NDArray[np.bool_]:
    """Return which of some images lie in a much sparser place than their neighbours.

    Parameters
    ----------
    index : int array of shape (n_rows, n_neighbors)
        Neighbours of these images.
    own_scale : float array of shape (n_rows,) [score]
        Their scales, by `local_scales`.
    scale : float array of shape (n_samples,) [score]
        Scales of all images.
    max_sparsity : float
        As for `lies_alone`.

    Returns
    -------
    bool array of shape (n_rows,)
        As of `lies_alone`.
    """
    n_known = (index >= 0).sum(axis=1)
    around = np.sort(np.where(index >= 0, scale[index], np.inf), axis=1)
    middle = np.maximum([(n_known - 1) // 2, n_known // 2], 0)
    median = np.take_along_axis(around, middle.T, axis=1).mean(axis=1, dtype=np.float64)
    is_alone: NDArray[np.bool_] = (n_known == 0) | (own_scale > max_sparsity * median)
    return is_alone


def central(
    family: NDArray[np.integer[Any]], inside: NDArray[np.float64], n_families: int
) -> NDArray[np.int64]:
    """Return the most central members of each family.

    Parameters
    ----------
    family : int array of shape (n_samples,)
        Family of each image; -1 for none.
    inside : float64 array of shape (n_samples,)
        Weight of the edges of an image to its own community.
    n_families : int
        Number of families.

    Returns
    -------
    int64 array of shape (n_families, 5)
        Those with most weight inside, of equals the first; -1 where fewer.
    """
    order = np.lexsort((-inside, family))
    order = order[np.count_nonzero(family < 0) :]
    start = np.searchsorted(family[order], np.arange(n_families + 1))
    place = start[:-1, None] + np.arange(N_EXEMPLARS)
    there = place < start[1:, None]
    return np.where(there, order[np.where(there, place, 0)] if len(order) else -1, -1)


def _check(index: NDArray[Any], distance: NDArray[Any]) -> None:
    """Raise ValueError unless these are lists of neighbours."""
    n_samples = len(index)
    if index.ndim != 2 or index.shape != distance.shape:
        msg = (
            "`index` and `distance` must both be of shape (n_samples, n_neighbors); "
            f"got {index.shape} and {distance.shape}. Pass those of one search."
        )
        raise ValueError(msg)
    if index.shape[1] < min(N_NEIGHBORS, n_samples - 1):
        msg = (
            f"families need {N_NEIGHBORS} neighbours of each image; got {index.shape[1]} of "
            f"{n_samples} images. Set neighbors.k to at least {N_NEIGHBORS}."
        )
        raise ValueError(msg)
    if n_samples and not (index.min(initial=0) >= -1 and index.max(initial=-1) < n_samples):
        msg = (
            f"`index` must hold rows of the {n_samples} images or -1; got {index.min()} to "
            f"{index.max()}. Pass the neighbours among the same images."
        )
        raise ValueError(msg)
