"""What a shard is made of.

A shard is its chunks, one after the other, then an index: offset and bytes of
each chunk, all ones for one left out.  A crc32c follows each chunk and the
index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of a checksum.
CRC_BYTES = 4
#: What the index holds for a chunk that was left out because it has nothing but fill values.
LEFT_OUT = 2**64 - 1


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a C-contiguous array where they lie."""
    return array.reshape(-1).view(np.uint8)


def crc_bytes(content: NDArray[np.uint8]) -> bytes:
    """Return the crc32c of bytes as Zarr stores it."""
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")
