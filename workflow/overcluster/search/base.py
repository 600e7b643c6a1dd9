"""What every search is, and what all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Answer = tuple[NDArray[np.integer[Any]], NDArray[np.floating[Any]]]

#: Centroids looked at to choose the precision of products, and how many of them at a time.
PRECISION_SAMPLE, PRECISION_BATCH = 256, 8
#: Share of the squared spacing of centroids that rounding may blur before float64 is taken.
MAX_BLUR = 0.02


class CenteredCentroids(NamedTuple):
    """Centroids made ready for products.

    Attributes
    ----------
    centroids : float32 or float64 array of shape (n_centroids, n_features)
        The centroids, C-contiguous [score].
    shift : float64 array of shape (n_features,)
        Their mean [score].
    scale : float
        Power of two by which their spread becomes about 1.
    scaled : float64 array of shape (n_centroids, n_features)
        The centroids with the mean taken off, scaled.
    dtype : dtype
        float32, or float64 where float32 could blur the spacing of centroids.
    blurred : float
        Mean share of the centroids that float32 cannot tell from the one
        nearest to a centroid.
    """

    centroids: NDArray[Any]
    shift: NDArray[np.float64]
    scale: float
    scaled: NDArray[np.float64]
    dtype: np.dtype[Any]
    blurred: float


class Search(Protocol):
    """An exact search for the nearest centroids of rows.

    Whatever the way, the answer is the one that comparing every row with every
    centroid in float64 by direct difference gives (`pair_sq_distances`), ties
    to the lower index, to the last bit.  It depends neither on the other rows
    of a call, nor on the number of BLAS threads, nor on the processor.
    """

    #: Word for the search among stored arrays.
    name: ClassVar[str]

    @property
    def centroids(self) -> NDArray[Any]:
        """The centroids, of shape (n_centroids, n_features) [score]."""

    @classmethod
    def build(cls, centered: CenteredCentroids) -> Self:
        """Prepare a search.

        Parameters
        ----------
        centered : CenteredCentroids
            The centroids.

        Returns
        -------
        Search
            The search among them.
        """

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, to share with tasks.

        Returns
        -------
        dict of str to ndarray
            Arrays by name.
        """

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the search whose arrays these are; costs nothing.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave, and others.

        Returns
        -------
        Search
            The same search.
        """

    def query(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k nearest centroids of each row.

        Parameters
        ----------
        rows : float32 or float64 array of shape (n_samples, n_features)
            Rows [score].
        k : int
            How many centroids to find, at least 1.

        Returns
        -------
        nearest : int32 array of shape (n_samples, k)
            Centroids by rising distance; -1 where there are fewer than `k`.
        sq_distance : float32 array of shape (n_samples, k)
            Squared distances [score squared]; infinite where there is none.

        Raises
        ------
        ValueError
            If a row is not finite.
        """


def center_centroids(centroids: NDArray[Any]) -> CenteredCentroids:
    """Make centroids ready for products.

    Parameters
    ----------
    centroids : float array of shape (n_centroids, n_features)
        At least one centroid, all finite; float64 stays float64, other types
        become float32 [score].

    Returns
    -------
    CenteredCentroids
        With the precision that products among them need.
    """
    centroids = np.ascontiguousarray(as_float_rows(centroids))
    shift = centroids.mean(axis=0, dtype=np.float64)
    scaled = centroids - shift
    spread = float(np.abs(scaled).max())
    scale = 2.0 ** -np.frexp(spread)[1] if spread > 0 else 1.0
    scaled *= scale
    return CenteredCentroids(centroids, shift, scale, scaled, *_precision(scaled))


def as_float_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows as float64 where they are, as float32 otherwise.

    Parameters
    ----------
    rows : array_like
        Rows of any type of number.

    Returns
    -------
    float32 or float64 array of the same shape
        The rows themselves where they are of such a type.

    Raises
    ------
    ValueError
        If they are complex.
    """
    rows = np.asarray(rows)
    if rows.dtype.kind == "c":
        msg = f"rows must hold real numbers; got {rows.dtype}. Pass their real parts."
        raise ValueError(msg)
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)


def relative_roundoff(n_features: int, dtype: Any) -> float:
    """Bound the relative error of a product of this depth, its inputs rounded, too.

    Parameters
    ----------
    n_features : int
        Features that are multiplied and added.
    dtype : dtype
        Type of the product.

    Returns
    -------
    float
        ``n u`` with unit roundoff ``u`` and some room ([1]_, section 3.1).

    References
    ----------
    .. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
       2nd edition, SIAM, 2002.
    """
    return float(1.25 * (n_features + 8) * np.finfo(dtype).eps / 2)


def answer_in_batches(
    answer: Callable[[NDArray[Any], int], Answer],
    rows: NDArray[Any],
    k: int,
    n_centroids: int,
    batch_rows: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return what `Search.query` does, some rows at a time: memory does not grow with them.

    Parameters
    ----------
    answer : callable
        Takes C-contiguous rows and how many centroids to find, at most as many
        as there are; returns centroids and squared distances.
    rows : float array of shape (n_samples, n_features)
        Rows [score].
    k : int
        How many centroids to find.
    n_centroids : int
        How many there are.
    batch_rows : int
        Rows of one call of `answer`.

    Returns
    -------
    nearest : int32 array of shape (n_samples, k)
        Centroids; -1 where there is none.
    sq_distance : float32 array of shape (n_samples, k)
        Squared distances; infinite where there is none [score squared].
    """
    nearest = np.full((rows.shape[0], k), -1, dtype=np.int32)
    sq_distance = np.full((rows.shape[0], k), np.inf, dtype=np.float32)
    n_found = min(k, n_centroids)
    for start in range(0, rows.shape[0], batch_rows):
        batch = slice(start, start + batch_rows)
        found = answer(np.ascontiguousarray(rows[batch]), n_found)
        nearest[batch, :n_found], sq_distance[batch, :n_found] = found
    return nearest, sq_distance


def require_finite(rows: NDArray[Any], sq_norm: NDArray[np.float64]) -> None:
    """Raise ValueError for the first row whose squared norm is not finite, showing its beginning."""
    bad = np.flatnonzero(~np.isfinite(sq_norm))
    if bad.size:
        msg = (
            "`rows` must hold finite values whose squares can be added; "
            f"got {rows[bad[0]].tolist()[:4]}... Repair or drop that row."
        )
        raise ValueError(msg)


def _precision(scaled: NDArray[np.float64]) -> tuple[np.dtype[Any], float]:
    """Return the type of products, float64 where float32 could blur the spacing of more than one in twenty centroids, and `CenteredCentroids.blurred`."""
    n_centroids, n_features = scaled.shape
    step = -(-n_centroids // PRECISION_SAMPLE)
    sq_norm = np.einsum("ij,ij->i", scaled, scaled)
    sampled = np.arange(0, n_centroids, step)
    blur = 4 * relative_roundoff(n_features, np.float32) * sq_norm[sampled]
    nearest, n_alike = np.empty(len(sampled)), np.empty(len(sampled))
    # A few at a time: their distances then stay in the cache.
    for start in range(0, len(sampled), PRECISION_BATCH):
        batch = slice(start, start + PRECISION_BATCH)
        some = sampled[batch]
        sums = sq_norm + sq_norm[some, None]
        spacing = scaled[some] @ scaled.T
        spacing *= -2
        spacing += sums
        sums *= 1e-12
        # Coincident centroids say nothing about spacing, nor does a centroid about itself.
        spacing[spacing <= sums] = np.inf
        nearest[batch] = spacing.min(axis=1)
        reach = nearest[batch] + blur[batch]
        alike = (spacing > nearest[batch, None]) & (spacing <= reach[:, None])
        n_alike[batch] = np.count_nonzero(alike, axis=1)
    is_blurred = blur > MAX_BLUR * nearest
    dtype = np.dtype(np.float64 if is_blurred.mean() > 0.05 else np.float32)
    return dtype, float(n_alike.mean() / n_centroids)
