"""Intrinsic dimension of rows from their two nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.numerics import padded_columns, smallest_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows whose neighbours are looked up, and rows that can be neighbours.
MAX_QUERIES, MAX_ROWS = 4_096, 20_000
#: Share of the largest ratios left out; they are the noisiest.
DISCARDED = 0.1
#: Queries of one product with all rows: 128 x 20,000 float64 are 20 MiB.
BATCH_ROWS = 128
#: Neighbours looked up in rounded distances and compared again by direct difference.
N_CANDIDATES = 6


def intrinsic_dimension(
    rows: NDArray[Any], *, max_queries: int = MAX_QUERIES, max_rows: int = MAX_ROWS
) -> float:
    """Estimate the dimension of the surface that rows lie on.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        A sample of rows; of more than `max_rows` an even selection is taken.
        Use rows themselves, not centroids: those read high.
    max_queries : int, default 4096
        Rows whose two nearest neighbours are found.
    max_rows : int, default 20000
        Rows that neighbours are found among.

    Returns
    -------
    float
        The TwoNN estimate of [1]_, between 1 and `n_features`; 1.0 where
        there are fewer than 3 distinct rows.

    Raises
    ------
    ValueError
        If the rows are not a finite array of two dimensions.

    Notes
    -----
    Equal rows count once, so no distance is zero.  The largest tenth of the
    ratios r2 / r1 is left out and a line through the origin is fitted to
    -log(1 - F) against log(r2 / r1).  No random draw.  Cost: 2 `max_queries`
    x `max_rows` x n_features operations, about 60 MiB.

    References
    ----------
    .. [1] E. Facco, M. d'Errico, A. Rodriguez and A. Laio, "Estimating the
       intrinsic dimension of datasets by a minimal neighborhood information",
       Scientific Reports 7, 12140, 2017.

    Examples
    --------
    >>> line = np.random.default_rng(0).random((2000, 1)) * np.ones((1, 5))
    >>> round(intrinsic_dimension(line))
    1
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        msg = (
            "`rows` must be finite and of shape (n_samples, n_features); "
            f"got shape {rows.shape}, {rows.dtype}. Pass a sample of scores."
        )
        raise ValueError(msg)
    distinct = np.unique(_evenly(rows, max_rows).astype(np.float64), axis=0)
    if distinct.shape[0] < 3:
        return 1.0
    ratio = np.sort(_neighbor_ratios(distinct, _evenly(np.arange(len(distinct)), max_queries)))
    n_used = max(1, int(ratio.size * (1 - DISCARDED)))
    log_ratio = np.log(ratio[:n_used])
    exceeded = -np.log1p(-np.arange(1, n_used + 1) / (ratio.size + 1))
    n_features = float(rows.shape[1])
    spread = float(log_ratio @ log_ratio)
    # Neighbours that are all equally far, as on a grid, have no finite estimate.
    if spread == 0:
        return n_features
    return float(np.clip(float(log_ratio @ exceeded) / spread, 1.0, n_features))


def _evenly(items: NDArray[Any], max_items: int) -> NDArray[Any]:
    """Take at most this many items at even steps."""
    n_items = items.shape[0]
    return (
        items
        if n_items <= max_items
        else np.take(items, np.arange(max_items) * n_items // max_items, 0)
    )


def _neighbor_ratios(
    distinct: NDArray[np.float64], queries: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return second over first neighbour distance of the queried rows."""
    centered = distinct - distinct.mean(axis=0)
    half_norms = np.einsum("ij,ij->i", centered, centered) / 2
    # Rows that are infinitely far fill up the columns.
    n_more = padded_columns(len(distinct)) - len(distinct)
    centered = np.pad(centered, ((0, n_more), (0, 0)))
    half_norms = np.pad(half_norms, (0, n_more), constant_values=np.inf)
    n_candidates = min(N_CANDIDATES, distinct.shape[0] - 1)
    ratio = np.empty(queries.size)
    for start in range(0, queries.size, BATCH_ROWS):
        chosen = queries[start : start + BATCH_ROWS]
        score = half_norms - centered[chosen] @ centered.T
        score[np.arange(chosen.size), chosen] = np.inf
        candidates, _ = smallest_columns(score, n_candidates)
        # Rounded scores only choose the candidates; the distances are taken directly.
        difference = distinct[candidates] - distinct[chosen, None]
        squared = np.sort(np.einsum("ijk,ijk->ij", difference, difference), axis=1)
        # Distances below 1e-154 underflow when squared; such rows count as equal to the query.
        first = np.maximum(squared[:, 0], np.finfo(np.float64).tiny)
        ratio[start : start + chosen.size] = np.sqrt(np.maximum(squared[:, 1] / first, 1.0))
    return ratio
