"""The product of rows and a narrow matrix: the bits of a row depend on that row alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow._row_tiles import TILE_COLUMNS, TILE_ROWS, fused_multiply_add, tile_product
from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

_compiled = compiler(__file__, "_row_tiles.py")

#: Features that are summed in float32; these sums are added up in float64, so that width costs no digits.
FEATURES_AT_ONCE = 256


def column_panels(matrix: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Lay out the columns of a matrix as `row_products` takes them.

    Parameters
    ----------
    matrix : float array of shape (n_features, n_columns)
        The matrix.

    Returns
    -------
    float32 array of shape (n_panels, n_features, 64)
        Columns 64 together, filled up with zeros.
    """
    n_features, n_columns = matrix.shape
    n_panels = -(-n_columns // TILE_COLUMNS)
    panels = np.zeros((n_panels, n_features, TILE_COLUMNS), np.float32)
    for panel in range(n_panels):
        part = matrix[:, panel * TILE_COLUMNS : (panel + 1) * TILE_COLUMNS]
        panels[panel, :, : part.shape[1]] = part
    return panels


@_compiled
def row_products(
    rows: NDArray[np.float32], panels: NDArray[np.float32], products: NDArray[np.float64]
) -> None:
    """Multiply rows with the columns of a matrix.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows, C-contiguous.
    panels : float32 array of shape (n_panels, n_features, 64)
        Columns, as `column_panels` lays them out.
    products : float64 array of shape (n_rows, n_columns)
        Written.

    Notes
    -----
    A product of BLAS has other last bits for a row that stands elsewhere among
    others: its inner loops differ from place to place.  Here every row goes
    through the same operations in the same order, with 256 features summed in
    float32 by fused multiply-adds and these sums added in float64.  Tiles of
    the last few rows take the last row several times.
    """
    n_rows, n_features = rows.shape
    n_columns = products.shape[1]
    tile = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    total = np.empty((TILE_ROWS, TILE_COLUMNS), np.float64)
    for panel in range(panels.shape[0]):
        first = panel * TILE_COLUMNS
        n_here = min(TILE_COLUMNS, n_columns - first)
        for row in range(0, n_rows, TILE_ROWS):
            last = n_rows - 1
            at = (row, min(row + 1, last), min(row + 2, last), min(row + 3, last))
            total[:] = 0.0
            for start in range(0, n_features, FEATURES_AT_ONCE):
                stop = min(start + FEATURES_AT_ONCE, n_features)
                tile_product(rows, panels, at, panel, start, stop, tile)
                for i in range(TILE_ROWS):
                    for j in range(TILE_COLUMNS):
                        total[i, j] += tile[i, j]
            for i in range(min(TILE_ROWS, n_rows - row)):
                for j in range(n_here):
                    products[row + i, first + j] = total[i, j]


@_compiled
def plain_row_products(
    rows: NDArray[np.float32], panels: NDArray[np.float32], products: NDArray[np.float64]
) -> None:
    """Do what `row_products` does, number by number: the same bits, several times as slow."""
    for row in range(rows.shape[0]):
        for column in range(products.shape[1]):
            panel, lane = column // TILE_COLUMNS, column % TILE_COLUMNS
            total = 0.0
            for start in range(0, rows.shape[1], FEATURES_AT_ONCE):
                part = np.float32(0.0)
                for feature in range(start, min(start + FEATURES_AT_ONCE, rows.shape[1])):
                    part = fused_multiply_add(
                        rows[row, feature], panels[panel, feature, lane], part
                    )
                total += float(part)
            products[row, column] = total
