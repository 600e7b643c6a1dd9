"""Input of the tree: checked, coincident centroids collapsed, in an order that depends on values alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from workflow.errors import ConfigError

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
    pairs : int64 array of shape (n_edges,) [images]
        Images whose two nearest centroids are the ends of the edge.
    triples : int64 array of shape (n_edges,) [pairs of images]
        The same over all three pairs of the nearest three; equal to `pairs`
        where no second array of weights was given.
    """

    position: NDArray[np.float64]
    population: NDArray[np.int64]
    node: NDArray[np.int32]
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    pairs: NDArray[np.int64]
    triples: NDArray[np.int64]

    @property
    def n_nodes(self) -> int:
        """Number of distinct centroids."""
        return int(self.position.shape[0])


def make_nodes(centroids: ArrayLike, population: ArrayLike, graph: tuple[ArrayLike, ...]) -> Nodes:
    """Check the input of the tree and collapse coincident centroids.

    Parameters
    ----------
    centroids : float array of shape (n_centroids, n_components) [unit of the scores]
        Centroids; finite.
    population : int array of shape (n_centroids,) [images]
        Images of each centroid, at least 1.
    graph : tuple of (indptr, indices, weights) or (indptr, indices, weights, weights_of_three)
        Symmetric CSR of counts with zero diagonal.

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
    indptr, indices, weights = _check_graph(graph, len(points))
    # Adding 0.0 turns -0.0 into 0.0: they coincide but differ in their bits.
    position, inverse = np.unique(points + 0.0, axis=0, return_inverse=True)
    node = inverse.reshape(-1).astype(np.int32)
    n_nodes = len(position)
    total = np.zeros(n_nodes, np.int64)
    np.add.at(total, node, images)
    start = np.repeat(node, np.diff(indptr)).astype(np.int64)
    stop = node[indices].astype(np.int64)
    upper = start < stop
    edges = [_collapse_edges(start[upper], stop[upper], w[upper], n_nodes) for w in weights]
    present = (edges[0] + edges[-1]).tocoo()
    order = np.lexsort((present.col, present.row))
    row, col = present.row[order].astype(np.int64), present.col[order].astype(np.int64)
    pairs, triples = (_lookup(edges[i], row, col) for i in (0, -1))
    return Nodes(position, total, node, row, col, pairs, triples)


def _check_centroids(centroids: ArrayLike) -> NDArray[np.float64]:
    """Return the centroids as float64 or say what is wrong with them."""
    points = np.asarray(centroids, np.float64)
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


def _check_graph(
    graph: tuple[ArrayLike, ...], n_centroids: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return indptr, indices and one or two arrays of weights, or say what is wrong with them."""
    if len(graph) not in {3, 4}:
        msg = (
            f"graph must be (indptr, indices, weights) or with weights of three; got {len(graph)} "
            "arrays. Pass the CSR arrays of the centroid graph."
        )
        raise ConfigError(msg)
    indptr, indices, *weights = (np.asarray(part, np.int64) for part in graph)
    n_entries = len(indices)
    whole = (
        indptr.shape == (n_centroids + 1,)
        and indptr[0] == 0
        and indptr[-1] == n_entries
        and bool((np.diff(indptr) >= 0).all())
        and all(w.shape == (n_entries,) for w in weights)
    )
    if not whole or (n_entries and not 0 <= indices.min() <= indices.max() < n_centroids):
        msg = (
            f"graph must be CSR arrays over {n_centroids} centroids; got indptr of shape "
            f"{indptr.shape}, {n_entries} indices. Build it from the same centroids."
        )
        raise ConfigError(msg)
    for w in weights:
        matrix = sparse.csr_array((w, indices, indptr), shape=(n_centroids, n_centroids))
        if n_entries and (w.min() < 0 or abs(matrix - matrix.T).max() != 0):
            msg = (
                "graph weights must be symmetric counts of at least 0; got others. "
                "Add the transposed counts."
            )
            raise ConfigError(msg)
    return indptr, indices, weights


def _collapse_edges(
    row: NDArray[np.int64], col: NDArray[np.int64], weight: NDArray[np.int64], n_nodes: int
) -> sparse.csr_array:
    """Add up the weights between nodes; entries of weight 0 are dropped."""
    matrix = sparse.coo_array((weight, (row, col)), shape=(n_nodes, n_nodes)).tocsr()
    matrix.eliminate_zeros()
    return matrix


def _lookup(
    matrix: sparse.csr_array, row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the entries of `matrix` at (row, col)."""
    found = np.zeros(len(row), np.int64)
    entries = matrix.tocoo()
    width = matrix.shape[0]
    place = np.searchsorted(row * width + col, entries.row.astype(np.int64) * width + entries.col)
    found[place] = entries.data
    return found
