"""Distances to the nearest of a growing set of rows, as seeding needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import frozen
from workflow.overcluster.search._panel_kernels import find_nearer
from workflow.overcluster.search.panels import lay_out_panels, make_queries

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RunningNearest:
    """Squared distance of each row to the nearest of some of the rows, which become more.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        Finite rows, float32 or float64 [score].

    Attributes
    ----------
    sq_distance : float64 array of shape (n_samples,)
        Squared distances by direct difference; infinite while there is none
        to be near to [score squared].

    Notes
    -----
    The distance found so far rules out most of what is added, as in
    `PanelSearch`.  Memory: a float32 copy of the rows and 40 bytes a row.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        rows = np.ascontiguousarray(rows)
        self._shift = rows.mean(axis=0, dtype=np.float64)
        low, high = rows.min(axis=0), rows.max(axis=0)
        spread = float(np.maximum(high - self._shift, self._shift - low).max())
        self._scale = 2.0 ** -np.frexp(spread)[1] if spread > 0 else 1.0
        self._queries = make_queries(rows, self._shift, self._scale, 1)

    @property
    def sq_distance(self) -> NDArray[np.float64]:
        """Squared distances so far, shape (n_samples,) [score squared]."""
        return self._queries.sq_distance[:, 0]

    def add(self, index: NDArray[np.integer[Any]]) -> None:
        """Let rows be near to some of the rows, too.

        Parameters
        ----------
        index : int array of shape (n_added,)
            Which of them.
        """
        chosen = np.ascontiguousarray(self._queries.rows[index])
        panels = lay_out_panels((chosen - self._shift) * self._scale)
        find_nearer(self._queries, frozen(chosen), panels)
