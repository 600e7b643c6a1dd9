"""Zarr stores against plain files of the same bytes, and compressors against each other."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np

from benchmarks.data import STORED
from benchmarks.measure import Result, alternate
from workflow.chunks import choose_block_rows, row_ranges
from workflow.ingest.writer import PROBE_ROWS
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.data import Data
    from workflow.runstore import zarr_write

#: Bytes that are written and read.
MOST_BYTES = 1 << 28
#: Blocks of 16,384 images of 768 bytes in a file of at most 128 MiB; most blocks of a partition.
BLOCKS_OF_IMAGES, MOST_BLOCKS = 10, 16
#: How many times as often as in memory.
DISK_REPEATS = 5
#: Share of the rate of a plain file on the same disk that is meant to be reached.
WANTED = 0.8
#: What images could be compressed with; the first is what the workflow uses.
COMPRESSORS = {
    "Zstandard 1": numcodecs.Zstd(level=1),
    "Zstandard 3": numcodecs.Zstd(level=3),
    "LZ4": numcodecs.LZ4(),
    "Blosc LZ4, bits shuffled": numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
}  # fmt: skip


def stores(data: Data) -> Iterator[Result]:
    """Time writing and reading of scores and images, each compressed or not as `ingest` chooses."""
    pictures = {"demo images": data.images}
    if data.folder is not None:
        with np.load(data.folder / f"{STORED}.npz") as stored:
            images = stored["images"][: data.scale.n_images]
        pictures[f"{STORED} images"] = images.reshape(len(images), -1)
    block_rows = choose_block_rows(data.images.shape[1])
    repeats = max(3, data.scale.repeats)
    # A disk that others use, too, is fast and slow by turns.
    often = DISK_REPEATS * data.scale.repeats
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in {"scores": data.scores, **pictures}.items():
            n_rows = MOST_BYTES // (rows.shape[1] * rows.itemsize)
            # Scores again and again: making an array, which takes as long for few rows, is not the question.
            fitting = (
                np.resize(rows, (n_rows, rows.shape[1])) if rows is data.scores else rows[:n_rows]
            )
            is_smaller = name in pictures and zarr_io.compresses(fitting[:PROBE_ROWS])
            # As many blocks in a file as there are in a run of 48 million images.
            n_blocks = BLOCKS_OF_IMAGES if name in pictures else MOST_BLOCKS
            rows_of = block_rows, n_blocks * block_rows
            pair = _Pair(Path(folder) / name, fitting, rows_of, "zstd" if is_smaller else None)
            yield from pair.through_memory(repeats)
            if hasattr(os, "posix_fadvise"):
                yield from pair.on_disk(often)
            pair.remove()
    for name, rows in pictures.items():
        yield from _compressors(name, rows[:block_rows], data.scale.repeats)


class _Pair:
    """One array in Zarr and the same bytes in a file, block by block."""

    def __init__(
        self,
        place: Path,
        rows: NDArray[Any],
        rows_of: tuple[int, int],
        compressor: zarr_write.Compressor,
    ) -> None:
        self.place, self.plain = place, place.with_suffix(".bin")
        self.block_rows, self.shard_rows = rows_of
        self.rows, self.compressor = rows, compressor
        self.ranges = row_ranges(len(rows), self.block_rows)

    def through_memory(self, repeats: int) -> Iterator[Result]:
        """Time both where the system keeps the files in memory: what writes and reads cost a processor."""
        yield self._result("written to memory", self.write, self.write_plain, self.remove, repeats)
        yield self._result("read from memory", self.read, self.read_plain, _nothing, repeats)

    def on_disk(self, repeats: int) -> Iterator[Result]:
        """Time both to and from the disk: each shard is there before the next is begun."""
        wanted = None if self.compressor else WANTED
        write, plain = partial(self.write, sync=True), partial(self.write_plain, sync=True)
        yield self._result("written to disk", write, plain, self.remove, repeats, wanted)
        yield self._result(
            "read from disk", self.read, self.read_plain, self.forget, repeats, wanted
        )

    def _result(
        self,
        verb: str,
        ours: Callable[[], Any],
        peer: Callable[[], Any],
        prepare: Callable[[], None],
        repeats: int,
        wanted: float | None = None,
    ) -> Result:
        """Time both in turn; what was written is read back, and held against the rows."""
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            prepare()
            for job, seconds in zip((ours, peer), times, strict=True):
                started = time.perf_counter()
                found = job()
                seconds.append(time.perf_counter() - started)
                pieces = found or (self.read() if job is ours else self.read_plain())
                same = bool((np.concatenate(pieces) == self.rows).all())
                if not same:
                    msg = f"{verb}: both sides must hold the rows; {job} does not."
                    raise AssertionError(msg)
                del found, pieces
        ours_s, peer_s = map(statistics.median, times)
        kind = "compressed, checked" if self.compressor else "not compressed, checked"
        size = f"{self.rows.nbytes / 2**20:.0f} MiB of {self.place.name}"
        return Result(
            f"{size} {verb}, Zarr, {kind} ({self.rows.nbytes / ours_s / 1e6:.0f} MB/s)",
            ours_s,
            "plain file",
            peer_s,
            "the same values",
            {"same": float(same)},
            wanted,
        )

    def write(self, *, sync: bool = False) -> None:
        """Write the array."""
        zarr_io.create_rows_array(
            self.place,
            self.place.name,
            n_rows=len(self.rows),
            tail_shape=self.rows.shape[1:],
            dtype=self.rows.dtype,
            shard_rows=self.shard_rows,
            block_rows=self.block_rows,
            dims=("sample", "feature"),
            compressor=self.compressor,
        )
        with zarr_io.RowsWriter(self.place, self.place.name, 0, sync=sync) as writer:
            for start, stop in self.ranges:
                writer.append(self.rows[start:stop])

    def write_plain(self, *, sync: bool = False) -> None:
        """Write the file."""
        with self.plain.open("wb", buffering=0) as file:
            for start, stop in self.ranges:
                file.write(self.rows[start:stop].data)
                if sync and (stop % self.shard_rows == 0 or stop == len(self.rows)):
                    os.fsync(file.fileno())

    def read(self) -> list[NDArray[Any]]:
        """Read the array."""
        return [zarr_io.read_rows(self.place, self.place.name, *piece) for piece in self.ranges]

    def read_plain(self) -> list[NDArray[Any]]:
        """Read the file."""
        pieces = []
        with self.plain.open("rb", buffering=0) as file:
            for start, stop in self.ranges:
                piece = np.empty((stop - start, *self.rows.shape[1:]), self.rows.dtype)
                file.readinto(piece.data)
                pieces.append(piece)
        return pieces

    def remove(self) -> None:
        """Remove both, and wait until the disk has nothing more to do."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.plain.unlink(missing_ok=True)
        os.sync()

    def forget(self) -> None:
        """Bring both to the disk and take them out of memory."""
        for path in (self.plain, *(p for p in self.place.rglob("*") if p.is_file())):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _nothing() -> None:
    """Prepare nothing."""


def _compressors(name: str, images: NDArray[np.uint8], repeats: int) -> Iterator[Result]:
    """Time compressors on a block of images against the one in use."""
    block = np.ascontiguousarray(images)
    used = next(iter(COMPRESSORS.values()))
    packed = used.encode(block)
    for peer, codec in list(COMPRESSORS.items())[1:]:
        other = codec.encode(block)
        ours_s, _, peer_s, _ = alternate(
            lambda: used.decode(packed),
            lambda codec=codec, other=other: codec.decode(other),
            max(3, repeats),
        )
        shares = [len(p) / block.nbytes for p in (packed, other)]
        yield Result(
            f"{block.nbytes / 2**20:.0f} MiB of {name} decompressed, Zstandard 1",
            ours_s,
            peer,
            peer_s,
            f"{shares[0]:.2f} and {shares[1]:.2f} of the bytes",
            {"share": shares[0], "peer_share": shares[1]},
        )
