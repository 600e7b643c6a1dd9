"""A hash of 128 bits for each row: equal bytes have equal hashes, others in all likelihood not."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import compiler, frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

_compiled = compiler(__file__)

#: Seed of the keys.  Another one makes other hashes: those of stored runs would no longer be theirs.
KEY_SEED = 20_240_613
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MIX, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(33)


def row_hashes(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of the bytes of each row.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Rows of any type of number, C-contiguous.

    Returns
    -------
    uint64 array of shape (n_rows, 2)
        128 bits for each row, a function of its bytes and of nothing else.

    Notes
    -----
    Bytes count, not values: 0.0 and -0.0 have other hashes.

    The hash is NH of UMAC [1]_, with two independent sets of keys.  Of two
    different rows that were not made from the keys, however alike they are,
    the hashes are equal with a chance of at most 2**-64; where pixels have any
    noise it is some 2**-128.  So among 48 million images two different
    ones share a hash with a chance below 10**-4, whatever they show.  Images
    can be made on purpose to share one.

    References
    ----------
    .. [1] J. Black, S. Halevi, H. Krawczyk, T. Krovetz and P. Rogaway, "UMAC:
       fast and secure message authentication", CRYPTO '99, 216-233, 1999.

    Examples
    --------
    >>> rows = np.array([[1, 2], [1, 3], [1, 2]], np.uint8)
    >>> first, second, third = row_hashes(rows).tolist()
    >>> first == third, first == second
    (True, False)
    """
    n_rows, n_bytes = len(rows), rows.shape[1] * rows.dtype.itemsize
    hashes = np.empty((n_rows, 2), np.uint64)
    as_bytes = rows.view(np.uint8)
    n_words = -(-n_bytes // 8)
    keys = _keys(n_words)
    if n_bytes % 8 == 0:
        hash_words(frozen(as_bytes.view(np.uint64)), keys, hashes)
        return hashes
    hash_bytes(frozen(as_bytes), keys, hashes)
    return hashes


@lru_cache(maxsize=2)
def _keys(n_words: int) -> NDArray[np.uint64]:
    """Return the keys of so many words: the raw numbers of PCG64 are the same in every NumPy."""
    numbers: NDArray[np.uint64] = np.random.PCG64(KEY_SEED).random_raw(4 * n_words)
    return frozen(numbers.reshape(n_words, 4).T.copy())


@_compiled
def hash_words(
    words: NDArray[np.uint64], keys: NDArray[np.uint64], hashes: NDArray[np.uint64]
) -> None:
    """Hash rows of whole words; what is done to the sums spreads them evenly, and can be undone."""
    for row in range(words.shape[0]):
        one = np.uint64(0)
        two = np.uint64(0)
        for i in range(words.shape[1]):
            low = words[row, i]
            high = low >> _HALF
            one += ((low + keys[0, i]) & _LOW) * ((high + keys[1, i]) & _LOW)
            two += ((low + keys[2, i]) & _LOW) * ((high + keys[3, i]) & _LOW)
        one = (one ^ (one >> _SHIFT)) * _MIX
        two = (two ^ (two >> _SHIFT)) * _MIX
        hashes[row, 0] = one ^ (one >> _SHIFT)
        hashes[row, 1] = two ^ (two >> _SHIFT)


@_compiled
def hash_bytes(
    rows: NDArray[np.uint8], keys: NDArray[np.uint64], hashes: NDArray[np.uint64]
) -> None:
    """Hash rows of any number of bytes, filled up with zeros to whole words."""
    words = np.zeros((1, keys.shape[1]), np.uint64)
    as_bytes = words.view(np.uint8)
    for row in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            as_bytes[0, i] = rows[row, i]
        hash_words(words, keys, hashes[row : row + 1])


__all__ = ["row_hashes"]
