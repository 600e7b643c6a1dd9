"""Products of bytes by the processor's own instructions against the plain way and int64."""

import os
import subprocess
import sys

import llvmlite.binding
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.pca import _byte_products, _integer_sums
from workflow.pca.moments import block_moments

needs_instruction = pytest.mark.skipif(
    _byte_products.INSTRUCTION is None, reason="this processor has no dot product of bytes"
)


def rows_of(n_rows, n_features, kind, seed=0):
    """Bytes of every value, or the largest only."""
    if kind == "largest":
        return np.full((n_rows, n_features), 255, np.uint8)
    return np.random.default_rng(seed).integers(0, 256, (n_rows, n_features), dtype=np.uint8)


@needs_instruction
@given(st.integers(0, 1200), st.integers(1, 150), st.sampled_from(["any", "largest"]))
@settings(max_examples=40, deadline=None)
def test_byte_sums__equal_the_plain_way_and_int64(n_rows, n_features, kind):
    rows = rows_of(n_rows, n_features, kind, seed=n_rows)
    shift = np.random.default_rng(n_features).integers(0, 256, n_features)
    total, second = _byte_products.byte_sums(rows, shift)
    wide = rows.astype(np.int64) - shift
    np.testing.assert_array_equal(total, wide.sum(axis=0))
    np.testing.assert_array_equal(second, wide.T @ wide)
    plain = _integer_sums.product_sums(rows, shift, 255)
    for left, right in zip((total, second), plain, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@needs_instruction
@pytest.mark.parametrize("value", [255, 0])
def test_byte_sums__of_more_rows_than_int32_holds(value):
    rows = np.full((2 * _byte_products.MAX_INT32_ROWS + 5, 3), value, np.uint8)
    total, second = _byte_products.byte_sums(rows, np.zeros(3, np.int64))
    assert set(total.tolist()) == {len(rows) * value}
    assert set(second.ravel().tolist()) == {len(rows) * value**2}


@needs_instruction
def test_byte_sums__take_rows_that_are_not_contiguous():
    rows = rows_of(100, 90, "any")
    for view in (rows[::3], rows[:, 10:70], np.asfortranarray(rows)):
        shift = np.arange(view.shape[1])
        one, two = (
            _byte_products.byte_sums(given, shift) for given in (view, np.ascontiguousarray(view))
        )
        for left, right in zip(one, two, strict=True):
            np.testing.assert_array_equal(left, right)


@needs_instruction
@pytest.mark.parametrize("shift", [0, 100, 255])
def test_moments__are_the_same_without_the_instruction(monkeypatch, shift):
    rows = rows_of(5000, 50, "any")
    shifts = np.full(50, shift)
    fast = block_moments(rows, kind="integer", shift=shifts)
    monkeypatch.setattr(_byte_products, "INSTRUCTION", None)
    slow = block_moments(rows, kind="integer", shift=shifts)
    np.testing.assert_array_equal(fast.total, slow.total)
    np.testing.assert_array_equal(fast.second, slow.second)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"CPU_NAME": "generic"}, None),
        ({"CPU_NAME": "haswell", "CPU_FEATURES": "+avx2,+fma"}, "int16, AVX2"),
        ({"CPU_NAME": "alderlake", "CPU_FEATURES": "+avx2,+avxvnni"}, "bytes, AVX-VNNI"),
        ({"CPU_FEATURES": "+avx512f,-avx512vnni"}, None),
        ({"ENABLE_AVX": 0}, None),
    ],
)
def test_chosen__is_what_numba_compiles_for(monkeypatch, told, words):
    for name, value in told.items():
        monkeypatch.setattr(_byte_products.config, name, value)
    chosen = _byte_products._chosen()
    assert (chosen and chosen.words) == words


#: Compares sums of a few shapes with int64; of extreme values, too.
COMPARED = """
import sys
import numpy as np
from workflow.pca import _byte_products, product_kernel

assert product_kernel(np.uint8) == sys.argv[1], product_kernel(np.uint8)
rng = np.random.default_rng(0)
for n_rows, n_features in [(0, 3), (1, 1), (3, 25), (515, 70), (2100, 150)]:
    for lowest in (0, 255):
        rows = rng.integers(lowest, 256, (n_rows, n_features), dtype=np.uint8)
        shift = rng.integers(0, 256, n_features)
        total, second = _byte_products.byte_sums(rows, shift)
        wide = rows.astype(np.int64) - shift
        np.testing.assert_array_equal(total, wide.sum(axis=0))
        np.testing.assert_array_equal(second, wide.T @ wide)
"""


@pytest.mark.parametrize("one", _byte_products.INSTRUCTIONS, ids=lambda one: one.words)
def test_byte_sums__equal_int64_with_every_instruction_of_this_processor(one):
    has = llvmlite.binding.get_host_cpu_features()
    if not all(has.get(name) for name in one.features):
        pytest.skip(f"this processor lacks one of {', '.join(one.features)}")
    told = {"NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in one.features)}
    command = [sys.executable, "-c", COMPARED, one.words]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, **told})
