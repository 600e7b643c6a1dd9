"""Count, mean and scatter of row blocks, merged pairwise: exact for integers, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workflow.errors import ImagesError
from workflow.pca._float_sums import (
    Factor,
    compress,
    float_sums,
    low_rank_sums,
    require_finite_sums,
    scaled,
)
from workflow.pca._integer_sums import integer_sums, require_below_int64
from workflow.pca.states import (
    FloatMoments,
    IntegerMoments,
    LowRankMoments,
    MomentState,
)
from workflow.threads import one_blas_thread

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

#: Wider rows than this are kept as low-rank moments: a scatter matrix of 4,096 features has 128 MiB.
MAX_FULL_FEATURES = 4096
#: Directions that low-rank moments keep.  Five times the maximum of "auto" (arbitrary).
DEFAULT_RANK = 256

MomentKind = Literal["integer", "float", "low_rank"]
_INTEGERS = ("uint8", "uint16")
#: Types of rows whose moments can be taken; the first is what other numbers are converted to.
IMAGE_DTYPES = ["float64", "float32", "float16", *_INTEGERS]


def choose_kind(
    dtype: DTypeLike, n_features: int, *, max_full_features: int = MAX_FULL_FEATURES
) -> MomentKind:
    """Say which kind of moments rows of a type and width are kept as.

    Parameters
    ----------
    dtype : dtype
        Type of the rows: uint8, uint16, float16, float32 or float64.
    n_features : int
        Features of a row.
    max_full_features : int
        Maximum number of features for which the whole scatter matrix is kept.

    Returns
    -------
    {"integer", "float", "low_rank"}
        Kind for `block_moments`.

    Raises
    ------
    ImagesError
        If the dtype is another one, or there are no features.

    Examples
    --------
    >>> choose_kind("uint8", 768), choose_kind("float32", 768), choose_kind("uint8", 12_288)
    ('integer', 'float', 'low_rank')
    """
    name = np.dtype(dtype).name
    if name not in IMAGE_DTYPES:
        msg = f"images must be uint8, uint16, float16, float32 or float64; got {name}. Convert them with `astype`."
        raise ImagesError(msg)
    if n_features < 1:
        msg = f"images must have at least 1 feature; got {n_features}. Check the shape of the array: the first dimension is the sample."
        raise ImagesError(msg)
    if n_features > max_full_features:
        return "low_rank"
    return "integer" if name in _INTEGERS else "float"


def feature_shift(first_rows: NDArray[Any]) -> NDArray[Any]:
    """Choose what is subtracted from integers before they are squared.

    Parameters
    ----------
    first_rows : ndarray of shape (n_rows, n_features)
        First block of the data.

    Returns
    -------
    ndarray of shape (n_features,)
        Mean of the rows, rounded (halves upwards), int64, for integers [pixel
        value].  Zeros, float64, for floating point, whose blocks find their
        own, and zeros where there are no rows.

    Notes
    -----
    Results do not depend on the shift, speed does: near the mean, float32
    products stay exact over more rows.
    """
    n_rows, n_features = first_rows.shape
    if first_rows.dtype.kind == "f":
        return np.zeros(n_features)
    sums = first_rows.sum(axis=0, dtype=np.int64)
    shift: NDArray[np.int64] = (2 * sums + n_rows) // max(1, 2 * n_rows)
    return shift


def block_moments(
    rows: NDArray[Any],
    *,
    kind: MomentKind | str,
    shift: NDArray[Any] | None = None,
    rank: int = DEFAULT_RANK,
) -> MomentState:
    """Take the moments of a block of rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Rows as uint8, uint16, float16, float32 or float64; there may be none.
    kind : {"integer", "float", "low_rank"}
        What `choose_kind` says.
    shift : int64 array of shape (n_features,), optional
        What `feature_shift` says, the same for all blocks.  Used by "integer" only.
    rank : int
        Maximum number of directions, at least 1, the same for all blocks.  Used by
        "low_rank" only.

    Returns
    -------
    IntegerMoments, FloatMoments or LowRankMoments
        Moments of the block.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite, or so large that its square overflows;
        names the first row that holds one and its first such feature, counted
        from the first row of the block.
    ValueError
        If `kind`, `shift`, `rank` and the rows do not fit together.

    Notes
    -----
    Rows are converted up to 4,096 at a time, 32 MiB of them (for wide
    rows 256 rows), the moments themselves O(n_features**2), or
    O(rank * n_features).  Integer moments are exact, so equal to the last bit
    for every cut of the rows into blocks.  Floating-point ones are computed by
    one BLAS thread, from float64 deviations from the block's own mean: equal
    to the last bit for equal blocks.  Low-rank moments follow [1]_.

    References
    ----------
    .. [1] D. A. Ross, J. Lim, R.-S. Lin and M.-H. Yang, "Incremental learning
       for robust visual tracking", International Journal of Computer Vision
       77, 125-141, 2008.

    Examples
    --------
    >>> rows = np.array([[0, 10], [2, 10]], np.uint8)
    >>> state = block_moments(rows, kind="integer", shift=feature_shift(rows))
    >>> state.shift.tolist(), state.total.tolist(), state.second.tolist()
    ([1, 10], [0, 0], [[2, 0], [0, 0]])
    """
    _check_rows(rows, kind)
    n_rows, n_features = rows.shape
    if kind == "integer":
        shift = _checked_shift(shift, n_features)
        with one_blas_thread():
            return IntegerMoments(n_rows, shift, *integer_sums(rows, shift))
    if kind == "float":
        if not n_rows:
            return FloatMoments(0, np.zeros(n_features), np.zeros((n_features, n_features)))
        with one_blas_thread():
            return FloatMoments(n_rows, *float_sums(rows))
    if rank < 1:
        msg = f"`rank` must be at least 1; got {rank}. Use {DEFAULT_RANK} if in doubt."
        raise ValueError(msg)
    if not n_rows:
        empty = np.empty((0, n_features))
        return LowRankMoments(0, np.zeros(n_features), np.empty(0), empty, 0.0, rank)
    with one_blas_thread():
        mean, factor, total_scatter = low_rank_sums(rows, rank)
    return LowRankMoments(n_rows, mean, *factor, total_scatter, rank)


def _check_rows(rows: NDArray[Any], kind: str) -> None:
    """Refuse rows that are not a matrix of a type that the kind takes."""
    if rows.ndim != 2:
        msg = f"`rows` must have 2 dimensions (sample, feature); got shape {rows.shape}. Flatten images with `reshape(len(rows), -1)`."
        raise ValueError(msg)
    natural = choose_kind(rows.dtype, rows.shape[1], max_full_features=rows.shape[1])
    if kind not in (natural, "low_rank"):
        msg = f'`kind` must be "{natural}" or "low_rank" for {rows.dtype} rows; got "{kind}". Take it from `choose_kind`.'
        raise ValueError(msg)


def _checked_shift(shift: NDArray[Any] | None, n_features: int) -> NDArray[np.int64]:
    """Return the shift as int64, or refuse it."""
    if shift is None or shift.shape != (n_features,) or shift.dtype.kind not in "iu":
        came = "none" if shift is None else f"{shift.dtype} of shape {shift.shape}"
        msg = f"`shift` must be an integer array of shape ({n_features},); got {came}. Take it from `feature_shift`."
        raise ValueError(msg)
    if shift.min() < 0 or shift.max() > np.iinfo(np.uint16).max:
        msg = f"`shift` must lie between 0 and 65535; got {shift.min()} to {shift.max()}. Take it from `feature_shift`."
        raise ValueError(msg)
    return shift.astype(np.int64)


def merge_moments(left: MomentState, right: MomentState) -> MomentState:
    """Combine the moments of two disjoint sets of rows.

    Parameters
    ----------
    left, right : IntegerMoments, FloatMoments or LowRankMoments
        Moments of one kind with the same ``n_features``, and the same
        ``shift`` or ``rank`` where the kind has one.

    Returns
    -------
    IntegerMoments, FloatMoments or LowRankMoments
        Moments of the union, of the same kind.

    Raises
    ------
    ValueError
        If the two sides do not fit together.
    ImagesError
        If the sums outgrow int64; a `SpreadError` if they outgrow float64.

    Notes
    -----
    Integer moments are sums, so every order of merging gives the same bits.
    Floating-point moments merge by [1]_; the order of merging changes the last
    bits only.  Low-rank moments merge as their factors stacked with the
    correction of the mean [2]_, cut back to ``rank``; what is cut off stays in
    ``total_scatter``.  Memory is that of three states.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for
       computing the sample variance: analysis and recommendations",
       The American Statistician 37(3), 242-247, 1983.
    .. [2] D. A. Ross, J. Lim, R.-S. Lin and M.-H. Yang, "Incremental learning
       for robust visual tracking", International Journal of Computer Vision
       77, 125-141, 2008.

    Examples
    --------
    >>> a = FloatMoments(1, np.array([0.0]), np.array([[0.0]]))
    >>> b = FloatMoments(1, np.array([2.0]), np.array([[0.0]]))
    >>> merged = merge_moments(a, b)
    >>> merged.n_samples, merged.mean.tolist(), merged.scatter.tolist()
    (2, [1.0], [[2.0]])
    """
    if left.n_features != right.n_features:
        msg = f"`left` and `right` must have the same n_features; got {left.n_features} and {right.n_features}. Were the blocks read from different stores?"
        raise ValueError(msg)
    if isinstance(left, IntegerMoments) and isinstance(right, IntegerMoments):
        return _merge_integer(left, right)
    if isinstance(left, FloatMoments) and isinstance(right, FloatMoments):
        return _merge_float(left, right)
    if isinstance(left, LowRankMoments) and isinstance(right, LowRankMoments):
        return _merge_low_rank(left, right)
    msg = f"`left` and `right` must be moments of one kind; got {type(left).__name__} and {type(right).__name__}. Were the blocks of different dtypes?"
    raise ValueError(msg)


def about_zero(state: MomentState) -> MomentState:
    """Take integer moments about zero instead of about their shift.

    Parameters
    ----------
    state : IntegerMoments, FloatMoments or LowRankMoments
        Moments; those of floating-point rows are returned as they are.

    Returns
    -------
    IntegerMoments, FloatMoments or LowRankMoments
        The plain sums and sums of products of the pixel values: the same bits
        whatever shift they were summed about, so moments of any origin merge.

    Raises
    ------
    ImagesError
        If a sum of squares does not fit int64.

    See Also
    --------
    merge_moments : Wants one shift on both sides.

    Notes
    -----
    Exact.  Summing about a shift is for speed only: small numbers let a
    float32 product of more rows stay exact.

    Examples
    --------
    >>> rows = np.array([[3, 5], [4, 9]], dtype=np.uint8)
    >>> state = block_moments(rows, kind="integer", shift=np.array([3, 7]))
    >>> about_zero(state).second.tolist()
    [[25, 51], [51, 106]]
    """
    if not isinstance(state, IntegerMoments) or not state.shift.any():
        return state
    n, shift, total = state.n_samples, state.shift, state.total
    largest = max(
        (
            int(second) + 2 * int(s) * int(t) + n * int(s) ** 2
            for second, s, t in zip(state.second.diagonal(), shift, total, strict=True)
        ),
    )
    require_below_int64(largest, n)
    cross = np.outer(shift, total)
    second = state.second + cross + cross.T + n * np.outer(shift, shift)
    return IntegerMoments(n, np.zeros_like(shift), total + n * shift, second)


def _merge_integer(left: IntegerMoments, right: IntegerMoments) -> IntegerMoments:
    """Add the sums, if they fit."""
    if not np.array_equal(left.shift, right.shift):
        feature = int(np.flatnonzero(left.shift != right.shift)[0])
        msg = f"`left` and `right` must have the same shift; got {left.shift[feature]} and {right.shift[feature]} at feature {feature}. Take the moments of new rows with the shift of the old ones."
        raise ValueError(msg)
    n_samples = left.n_samples + right.n_samples
    # The diagonal bounds every other sum, so only its addition can overflow first.
    largest = max(
        (
            int(a) + int(b)
            for a, b in zip(left.second.diagonal(), right.second.diagonal(), strict=True)
        ),
    )
    require_below_int64(largest, n_samples)
    return IntegerMoments(
        n_samples, left.shift, left.total + right.total, left.second + right.second
    )


def _merge_float(left: FloatMoments, right: FloatMoments) -> FloatMoments:
    """Merge by Chan, Golub and LeVeque."""
    if not left.n_samples or not right.n_samples:
        return left if left.n_samples else right
    n_samples = left.n_samples + right.n_samples
    with np.errstate(over="ignore", invalid="ignore"):
        delta = right.mean - left.mean
        mean = left.mean + delta * (right.n_samples / n_samples)
        weight = left.n_samples * right.n_samples / n_samples
        scatter = np.outer(delta, delta)
        scatter *= weight
        scatter += left.scatter + right.scatter
    require_finite_sums(scatter)
    return FloatMoments(n_samples, mean, scatter)


def _merge_low_rank(left: LowRankMoments, right: LowRankMoments) -> LowRankMoments:
    """Merge by Ross, Lim, Lin and Yang, with Chan's sum of squares."""
    if left.rank != right.rank:
        msg = f"`left` and `right` must have the same rank; got {left.rank} and {right.rank}. Take the moments of new rows with the rank of the old ones."
        raise ValueError(msg)
    if not left.n_samples or not right.n_samples:
        return left if left.n_samples else right
    n_samples = left.n_samples + right.n_samples
    with np.errstate(over="ignore", invalid="ignore"):
        delta = right.mean - left.mean
        mean = left.mean + delta * (right.n_samples / n_samples)
        correction = np.sqrt(left.n_samples * right.n_samples / n_samples) * delta
        square = float(np.einsum("i,i->", correction, correction))
        total_scatter = left.total_scatter + right.total_scatter + square
    require_finite_sums(np.array([total_scatter]))
    factors = [scaled(Factor(side.singular_values, side.components)) for side in (left, right)]
    with one_blas_thread():
        factor = compress([*factors, correction[None]], left.rank)
    return LowRankMoments(n_samples, mean, *factor, total_scatter, left.rank)


def mean_and_scatter(
    state: IntegerMoments | FloatMoments,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Form mean and scatter matrix from full moments.

    Parameters
    ----------
    state : IntegerMoments or FloatMoments
        Moments of at least one row.

    Returns
    -------
    mean : float64 array of shape (n_features,)
        Mean of each feature [input unit].
    scatter : float64 array of shape (n_features, n_features)
        Sum of outer products of deviations [input unit squared].

    Notes
    -----
    Integer moments give ``(n second - total total') / n`` in integers of any
    length, rounded once: every entry is the float64 nearest to the true value,
    whatever the shift, and nothing cancels.  That takes about 0.1 s for 768
    features, a few seconds for 4,096.
    """
    if isinstance(state, FloatMoments):
        return state.mean, state.scatter
    n_samples = state.n_samples
    shift, total = state.shift.astype(object), state.total.astype(object)
    mean = ((shift * n_samples + total) / n_samples).astype(np.float64)
    scatter = np.empty(state.second.shape)
    for i, row in enumerate(state.second):
        exact = row[i:].astype(object) * n_samples - total[i] * total[i:]
        scatter[i, i:] = scatter[i:, i] = (exact / n_samples).astype(np.float64)
    return mean, scatter
