"""Input of the tree: checked, coincident centroids collapsed, in an order that depends on values alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from workflow.errors import ConfigError
from workflow.graph import Graph
from workflow.numerics import edge_lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Squares of larger coordinates might overflow.
_LARGEST = 1e100


class Nodes(NamedTuple):
    """Distinct centroids and their graph; what every way of building the tree starts from.

    Attributes
    ----------
    position : float64 array of shape (n_nodes, n_components) [unit of the centroids]
        Distinct centroids in lexicographic order, so that ties are broken by
        values and never by the order in which centroids came.
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.
    node : int32 array of shape (n_centroids,)
        Node of each centroid.
    row, col : int64 arrays of shape (n_edges,)
        Edges with ``row < col``, in lexicographic order.
    weights_two : int64 array of shape (n_edges,) [images]
        Images whose two nearest centroids are the ends of the edge.
    weights : int64 array of shape (n_edges,) [images]
        Images that have both ends among their nearest three: the flow.
    """

    position: NDArray[np.float64]
    population: NDArray[np.int64]
    node: NDArray[np.int32]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    weights_two: NDArray[np.int64]
    weights: NDArray[np.int64]

    @property
    def n_nodes(self) -> int:
        """Number of distinct centroids."""
        return int(self.position.shape[0])


def make_nodes(centroids: ArrayLike, population: ArrayLike, graph: Graph) -> Nodes:
    """Check the input of the tree and collapse coincident centroids.

    Parameters
    ----------
    centroids : float array of shape (n_centroids, n_components) [unit of the scores]
        Centroids; finite.
    population : int array of shape (n_centroids,) [images]
        Images of each centroid, at least 1.
    graph : Graph
        Symmetric counts with zero diagonal; `weights_two` equals `weights`
        where it is not given.

    Returns
    -------
    Nodes
        The distinct centroids and the edges with a positive weight.

    Raises
    ------
    ConfigError
        If a shape or a value is not as above.

    Notes
    -----
    O(n_centroids log n_centroids + n_edges).  Populations and weights of
    coincident centroids are added, so a centroid split into two coincident
    halves gives the same nodes.
    """
    points = _check_centroids(centroids)
    images = _check_population(population, len(points))
    checked, weights_two = _check_graph(graph, len(points))
    # Adding 0.0 turns -0.0 into 0.0: they coincide but differ in their bits.
    position, node = _distinct(points + 0.0)
    total = np.zeros(len(position), np.int64)
    np.add.at(total, node, images)
    return Nodes(position, total, node, *_edges_between(checked, weights_two, node))


def edge_distances(
    position: NDArray[np.float64], row: NDArray[np.integer[Any]], col: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the length of each edge [unit of the scores], never below 1e-14 of the width of the data: one over it stays finite."""
    floor = max(1e-14 * float(np.ptp(position, axis=0).max(initial=0.0)), 1e-250)
    return np.maximum(edge_lengths(position, row, col), floor)


def _distinct(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the distinct rows in lexicographic order, and which of them each row is."""
    order = lexicographic_order(points)
    ordered = points[order]
    is_new = np.ones(len(points), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    node = np.empty(len(points), np.int32)
    node[order] = np.cumsum(is_new) - 1
    return ordered[is_new], node


def lexicographic_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order of rows by their first column, then by the next ones; equal rows stay in their order."""
    n_columns = 1
    while True:  # the first columns mostly tell all rows apart
        order = np.lexsort(points.T[:n_columns][::-1])
        rows = points[order, :n_columns]
        if n_columns >= points.shape[1] or (rows[1:] != rows[:-1]).any(axis=1).all():
            return order
        n_columns *= 4


def real_array(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return numbers as float64; ConfigError for complex ones, whose imaginary part would be lost."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        msg = f"{name} must hold real numbers; got {array.dtype}. Pass their real parts."
        raise ConfigError(msg)
    return array.astype(np.float64, copy=False)


def _check_centroids(centroids: ArrayLike) -> NDArray[np.float64]:
    """Return the centroids as float64 or say what is wrong with them."""
    points = real_array("centroids", centroids)
    if points.ndim != 2 or 0 in points.shape:
        msg = (
            f"centroids must have shape (n_centroids, n_components); got {points.shape}. "
            "Pass one row per centroid."
        )
        raise ConfigError(msg)
    usable = (np.abs(points) < _LARGEST).all(axis=1)  # also false for NaN
    if not usable.all():
        msg = (
            f"centroids must be finite and below {_LARGEST:g}; got another value first in "
            f"centroid {int(usable.argmin())}. Drop that centroid or scale the data."
        )
        raise ConfigError(msg)
    return points


def _check_population(population: ArrayLike, n_centroids: int) -> NDArray[np.int64]:
    """Return the populations as int64 or say what is wrong with them."""
    images: NDArray[Any] = np.asarray(population)
    if images.shape != (n_centroids,) or images.dtype.kind not in "iu":
        msg = (
            f"population must be integers of shape ({n_centroids},); "
            f"got {images.dtype} of shape {images.shape}. Pass the images per centroid."
        )
        raise ConfigError(msg)
    if images.min() < 1:
        msg = (
            f"population must be at least 1; got {images.min()} for centroid "
            f"{int(images.argmin())}. Drop empty centroids."
        )
        raise ConfigError(msg)
    return images.astype(np.int64)


def _check_graph(graph: Graph, n_centroids: int) -> tuple[Graph, NDArray[np.int64]]:
    """Return the graph as int64 and its weights of two, or say what is wrong with it."""
    parts = {name: np.asarray(part) for name, part in graph._asdict().items() if part is not None}
    for name, part in parts.items():
        if part.dtype.kind not in "biuf" or not (np.isfinite(part) & (part == np.rint(part))).all():
            msg = f"graph must hold whole numbers; got others as {name} ({part.dtype}). Pass counts of images."
            raise ConfigError(msg)
        parts[name] = part.astype(np.int64, copy=False)
    indptr, indices, weights = parts["indptr"], parts["indices"], parts["weights"]
    weights_two = parts.get("weights_two", weights)
    n_entries = len(indices)
    whole = (
        indptr.shape == (n_centroids + 1,)
        and indptr[0] == 0
        and indptr[-1] == n_entries
        and bool((np.diff(indptr) >= 0).all())
        and weights.shape == weights_two.shape == (n_entries,)
    )
    if not whole or (n_entries and not 0 <= indices.min() <= indices.max() < n_centroids):
        msg = (
            f"graph must be CSR arrays over {n_centroids} centroids; got indptr of shape "
            f"{indptr.shape}, {n_entries} indices. Build it from the same centroids."
        )
        raise ConfigError(msg)
    checked = Graph(indptr, indices, weights)
    if any((part < 0).any() or _is_skew(checked, part) for part in (weights, weights_two)):
        msg = (
            "graph weights must be symmetric counts of at least 0; got others. "
            "Add the transposed counts."
        )
        raise ConfigError(msg)
    return checked, weights_two


def _is_skew(graph: Graph, weights: NDArray[np.int64]) -> bool:
    """Return whether weights differ from their transpose; entries of one place add up."""
    shape = (graph.n_nodes, graph.n_nodes)
    matrix = sparse.csr_array((weights, graph.indices, graph.indptr), shape=shape)
    return bool((matrix - matrix.T).data.any())


def _edges_between(
    graph: Graph, weights_two: NDArray[np.int64], node: NDArray[np.int32]
) -> tuple[NDArray[np.int64], ...]:
    """Return the last four fields of `Nodes`; the edges of one pair of nodes add up."""
    row, col = node[graph.rows()].astype(np.int64), node[graph.indices].astype(np.int64)
    kept = (row < col) & (weights_two + graph.weights > 0)
    pair, place = np.unique(row[kept] * len(node) + col[kept], return_inverse=True)
    sums = np.zeros((2, len(pair)), np.int64)
    for total, weights in zip(sums, (weights_two, graph.weights), strict=True):
        np.add.at(total, place, weights[kept])
    return *np.divmod(pair, len(node)), *sums
