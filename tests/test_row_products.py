"""The product of rows and columns: against float64, against the plain way, and the same bits anywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.row_products import column_panels, plain_row_products, row_products


def product(rows, matrix, function=row_products):
    found = np.empty((len(rows), matrix.shape[1]))
    function(rows, column_panels(matrix), found)
    return found


def made(n_rows, n_features, n_columns, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 60, (n_rows, n_features)).astype(np.float32)
    return rows, rng.normal(size=(n_features, n_columns)).astype(np.float32)


@pytest.mark.parametrize("n_features", [1, 3, 75, 256, 257, 768])
@pytest.mark.parametrize("n_columns", [1, 16, 50, 64, 65, 130])
def test_row_products__equal_float64_and_the_plain_way(n_features, n_columns):
    rows, matrix = made(11, n_features, n_columns)
    found = product(rows, matrix)
    exact = rows.astype(np.float64) @ matrix
    size = np.abs(rows).astype(np.float64) @ np.abs(matrix)
    assert (np.abs(found - exact) <= 256 * 2**-24 * size).all()
    assert found.tobytes() == product(rows, matrix, plain_row_products).tobytes()


def test_row_products__round_once_for_a_product_and_its_sum():
    """1 + 2^-12 squared, less its rounded square: what is left would be lost in a second rounding."""
    value = np.float32(1 + 2**-12)
    rows = np.array([[-np.float32(value * value), value]], np.float32)
    matrix = np.array([[1.0], [value]], np.float32)
    assert product(rows, matrix)[0, 0] == float(value) ** 2 - float(np.float32(value * value))
    assert product(rows, matrix)[0, 0] != 0


@given(
    n_rows=st.integers(1, 40),
    n_features=st.integers(1, 300),
    n_columns=st.integers(1, 70),
    data=st.data(),
)
def test_row_products__of_a_row_do_not_depend_on_the_others(n_rows, n_features, n_columns, data):
    rows, matrix = made(n_rows, n_features, n_columns)
    whole = product(rows, matrix)
    order = np.array(data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=50)))
    assert product(rows[order], matrix).tobytes() == whole[order].tobytes()


def test_row_products__no_rows():
    rows, matrix = made(0, 5, 3)
    assert product(rows, matrix).shape == (0, 3)
