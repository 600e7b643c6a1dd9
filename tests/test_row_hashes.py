"""Hashes of rows: equal for equal bytes and for no others, wherever a row stands; against its formula."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workflow.row_hashes import KEY_SEED, row_hashes

DTYPES = ("uint8", "uint16", "float16", "float32", "float64")


def slow_hash(row):
    """Hash one row with whole numbers of any size, as UMAC defines NH, and mix the sums."""
    words = row.tobytes()
    words += bytes(-len(words) % 8)
    keys = np.random.PCG64(KEY_SEED).random_raw(len(words) // 2).tolist()
    sums = [0, 0]
    for i in range(len(words) // 8):
        low, high = (int.from_bytes(words[j : j + 4], "little") for j in (8 * i, 8 * i + 4))
        for half in (0, 1):
            a, b = keys[4 * i + 2 * half : 4 * i + 2 * half + 2]
            sums[half] += ((low + a) % 2**32) * ((high + b) % 2**32)
    mixed = []
    for value in sums:
        state = value % 2**64
        state = (state ^ (state >> 33)) * 0xFF51AFD7ED558CCD % 2**64
        mixed.append(state ^ (state >> 33))
    return mixed


@given(st.integers(0, 2**32), st.sampled_from(DTYPES), st.integers(1, 40))
def test_row_hashes__equal_the_formula(seed, dtype, n_features):
    rows = np.random.default_rng(seed).integers(0, 256, (3, n_features)).astype(dtype)
    assert row_hashes(rows).tolist() == [slow_hash(row) for row in rows]


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 300))
def test_row_hashes__are_equal_where_rows_are(seed, n_features, n_rows):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, (n_rows, n_features), dtype=np.uint8)
    hashes = row_hashes(rows)
    _, of_row = np.unique(rows, axis=0, return_inverse=True)
    _, of_hash = np.unique(hashes, axis=0, return_inverse=True)
    assert len(set(zip(of_row.tolist(), of_hash.tolist(), strict=True))) == of_row.max() + 1
    assert of_hash.max() == of_row.max()
    order = rng.permutation(n_rows)
    np.testing.assert_array_equal(row_hashes(rows[order]), hashes[order])
    first = int(rng.integers(n_rows))
    np.testing.assert_array_equal(row_hashes(rows[first:]), hashes[first:])


def test_row_hashes__tell_the_most_alike_rows_apart():
    """One bit set, a grey level moved from one pixel to another: no two rows share half a hash."""
    one_bit = np.packbits(np.eye(6144, dtype=np.uint8), axis=1)
    moved = np.full((8 * 768, 768), 128, np.uint8)
    to = np.arange(768)
    for step in range(8):
        part = moved[step * 768 : (step + 1) * 768]
        part[to, to] += 1
        part[to, (to + 8 * (step + 1)) % 768] -= 1
    rows = np.concatenate([one_bit, moved])
    hashes = row_hashes(rows)
    for half in (0, 1):
        assert len(np.unique(hashes[:, half])) == len(rows)


def test_row_hashes__spread_over_the_buckets():
    """The first bits choose a bucket, also of rows of one byte."""
    counts = np.bincount(row_hashes(np.arange(2**16, dtype=np.uint16)[:, None])[:, 0] >> 58)
    assert len(counts) == 64
    assert 800 < counts.min() <= counts.max() < 1250


def test_row_hashes__are_of_bytes():
    one, two = row_hashes(np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)).tolist()
    assert one != two
