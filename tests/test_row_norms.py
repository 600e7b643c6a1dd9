import numpy as np
import pytest
from sklearn.preprocessing import normalize

from workflow.errors import NonFiniteError
from workflow.row_norms import TILE_ROWS, unit_rows


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_unit_rows__are_those_of_scikit_learn_to_the_last_bit_of_float32(dtype):
    rows = np.random.default_rng(0).integers(0, 250, (TILE_ROWS + 7, 33)).astype(dtype)
    rows[5] = 0
    found = unit_rows(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, normalize(rows.astype(float)), rtol=1.2e-7)
    assert not found[5].any()


def test_unit_rows__have_the_same_bits_alone_and_among_others():
    rows = np.random.default_rng(1).normal(size=(2 * TILE_ROWS, 50))
    found = unit_rows(rows)
    for first, stop in [(0, 1), (3, 20), (TILE_ROWS - 1, TILE_ROWS + 1)]:
        np.testing.assert_array_equal(unit_rows(rows[first:stop]), found[first:stop])


def test_unit_rows__of_values_whose_squares_no_number_holds():
    rows = np.array([[3e200, 4e200], [3e-200, -4e-200]])
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0.6, -0.8]], rtol=1e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_unit_rows__refuse_what_has_no_length(value):
    rows = np.ones((TILE_ROWS + 9, 4), np.float32)
    rows[TILE_ROWS + 2, 3] = value
    with pytest.raises(NonFiniteError, match=f"image {TILE_ROWS + 2}, feature 3"):
        unit_rows(rows)
