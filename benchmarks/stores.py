"""Zarr stores against plain files of the same bytes, and compressors against each other."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np

from benchmarks.measure import Result, alternate
from workflow.chunks import choose_block_rows, row_ranges
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.data import Data

#: Bytes that are written and read.
MOST_BYTES = 1 << 28
#: What images could be compressed with; the first is what the workflow uses.
COMPRESSORS = {
    "Zstandard 1": numcodecs.Zstd(level=1),
    "Zstandard 3": numcodecs.Zstd(level=3),
    "LZ4": numcodecs.LZ4(),
    "Blosc LZ4, bits shuffled": numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
}  # fmt: skip


def stores(data: Data) -> Iterator[Result]:
    """Time writing and reading of scores, not compressed, and of images, compressed."""
    images = data.images[: MOST_BYTES // data.images.shape[1]]
    scores = data.scores[: MOST_BYTES // (4 * data.scores.shape[1])]
    shard_rows = choose_block_rows(images.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, compressor in (("scores", scores, None), ("images", images, "zstd")):
            place = Path(folder) / name
            yield from _pair(place, name, rows, shard_rows, compressor, data.scale.repeats)
    yield from _compressors(images[:shard_rows], data.scale.repeats)


def _pair(
    place: Path, name: str, rows: NDArray[Any], shard_rows: int, compressor: Any, repeats: int
) -> Iterator[Result]:
    """Time one array in Zarr and in a file."""
    ranges = row_ranges(len(rows), shard_rows)
    plain = place.with_suffix(".bin")

    def write():
        shutil.rmtree(place, ignore_errors=True)
        zarr_io.create_rows_array(
            place, name, n_rows=len(rows), tail_shape=rows.shape[1:], dtype=rows.dtype,
            shard_rows=shard_rows, dims=("sample", "feature"), compressor=compressor,
        )  # fmt: skip
        for start, stop in ranges:
            zarr_io.write_rows(place, name, start, rows[start:stop])

    def write_plain():
        plain.unlink(missing_ok=True)
        with plain.open("wb") as file:
            for start, stop in ranges:
                file.write(rows[start:stop].data)

    def read():
        return [zarr_io.read_rows(place, name, *piece) for piece in ranges]

    def read_plain():
        pieces = []
        with plain.open("rb") as file:
            for start, stop in ranges:
                piece = np.empty((stop - start, *rows.shape[1:]), rows.dtype)
                file.readinto(piece.data)
                pieces.append(piece)
        return pieces

    kind = "compressed, checked" if compressor else "checked"
    size = f"{rows.nbytes / 2**20:.0f} MiB of {name}"
    wanted = None if compressor else 0.8
    for verb, ours, peer in (("written", write, write_plain), ("read", read, read_plain)):
        ours_s, mine, peer_s, _ = alternate(ours, peer, max(3, repeats))
        same = verb == "written" or bool((np.concatenate(mine) == rows).all())
        rate = rows.nbytes / ours_s / 1e6
        yield Result(
            f"{size} {verb}, Zarr, {kind} ({rate:.0f} MB/s)",
            ours_s,
            "plain file",
            peer_s,
            "the same values" if same else "OTHER values",
            {"same": float(same)},
            wanted,
        )


def _compressors(images: NDArray[np.uint8], repeats: int) -> Iterator[Result]:
    """Time compressors on a block of images against the one in use."""
    block = np.ascontiguousarray(images)
    used = next(iter(COMPRESSORS.values()))
    packed = used.encode(block)
    for name, codec in list(COMPRESSORS.items())[1:]:
        other = codec.encode(block)
        ours_s, _, peer_s, _ = alternate(
            lambda: used.decode(packed),
            lambda codec=codec, other=other: codec.decode(other),
            max(3, repeats),
        )
        shares = [len(p) / block.nbytes for p in (packed, other)]
        yield Result(
            f"{block.nbytes / 2**20:.0f} MiB of images decompressed, Zstandard 1",
            ours_s,
            name,
            peer_s,
            f"{shares[0]:.2f} and {shares[1]:.2f} of the bytes",
            {"share": shares[0], "peer_share": shares[1]},
        )
