"""Principal components of moments, with fixed signs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow.errors import ConfigError, ImagesError
from workflow.pca.moments import mean_and_scatter
from workflow.pca.states import FloatMoments, LowRankMoments
from workflow.threads import one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.pca.states import IntegerMoments, MomentState

#: "auto" keeps this share of the variance, within these numbers of components.
AUTO_VARIANCE_KEPT = 0.99
AUTO_MIN_COMPONENTS, AUTO_MAX_COMPONENTS = 2, 50
#: Entries of a component this close to its largest, relatively, count as equally large.
_SIGN_TIE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalComponents:
    """Directions of largest variance.

    Attributes
    ----------
    n_samples : int
        Number of rows they were made from.
    mean : float64 array of shape (n_features,)
        Mean of each feature [input unit].
    components : float64 array of shape (n_components, n_features)
        Directions of length one, by falling variance.  Of the entries that
        are largest in size, the one with the lowest index is positive.
    explained_variance : float64 array of shape (n_components,)
        Variance along each, with ``n_samples - 1`` [input unit squared].
    explained_variance_ratio : float64 array of shape (n_components,)
        The same as a share of the total variance; 1 where that is 0.
    singular_values : float64 array of shape (n_components,)
        Singular values of the centred rows [input unit].
    spectrum : float64 array of shape (n_known,)
        Variance along all directions that are known, falling; begins with
        ``explained_variance`` [input unit squared].
    total_variance : float
        Variance summed over all features [input unit squared].
    """

    n_samples: int
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    spectrum: NDArray[np.float64]
    total_variance: float

    @property
    def n_components(self) -> int:
        """Number of components kept."""
        return len(self.components)

    @property
    def variance_kept(self) -> float:
        """Share of the total variance along the components, in [0, 1]."""
        return min(1.0, math.fsum(self.explained_variance_ratio))


def principal_components(
    state: MomentState, n_components: float | str = "auto"
) -> PrincipalComponents:
    """Find the principal components of rows from their moments.

    Parameters
    ----------
    state : IntegerMoments, FloatMoments or LowRankMoments
        Moments of at least one row.
    n_components : int, float or "auto"
        Number of components, a share of the variance between 0 and 1 (the
        minimum number of components that keep it), or "auto".

    Returns
    -------
    PrincipalComponents
        Components by falling variance, with fixed signs.

    Raises
    ------
    ConfigError
        If `n_components` is neither, is more than n_samples, n_features or
        the directions that low-rank moments know, or is a share that these
        do not reach.
    ImagesError
        If the moments are of no rows.

    Notes
    -----
    "auto" is the minimum number of components that keep 99 % of the variance, at least 2
    and at most 50 (never more than n_features or n_samples).  Rows that are
    all equal, or a single row, have one component of variance 0, the first
    feature, whatever was requested.

    Signs: of the entries within one millionth of the largest in size, the one
    with the lowest index is made positive, so that a tie in the last bits
    decides nothing.  Variances at the level of rounding, and those beyond
    ``n_samples - 1`` directions, are 0.  One BLAS thread computes, so that the
    bits do not depend on the number of cores.  Time is O(n_features**3), or
    O(n_features * rank**2) from low-rank moments.

    Examples
    --------
    >>> from workflow.pca.moments import block_moments
    >>> rows = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> found = principal_components(block_moments(rows, kind="float"), 1)
    >>> found.components.round(3).tolist(), round(found.variance_kept, 6)
    ([[0.447, 0.894]], 1.0)
    """
    _check_n_components(n_components)
    if state.n_samples < 1:
        msg = "components need at least 1 image; got moments of 0. Check the shape of the images."
        raise ImagesError(msg)
    mean, values, vectors, total = _decompose(state)
    degrees = max(1, state.n_samples - 1)
    if total == 0.0:
        first = np.zeros((1, state.n_features))
        first[0, 0] = 1.0
        zero = np.zeros(1)
        spectrum = np.zeros(max(1, len(values)))
        return PrincipalComponents(
            state.n_samples, mean, first, zero, np.ones(1), zero, spectrum, 0.0
        )
    count = _count(state, n_components, values / total)
    spectrum = values / degrees
    return PrincipalComponents(
        n_samples=state.n_samples,
        mean=mean,
        components=fixed_signs(vectors[:count]),
        explained_variance=spectrum[:count],
        explained_variance_ratio=values[:count] / total,
        singular_values=np.sqrt(values[:count]),
        spectrum=spectrum,
        total_variance=total / degrees,
    )


def variance_share(
    state: MomentState, mean: NDArray[np.floating], components: NDArray[np.floating]
) -> float:
    """Return the share of the variance of rows that given components keep.

    Parameters
    ----------
    state : MomentState
        Moments of the rows.
    mean : float array of shape (n_features,)
        What is subtracted from rows before they are projected [input unit].
    components : float array of shape (n_components, n_features)
        Directions, orthogonal to each other and of length one.

    Returns
    -------
    float
        Sum of the squared scores as a share of the sum of the squared deviations from `mean`, in
        [0, 1]; 1 where all rows are `mean`.  Of low-rank moments at most the true share, as
        directions that they do not know count as lost.

    Notes
    -----
    Some ``n_components * n_features**2`` operations.

    Examples
    --------
    >>> import numpy as np
    >>> from workflow.pca import FloatMoments
    >>> state = FloatMoments(2, np.zeros(2), np.diag([6.0, 2.0]))
    >>> variance_share(state, np.zeros(2), np.array([[1.0, 0.0]]))
    0.75
    """
    directions = np.asarray(components, np.float64)
    with one_blas_thread():
        if isinstance(state, LowRankMoments):
            own_mean, total = state.mean, state.total_scatter
            known = state.singular_values[:, None] * (state.components @ directions.T)
            kept = float(np.square(known).sum())
        else:
            own_mean, scatter = _rounded(state)
            total = float(np.trace(scatter))
            kept = float(((directions @ scatter) * directions).sum())
        apart = own_mean - mean
        kept += state.n_samples * float(np.square(directions @ apart).sum())
    total += state.n_samples * float(np.square(apart).sum())
    return min(1.0, max(0.0, kept / total)) if total > 0 else 1.0


def _rounded(
    state: IntegerMoments | FloatMoments,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and scatter in float64: `mean_and_scatter` takes far longer for exact integers."""
    if isinstance(state, FloatMoments):
        return state.mean, state.scatter
    mean = state.total / state.n_samples
    return state.shift + mean, state.second - np.outer(mean, state.total)


def _decompose(
    state: MomentState,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Return the mean, the eigenvalues of the scatter, falling, its eigenvectors as rows, its trace."""
    if isinstance(state, LowRankMoments):
        stack = state.singular_values[:, None] * state.components
        with one_blas_thread():
            _, singular_values, vectors = np.linalg.svd(stack, full_matrices=False)
        return state.mean, singular_values**2, vectors, state.total_scatter
    mean, scatter = mean_and_scatter(state)
    with one_blas_thread():
        values, columns = np.linalg.eigh(scatter)
    values = values[::-1].copy()
    rounding = len(values) * np.finfo(np.float64).eps * values[0]
    values[(values <= rounding) | (np.arange(len(values)) >= state.n_samples - 1)] = 0.0
    return mean, values, columns.T[::-1], math.fsum(scatter.diagonal())


def _check_n_components(n_components: object) -> None:
    """Refuse what is neither a number of components, nor a share, nor "auto"."""
    if isinstance(n_components, str):
        fits = n_components == "auto"
    elif isinstance(n_components, (int, np.integer)):
        fits = not isinstance(n_components, bool) and int(n_components) >= 1
    else:
        fits = isinstance(n_components, (float, np.floating)) and 0.0 < float(n_components) < 1.0
    if not fits:
        msg = f'`n_components` must be a whole number from 1, a share between 0 and 1, or "auto"; got {n_components!r}. Set pca.n_components.'
        raise ConfigError(msg)


def _count(state: MomentState, n_components: float | str, ratio: NDArray[np.float64]) -> int:
    """Return how many components are kept; `ratio` is the share of each known direction."""
    maximum = min(state.n_samples, state.n_features)
    if isinstance(n_components, (int, np.integer)):
        if n_components > maximum:
            msg = f"`n_components` must be at most n_samples and n_features; got {n_components} components for {state.n_samples} samples of {state.n_features} features. Lower pca.n_components to {maximum} or less."
            raise ConfigError(msg)
        if n_components > len(ratio):
            msg = f"`n_components` must be at most the number of directions known; got {n_components} components for {len(ratio)} directions of low-rank moments. Lower pca.n_components to {len(ratio)} or less, or keep moments of a higher rank."
            raise ConfigError(msg)
        return int(n_components)
    cumulative = np.cumsum(ratio)
    if not isinstance(n_components, str):
        enough = np.flatnonzero(cumulative >= n_components)
        # Rounding may leave the sum of all directions a hair below a share close to 1.
        if not len(enough) and cumulative[-1] < n_components - 1e-9:
            msg = f"`n_components` must be a share of the variance that the {len(ratio)} directions known can reach; got {n_components} where they keep {cumulative[-1]:.4f}. Lower pca.n_components, or keep moments of a higher rank."
            raise ConfigError(msg)
        return int(enough[0]) + 1 if len(enough) else len(ratio)
    n_enough = int(np.searchsorted(cumulative, AUTO_VARIANCE_KEPT)) + 1
    wanted = min(max(n_enough, AUTO_MIN_COMPONENTS), AUTO_MAX_COMPONENTS)
    return min(wanted, maximum, len(ratio))


def fixed_signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flip directions so that their largest entry is positive.

    Parameters
    ----------
    components : float64 array of shape (n_components, n_features)
        Directions, none of them zero.

    Returns
    -------
    float64 array of shape (n_components, n_features)
        The same up to signs, in C order.

    Examples
    --------
    >>> fixed_signs(np.array([[-0.8, 0.6], [-0.7, 0.7000000000000001]])).tolist()
    [[0.8, -0.6], [0.7, -0.7000000000000001]]
    """
    size = np.abs(components)
    tied = size >= (1.0 - _SIGN_TIE) * size.max(axis=1, keepdims=True)
    largest = components[np.arange(len(components)), tied.argmax(axis=1)]
    signs = np.where(largest < 0.0, -1.0, 1.0)
    return np.ascontiguousarray(components * signs[:, None])
