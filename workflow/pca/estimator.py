"""A scikit-learn style estimator over the moments, for NumPy and Dask arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from workflow.errors import ImagesError
from workflow.estimators import validated_rows
from workflow.pca._float_sums import centred_product, refuse_non_finite
from workflow.pca.arrays import (
    array_moments,
    as_array,
    delayed_moments,
    first_rows,
    flat,
    flat_blocks,
    rows_counted_from,
)
from workflow.pca.components import principal_components
from workflow.pca.moments import DEFAULT_RANK, IMAGE_DTYPES, merge_moments
from workflow.threads import one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from workflow.pca.states import MomentState


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal components of images, from one pass over them.

    Parameters
    ----------
    n_components : int, float or "auto"
        Number of components, a share of the variance between 0 and 1, or
        "auto": the minimum that keeps 99 % of the variance, between 2 and 50.
    whiten : bool
        Whether `transform` scales the scores to unit variance.
    rank : int
        Directions kept while more than 4,096 features are summed up.

    Attributes
    ----------
    n_components_ : int
        Number of components.
    components_ : float64 array of shape (n_components, n_features)
        Directions by falling variance, with fixed signs.
    mean_ : float64 array of shape (n_features,)
        Mean of each feature.
    explained_variance_ : float64 array of shape (n_components,)
        Variance along each component.
    explained_variance_ratio_ : float64 array of shape (n_components,)
        The same as a share of the total variance.
    singular_values_ : float64 array of shape (n_components,)
        Singular values of the centred rows.
    noise_variance_ : float
        Mean variance of the directions left out; 0 when there are none.
    n_features_in_ : int
        Features of a row, images flattened.
    feature_names_in_ : array of str of shape (n_features_in,)
        Their names, where `X` had some.
    n_samples_seen_ : int
        Rows seen since `fit`, or by all calls of `partial_fit`.
    moments_ : IntegerMoments, FloatMoments or LowRankMoments
        Moments of the rows.

    See Also
    --------
    workflow.pca.principal_components : The same from moments.

    Notes
    -----
    Dask arrays are read block by block: each block becomes moments where it
    lies, and moments merge eight at a time in the order of the blocks.
    uint8 and uint16 give the same bits for any blocks and any order;
    floating-point rows give the same bits for the same blocks.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (100, 4, 4, 3), dtype=np.uint8)
    >>> PCA(n_components=5).fit_transform(images).shape
    (100, 5)
    """

    def __init__(
        self,
        n_components: float | str = "auto",
        *,
        whiten: bool = False,
        rank: int = DEFAULT_RANK,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.rank = rank

    def fit(self, X: ArrayLike | da.Array, y: None = None) -> Self:
        """Find the components of these rows alone.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, ...)
            Rows or images; uint8, uint16, float16, float32 or float64, others
            are taken as float64.
        y : None
            Ignored.

        Returns
        -------
        PCA
            This estimator.

        Raises
        ------
        NonFiniteError
            If a value is NaN or infinite; names the first such row and feature.
        ValueError
            If `X` or a parameter does not fit.
        """
        del y
        return self._update(X, None)

    def partial_fit(self, X: ArrayLike | da.Array, y: None = None) -> Self:
        """Add rows to those seen so far; the result is that of all of them.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, ...)
            New rows, of the type and width of the first ones.
        y : None
            Ignored.

        Returns
        -------
        PCA
            This estimator.

        Raises
        ------
        ValueError
            As `fit`; also if the features are others than before.
        """
        del y
        return self._update(X, getattr(self, "moments_", None))

    def _update(self, X: ArrayLike | da.Array, seen: MomentState | None) -> Self:
        """Merge the moments of `X` into those seen and form the components anew."""
        rows = self._validated(X, reset=seen is None)
        shift = getattr(seen, "shift", None)
        if isinstance(rows, da.Array):
            (state,) = compute(delayed_moments(rows, shift=shift, rank=self.rank))
        else:
            state = array_moments(rows, shift=shift, rank=self.rank)
        if seen is not None:
            state = merge_moments(seen, state)
        found = principal_components(state, self.n_components)
        left_out = min(state.n_features, state.n_samples) - found.n_components
        rest = found.total_variance - math.fsum(found.explained_variance)
        self.moments_ = state
        self.n_samples_seen_ = state.n_samples
        self.mean_ = found.mean
        self.components_ = found.components
        self.explained_variance_ = found.explained_variance
        self.explained_variance_ratio_ = found.explained_variance_ratio
        self.singular_values_ = found.singular_values
        self.n_components_ = found.n_components
        self.noise_variance_ = max(0.0, rest / left_out) if left_out > 0 else 0.0
        return self

    def transform(self, X: ArrayLike | da.Array) -> NDArray[Any] | da.Array:
        """Project rows on the components.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, ...)
            Rows or images.

        Returns
        -------
        array of shape (n_samples, n_components)
            Scores, computed in float64; given as float32 for float16 and
            float32 rows.  A lazy Dask array for a Dask array.  A data frame
            where `set_output` asks for one, in memory.

        Raises
        ------
        NonFiniteError
            If a value is NaN or infinite; of a Dask array, when it is computed.
        ValueError
            If the features are not those that were fitted.
        """
        check_is_fitted(self, "components_")
        rows = self._validated(X, reset=False)
        dtype = np.dtype(np.float32 if rows.dtype.name in ("float16", "float32") else np.float64)
        basis = np.ascontiguousarray((self.components_ * self._scale()[:, None]).T)
        if not isinstance(rows, da.Array):
            return _scores(rows, [0], self.mean_, basis, dtype)
        scores: da.Array = da.map_blocks(
            _scores,
            rows,
            first_rows(rows),
            delayed(self.mean_),
            delayed(basis),
            dtype,
            dtype=dtype,
            chunks=(rows.chunks[0], (self.n_components_,)),
            meta=np.empty((0, 0), dtype),
        )
        return scores

    def inverse_transform(self, X: ArrayLike | da.Array) -> NDArray[Any] | da.Array:
        """Give the rows that have these scores.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, n_components)
            Scores, as `transform` gives them.

        Returns
        -------
        float64 array of shape (n_samples, n_features_in)
            Rows; images stay flat.  A lazy Dask array for a Dask array.

        Raises
        ------
        ValueError
            If `X` is of another shape or not finite.
        """
        check_is_fitted(self, "components_")
        scores = as_array(X)
        if scores.shape[1:] != (self.n_components_,) or scores.dtype.kind not in "iuf":
            msg = f"`X` must hold real numbers of shape (n_samples, {self.n_components_}); got {scores.dtype} of shape {scores.shape}. Pass what `transform` gave."
            raise ImagesError(msg)
        scale = np.sqrt(self.explained_variance_) if self.whiten else np.ones(self.n_components_)
        basis = self.components_ * scale[:, None]
        if not isinstance(scores, da.Array):
            return _rows(scores, self.mean_, basis)
        rows: da.Array = da.map_blocks(
            _rows,
            scores,
            delayed(self.mean_),
            delayed(basis),
            dtype=np.float64,
            chunks=(scores.chunks[0], (self.n_features_in_,)),
            meta=np.empty((0, 0)),
        )
        return rows

    def _validated(self, X: ArrayLike | da.Array, *, reset: bool) -> Any:
        """Check rows or images and return them as rows."""
        if isinstance(X, da.Array):
            X = flat_blocks(as_array(X))
        elif isinstance(X, list | tuple) or getattr(X, "ndim", 2) > 2:
            X = np.asanyarray(X)
            X = flat(X) if X.ndim > 2 else X
        # What is not finite is named later, by its row and feature.
        return validated_rows(self, X, reset=reset, dtypes=IMAGE_DTYPES, finite=False)

    def _scale(self) -> NDArray[np.float64]:
        """Return the factor of each score: one over its deviation where whitened, 0 without any."""
        scale = np.ones(self.n_components_)
        if self.whiten:
            varies = self.explained_variance_ > 0.0
            scale[varies] = 1.0 / np.sqrt(self.explained_variance_[varies])
            scale[~varies] = 0.0
        return scale

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` gives, for the names of its features."""
        return self.n_components_


def _scores(
    rows: NDArray[Any],
    starts: list[int | None],
    mean: NDArray[np.float64],
    basis: NDArray[np.float64],
    dtype: np.dtype[Any],
    block_id: tuple[int, ...] = (0,),
) -> NDArray[Any]:
    """Project a block of rows; what is not finite leaves no finite score, and is refused."""
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        scores = centred_product(rows, mean, basis)
    if not np.isfinite(scores).all():
        with rows_counted_from(starts[block_id[0]]):
            refuse_non_finite(rows)
    return scores.astype(dtype, copy=False)


def _rows(
    scores: NDArray[Any], mean: NDArray[np.float64], basis: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the rows of a block of scores."""
    assert_all_finite(scores, input_name="X")
    with one_blas_thread():
        return centred_product(scores, np.zeros(len(basis)), basis) + mean
