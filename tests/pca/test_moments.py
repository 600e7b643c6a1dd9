"""Moments against integers of any length, float64 references, other cuts and other orders."""

from __future__ import annotations

import pickle
from fractions import Fraction
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.errors import ImagesError, NonFiniteError, StoreError
from workflow.pca import _byte_products
from workflow.pca.moments import (
    about_zero,
    block_moments,
    choose_kind,
    feature_shift,
    mean_and_scatter,
    merge_moments,
)
from workflow.pca.states import (
    FloatMoments,
    IntegerMoments,
    LowRankMoments,
    from_arrays,
    to_arrays,
)


def images(n_rows, n_features, dtype, seed=0):
    """Rows of every size of value, with a constant feature."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    rows = rng.integers(0, top, (n_rows, n_features), dtype=dtype, endpoint=True)
    rows[:, 0] = top
    return rows


def brute_force(rows, shift):
    """Sums in int64."""
    shifted = rows.astype(np.int64) - shift
    return shifted.sum(axis=0), shifted.T @ shifted


def assert_same_state(left, right):
    """Equal to the last bit."""
    left, right = to_arrays(left), to_arrays(right)
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        np.testing.assert_array_equal(array, right[name])


@pytest.fixture(params=["as this processor does it", "by BLAS"])
def each_way(request, monkeypatch):
    """Bytes are multiplied by an instruction where there is one, and by BLAS elsewhere."""
    if request.param == "by BLAS":
        monkeypatch.setattr(_byte_products, "INSTRUCTION", None)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n_rows", [1, 2, 255, 4097, 9000])
def test_integer_moments__equal_int64_to_the_last_bit(dtype, n_rows):
    rows = images(n_rows, 17, dtype)
    for shift in (feature_shift(rows), np.zeros(17, np.int64), np.full(17, np.iinfo(dtype).max)):
        state = block_moments(rows, kind="integer", shift=shift)
        total, second = brute_force(rows, shift)
        assert state.n_samples == n_rows
        np.testing.assert_array_equal(state.total, total)
        np.testing.assert_array_equal(state.second, second)


@pytest.mark.usefixtures("each_way")
def test_integer_moments__exact_where_float32_saturates():
    # 4,096 squares of 64 make exactly 2**24, where a float32 sum stops growing.
    rows = np.full((4096, 3), 64, np.uint8)
    rows[:, 1] = np.where(np.arange(4096) % 2, 64, 0)
    shift = np.zeros(3, np.int64)
    state = block_moments(rows, kind="integer", shift=shift)
    assert state.second[0, 0] == 2**24
    np.testing.assert_array_equal(state.second, brute_force(rows, shift)[1])
    # One more unit would be lost in float32: 2**24 + 1 is no such number.
    rows[0, 0] = 65
    state = block_moments(rows, kind="integer", shift=shift)
    assert state.second[0, 0] == 2**24 + 65**2 - 64**2


def test_integer_moments__uint16_extremes():
    rows = np.full((5000, 4), 65535, np.uint16)
    rows[::3, 1:3] = 0
    shift = np.zeros(4, np.int64)
    state = block_moments(rows, kind="integer", shift=shift)
    np.testing.assert_array_equal(state.second, brute_force(rows, shift)[1])


@given(
    cuts=st.lists(st.integers(0, 600), max_size=6),
    order_seed=st.integers(0, 1000),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
@settings(deadline=None, max_examples=40)
def test_integer_moments__any_cut_and_order_give_the_same_bits(cuts, order_seed, dtype):
    rows = images(600, 5, dtype)
    shift = feature_shift(rows[:50])
    edges = [0, *sorted(cuts), 600]
    states = [block_moments(rows[a:b], kind="integer", shift=shift) for a, b in pairwise(edges)]
    shuffled = [states[i] for i in np.random.default_rng(order_seed).permutation(len(states))]
    whole = block_moments(rows, kind="integer", shift=shift)
    assert_same_state(reduce(merge_moments, shuffled), whole)
    half = len(shuffled) // 2
    if half:
        tree = merge_moments(
            reduce(merge_moments, shuffled[:half]), reduce(merge_moments, shuffled[half:])
        )
        assert_same_state(tree, whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mean_and_scatter__correctly_rounded_whatever_the_shift(dtype):
    rows = images(3001, 4, dtype, seed=3)
    top = int(np.iinfo(dtype).max)
    found = [
        mean_and_scatter(block_moments(rows, kind="integer", shift=np.full(4, s)))
        for s in (0, top // 3, top)
    ]
    columns = [[int(v) for v in column] for column in rows.T]
    for mean, scatter in found:
        for i, a in enumerate(columns):
            assert mean[i] == float(Fraction(sum(a), 3001))
            for j, b in enumerate(columns):
                product = sum(x * y for x, y in zip(a, b, strict=True))
                assert scatter[i, j] == float(product - Fraction(sum(a) * sum(b), 3001))


def test_feature_shift__rounds_half_up():
    rows = np.array([[0, 1, 255], [1, 2, 255]], np.uint8)
    assert feature_shift(rows).tolist() == [1, 2, 255]
    assert feature_shift(rows[:0]).tolist() == [0, 0, 0]
    assert feature_shift(rows.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [1, 2, 4097])
def test_float_moments__equal_a_float64_reference(dtype, n_rows):
    rows = np.random.default_rng(1).normal(3, 2, (n_rows, 9)).astype(dtype)
    state = block_moments(rows, kind="float")
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    np.testing.assert_allclose(state.mean, exact.mean(axis=0).astype(float), rtol=1e-14)
    np.testing.assert_allclose(
        state.scatter, (centred.T @ centred).astype(float), rtol=1e-12, atol=1e-11
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_moments__a_large_mean_costs_no_digits(dtype):
    rng = np.random.default_rng(2)
    rows = (1e6 + rng.normal(size=(5000, 6)) * 3).astype(dtype)
    parts = [block_moments(rows[a : a + 700], kind="float") for a in range(0, 5000, 700)]
    exact = rows.astype(np.longdouble)
    centred = exact - exact.mean(axis=0)
    expected = (centred.T @ centred).astype(float)
    scale = expected.diagonal().max()
    for state in (block_moments(rows, kind="float"), reduce(merge_moments, parts)):
        np.testing.assert_allclose(state.scatter, expected, rtol=0, atol=1e-9 * scale)
        np.testing.assert_allclose(state.mean, exact.mean(axis=0).astype(float), rtol=1e-15)


@given(cuts=st.lists(st.integers(0, 200), max_size=5))
@settings(deadline=None, max_examples=30)
def test_float_moments__merging_is_associative(cuts):
    rows = np.random.default_rng(4).normal(size=(200, 4)) * [1, 10, 100, 0]
    edges = [0, *sorted(cuts), 200]
    states = [block_moments(rows[a:b], kind="float") for a, b in pairwise(edges)]
    left = reduce(merge_moments, states)
    right = reduce(lambda a, b: merge_moments(b, a), reversed(states))
    whole = block_moments(rows, kind="float")
    for state in (left, right):
        assert state.n_samples == 200
        np.testing.assert_allclose(state.mean, whole.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(state.scatter, whole.scatter, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("kind", ["float", "low_rank"])
def test_float_moments__equal_rows_have_no_scatter_at_all(kind):
    rows = np.full((3000, 5), 0.1) * np.arange(1, 6)
    parts = [block_moments(rows[a : a + 37], kind=kind) for a in range(0, 3000, 37)]
    merged = reduce(merge_moments, parts)
    np.testing.assert_array_equal(merged.mean, rows[0])
    scatter = merged.scatter if kind == "float" else merged.total_scatter
    assert not np.any(scatter)


def spectral_gap(n_rows, n_features, n_large=6, seed=5):
    """Rows with a few strong directions over weak noise, and a moving mean."""
    rng = np.random.default_rng(seed)
    strong = rng.normal(size=(n_rows, n_large)) @ rng.normal(size=(n_large, n_features)) * 5
    drift = np.linspace(0, 3, n_rows)[:, None]
    return strong + drift + 0.01 * rng.normal(size=(n_rows, n_features)) + 40


@pytest.mark.parametrize("shape", ["chain", "tree"])
def test_low_rank__equals_full_where_the_spectrum_has_a_gap(shape):
    rows = spectral_gap(1200, 90)
    states = [
        block_moments(rows[a : a + 150], kind="low_rank", rank=20) for a in range(0, 1200, 150)
    ]
    if shape == "chain":
        merged = reduce(merge_moments, states)
    else:
        while len(states) > 1:
            states = [merge_moments(a, b) for a, b in zip(states[::2], states[1::2], strict=True)]
        (merged,) = states
    whole = block_moments(rows, kind="float")
    values, vectors = np.linalg.eigh(whole.scatter)
    values, vectors = values[::-1], vectors.T[::-1]
    assert merged.components.shape == (20, 90)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.total_scatter, np.trace(whole.scatter), rtol=1e-12)
    np.testing.assert_allclose(merged.singular_values[:7] ** 2, values[:7], rtol=1e-6)
    overlap = np.abs(np.einsum("ij,ij->i", merged.components[:7], vectors[:7]))
    np.testing.assert_allclose(overlap, 1, atol=1e-7)


def test_low_rank__loses_nothing_below_its_rank():
    rows = images(400, 30, np.uint8)
    parts = [block_moments(rows[a : a + 90], kind="low_rank", rank=30) for a in range(0, 400, 90)]
    merged = reduce(merge_moments, parts)
    stack = merged.singular_values[:, None] * merged.components
    _, scatter = mean_and_scatter(block_moments(rows, kind="integer", shift=feature_shift(rows)))
    np.testing.assert_allclose(stack.T @ stack, scatter, atol=1e-9 * scatter.max())
    assert np.all(np.diff(merged.singular_values) <= 0)


def examples():
    """One state of each kind."""
    rows = images(40, 6, np.uint8)
    return [
        block_moments(rows, kind="integer", shift=feature_shift(rows)),
        block_moments(rows.astype(np.float32), kind="float"),
        block_moments(rows, kind="low_rank", rank=3),
    ]


@pytest.mark.parametrize("state", examples(), ids=lambda s: type(s).__name__)
def test_states__survive_pickling_and_storing(state, tmp_path):
    np.savez(tmp_path / "state.npz", **to_arrays(state))
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        back = from_arrays(stored)
    for copy in (back, pickle.loads(pickle.dumps(state))):
        assert type(copy) is type(state)
        assert type(copy.n_samples) is int
        assert_same_state(copy, state)


@pytest.mark.parametrize("state", examples(), ids=lambda s: type(s).__name__)
def test_merge_moments__no_rows_change_nothing(state):
    kinds = {IntegerMoments: "integer", FloatMoments: "float", LowRankMoments: "low_rank"}
    dtype = np.float32 if isinstance(state, FloatMoments) else np.uint8
    shift = getattr(state, "shift", None)
    empty = block_moments(np.empty((0, 6), dtype), kind=kinds[type(state)], shift=shift, rank=3)
    assert empty.n_samples == 0
    assert_same_state(merge_moments(empty, state), state)
    assert_same_state(merge_moments(state, empty), state)


def test_from_arrays__refuses_what_is_no_state():
    arrays = to_arrays(examples()[1])
    with pytest.raises(StoreError, match=r"one of these sets of arrays: .*; got mean, n_samples"):
        from_arrays({name: arrays[name] for name in ("n_samples", "mean")})
    with pytest.raises(StoreError, match=r"`scatter` as float64 .* got float64 of shape \(6, 5\)"):
        from_arrays({**arrays, "scatter": arrays["scatter"][:, :5]})
    with pytest.raises(StoreError, match=r"`mean` as float64 .* got float32"):
        from_arrays({**arrays, "mean": arrays["mean"].astype(np.float32)})


@pytest.mark.parametrize("kind", ["float", "low_rank"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 7, 4999])
def test_block_moments__names_the_first_value_that_is_not_finite(kind, value, row):
    rows = np.zeros((5000, 4), np.float32)
    rows[row, 2:] = value
    rows[row + 1 :, 0] = np.inf
    with pytest.raises(NonFiniteError, match=f"first at image {row}, feature 2") as caught:
        block_moments(rows, kind=kind)
    again = pickle.loads(pickle.dumps(caught.value)).moved(100)
    assert (again.row, again.feature) == (row + 100, 2)
    np.testing.assert_array_equal(again.value, value)


@pytest.mark.parametrize("kind", ["float", "low_rank"])
@pytest.mark.parametrize("large", [1e200, 1.7e308])
def test_block_moments__refuses_values_whose_squares_overflow(kind, large):
    rows = np.array([[large, 0.0], [-large, 1.0], [large, 2.0]])
    rows = np.concatenate([np.ones((300, 2)), rows])
    with pytest.raises(NonFiniteError, match=r"range of float64; .* first at image 300, feature 0"):
        block_moments(rows, kind=kind)


def test_merge_moments__refuses_sums_that_int64_cannot_hold():
    half = IntegerMoments(2**30, np.zeros(2, int), np.zeros(2, int), np.diag([2**62, 1]))
    with pytest.raises(ImagesError, match=r"below 2\*\*63; got up to 9223372036854775808 "):
        merge_moments(half, half)
    fine = IntegerMoments(1, half.shift, half.total, half.second - np.diag([1, 0]))
    assert merge_moments(half, fine).second[0, 0] == 2**63 - 1


def test_merge_moments__refuses_what_does_not_fit_together():
    integer, floating, low_rank = examples()
    with pytest.raises(ValueError, match="moments of one kind; got IntegerMoments and FloatMom"):
        merge_moments(integer, floating)
    narrow = FloatMoments(1, np.zeros(5), np.zeros((5, 5)))
    with pytest.raises(ValueError, match="same n_features; got 6 and 5"):
        merge_moments(floating, narrow)
    other = IntegerMoments(
        1, integer.shift + np.eye(6, dtype=int)[2], integer.total, integer.second
    )
    with pytest.raises(ValueError, match=r"same shift; got .* at feature 2"):
        merge_moments(integer, other)
    higher = block_moments(np.ones((3, 6), np.uint8), kind="low_rank", rank=4)
    with pytest.raises(ValueError, match="same rank; got 3 and 4"):
        merge_moments(low_rank, higher)


def test_block_moments__refuses_what_does_not_fit_together():
    rows = np.zeros((3, 4), np.uint8)
    shift = feature_shift(rows)
    with pytest.raises(ValueError, match=r"2 dimensions .* got shape \(3, 2, 2\)"):
        block_moments(rows.reshape(3, 2, 2), kind="integer", shift=shift)
    with pytest.raises(ValueError, match='must be "integer" or "low_rank" for uint8 rows'):
        block_moments(rows, kind="float")
    with pytest.raises(ValueError, match=r"shape \(4,\); got none"):
        block_moments(rows, kind="integer")
    with pytest.raises(ValueError, match=r"got int64 of shape \(3,\)"):
        block_moments(rows, kind="integer", shift=shift[:3])
    with pytest.raises(ValueError, match="between 0 and 65535; got -1 to 0"):
        block_moments(rows, kind="integer", shift=shift - [1, 0, 0, 0])
    with pytest.raises(ValueError, match="`rank` must be at least 1; got 0"):
        block_moments(rows, kind="low_rank", rank=0)
    with pytest.raises(ImagesError, match=r"must be uint8, uint16, .* got int32"):
        block_moments(rows.astype(np.int32), kind="integer", shift=shift)


def test_choose_kind__by_type_and_width():
    assert choose_kind(np.uint16, 4096) == "integer"
    assert choose_kind(np.float16, 4096) == "float"
    assert choose_kind(np.float16, 4097) == "low_rank"
    assert choose_kind(np.uint8, 11, max_full_features=10) == "low_rank"
    assert choose_kind(">f4", 3) == "float"
    with pytest.raises(ImagesError, match="at least 1 feature; got 0"):
        choose_kind(np.uint8, 0)


def test_block_moments__other_byte_order_and_strides():
    rows = np.random.default_rng(6).normal(size=(50, 8))
    state = block_moments(rows[::2, ::-1].astype(">f4"), kind="float")
    plain = block_moments(np.ascontiguousarray(rows[::2, ::-1], np.float32), kind="float")
    assert_same_state(state, plain)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_about_zero__is_the_same_for_any_shift_and_equals_brute_force(dtype):
    rng = np.random.default_rng(4)
    rows = rng.integers(0, np.iinfo(dtype).max, (300, 7), dtype=dtype, endpoint=True)
    exact = rows.astype(np.int64)
    for shift in (np.zeros(7, np.int64), rng.integers(0, 256, 7)):
        state = about_zero(block_moments(rows, kind="integer", shift=shift))
        assert not state.shift.any()
        np.testing.assert_array_equal(state.total, exact.sum(axis=0))
        np.testing.assert_array_equal(state.second, exact.T @ exact)
