"""Zarr stores against plain files of the same bytes, libraries that write Zarr, and compressors."""

from __future__ import annotations

import importlib
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
import zarr

from benchmarks.data import STORED
from benchmarks.measure import Result, alternate
from workflow.chunks import choose_block_rows, row_ranges
from workflow.ingest.writer import PROBE_ROWS
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from benchmarks.data import Data
    from workflow.runstore import zarr_write

#: Bytes that are written and read.
MAX_BYTES = 1 << 28
#: Blocks of 16,384 images of 768 bytes in a file of at most 128 MiB; most blocks of a partition.
BLOCKS_OF_IMAGES, MAX_BLOCKS = 10, 16
#: How many times as often as in memory.
DISK_REPEATS = 5
#: Share of the rate of a plain file on the same disk that is meant to be reached.
WANTED = 0.8
#: Where a library's files are in memory only; and how often each library is timed.
MEMORY, LIBRARY_REPEATS = Path("/dev/shm"), 5
#: What all are held against.
PLAIN = "plain file"
#: Codec pipelines of zarr and of the package zarrs; those that are not installed are left out.
PIPELINES = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr, fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}
#: What images could be compressed with; the first is what the workflow uses.
COMPRESSORS = {
    "Zstandard 1": numcodecs.Zstd(level=1),
    "Zstandard 3": numcodecs.Zstd(level=3),
    "LZ4": numcodecs.LZ4(),
    "Blosc LZ4, bits shuffled": numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
}  # fmt: skip


def stores(data: Data) -> Iterator[Result]:
    """Time writing and reading of scores and images, each compressed or not as `ingest` chooses."""
    images_by_name = {"demo images": data.images}
    if data.folder is not None:
        with np.load(data.folder / f"{STORED}.npz") as stored:
            images = stored["images"][: data.scale.n_images]
        images_by_name[f"{STORED} images"] = images.reshape(len(images), -1)
    block_rows = choose_block_rows(data.images.shape[1])
    repeats = max(3, data.scale.repeats)
    # A disk that others use, too, is fast and slow by turns.
    often = DISK_REPEATS * data.scale.repeats
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in {"scores": data.scores, **images_by_name}.items():
            n_rows = MAX_BYTES // (rows.shape[1] * rows.itemsize)
            # Scores again and again: making an array, which takes as long for few rows, is not the question.
            fitting = (
                np.resize(rows, (n_rows, rows.shape[1])) if rows is data.scores else rows[:n_rows]
            )
            is_smaller = name in images_by_name and zarr_io.compresses(fitting[:PROBE_ROWS])
            # As many blocks in a file as there are in a run of 48 million images.
            n_blocks = BLOCKS_OF_IMAGES if name in images_by_name else MAX_BLOCKS
            rows_of = block_rows, n_blocks * block_rows
            pair = _Pair(Path(folder) / name, fitting, rows_of, "zstd" if is_smaller else None)
            yield from pair.through_memory(repeats)
            if hasattr(os, "posix_fadvise"):
                yield from pair.on_disk(often)
            pair.remove()
    for name, rows in images_by_name.items():
        yield from _compressors(name, rows[:block_rows], data.scale.repeats)


def absent() -> list[str]:
    """Return the names of the codec pipelines that are not installed."""
    return [name for name in PIPELINES if not _is_there(name)]


def _is_there(name: str) -> bool:
    """Return whether a codec pipeline is installed."""
    module, _, pipeline = PIPELINES[name].rpartition(".")
    try:
        return hasattr(importlib.import_module(module), pipeline)
    except ImportError:
        return False


def libraries(data: Data) -> Iterator[Result]:
    """Time libraries and a plain file against the shard writer and reader, in memory and on disk."""
    block_rows = choose_block_rows(data.images.shape[1])
    scores = np.resize(data.scores, (MAX_BYTES // (data.scores.shape[1] * 4), 50))
    images = data.images[: MAX_BYTES // data.images.shape[1]]
    arrays: dict[str, tuple[NDArray[Any], int, zarr_write.Compressor]] = {
        "scores": (scores, MAX_BLOCKS * block_rows, None),
        "images": (images, BLOCKS_OF_IMAGES * block_rows, None),
        "compressed images": (images, BLOCKS_OF_IMAGES * block_rows, "zstd"),
    }
    places = {"memory": MEMORY} if MEMORY.is_dir() else {}
    if hasattr(os, "posix_fadvise"):
        places["disk"] = Path(tempfile.gettempdir())
    repeats = LIBRARY_REPEATS if data.scale.repeats > 1 else 1
    for where, parent in places.items():
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            for name, (rows, shard_rows, compressor) in arrays.items():
                pair = _Pair(Path(folder) / name, rows, (block_rows, shard_rows), compressor)
                yield from pair.against_libraries(where, repeats)
                pair.remove()


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
        self.fill()
        yield self._result("read from memory", self.read, self.read_plain, _nothing, repeats)

    def on_disk(self, repeats: int) -> Iterator[Result]:
        """Time both to and from the disk: each shard is there before the next is begun."""
        wanted = None if self.compressor else WANTED
        write, plain = partial(self.write, sync=True), partial(self.write_plain, sync=True)
        yield self._result("written to disk", write, plain, self.remove, repeats, wanted)
        self.fill()
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
        jobs = {"ours": ours, PLAIN: peer}
        ours_s, peer_s = map(statistics.median, self._times(jobs, prepare, repeats).values())
        kind = "compressed, checked" if self.compressor else "not compressed, checked"
        return Result(
            f"{self._size} {verb}, Zarr, {kind} ({self.rows.nbytes / ours_s / 1e6:.0f} MB/s)",
            ours_s,
            PLAIN,
            peer_s,
            "the same values",
            {"same": 1.0},
            wanted,
        )

    def against_libraries(self, where: str, repeats: int) -> Iterator[Result]:
        """Time each library that is installed, as block by block and as shard by shard as it can."""
        sync = where == "disk"
        writes: dict[str, Callable[[], Any]] = {
            "ours": partial(self.write, sync=sync),
            PLAIN: partial(self.write_plain, sync=sync),
        }
        reads: dict[str, Callable[[], Any]] = {"ours": self.read, PLAIN: self.read_plain}
        for name in filter(_is_there, PIPELINES):
            for by, n_rows in (("shards", self.shard_rows), ("blocks", self.block_rows)):
                writes[f"{name}, by {by}"] = partial(self.write_by, name, n_rows, sync=sync)
            reads[name] = partial(self.read_by, name)
        yield from self._shares(f"written to {where}", writes, self.remove, repeats)
        self.fill()
        prepare = self.forget if sync else _nothing
        yield from self._shares(f"read from {where}", reads, prepare, repeats)

    def _shares(
        self,
        verb: str,
        jobs: dict[str, Callable[[], Any]],
        prepare: Callable[[], None],
        repeats: int,
    ) -> Iterator[Result]:
        """Time jobs in turn; state each one's share of the rate of a plain file."""
        # In memory by the processor's time, of all threads: a busy machine delays those that never wait.
        in_memory = "memory" in verb
        clock = time.process_time if in_memory else time.perf_counter
        times = self._times(jobs, prepare, repeats, clock)
        seconds = {name: statistics.median(found) for name, found in times.items()}
        # What slows the machine for a while slows a round of all.
        share = {
            name: statistics.median(
                plain / one for plain, one in zip(times[PLAIN], found, strict=True)
            )
            for name, found in times.items()
        }
        best = {name: min(times[PLAIN]) / min(found) for name, found in times.items()}
        for name in list(jobs)[1:]:
            yield Result(
                f"{self._size} {verb}{', processor time' if in_memory else ''}",
                seconds["ours"],
                name,
                seconds[name],
                f"of a plain file's rate: ours {share['ours']:.2f}, peer {share[name]:.2f}"
                f" (fastest rounds {best['ours']:.2f}, {best[name]:.2f})",
                {"share": share["ours"], "peer_share": share[name]},
            )

    def _times(
        self,
        jobs: dict[str, Callable[[], Any]],
        prepare: Callable[[], None],
        repeats: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> dict[str, list[float]]:
        """Time jobs in turn; what each wrote or read is held against the rows."""
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(repeats):
            for name, job in jobs.items():
                prepare()
                started = clock()
                found = job()
                times[name].append(clock() - started)
                blocks = found or (self.read_plain() if name == PLAIN else self.read())
                if not all(
                    np.array_equal(block, self.rows[start:stop])
                    for block, (start, stop) in zip(blocks, self.ranges, strict=True)
                ):
                    msg = f"every way must keep the rows of {self.place}; {name} did not."
                    raise AssertionError(msg)
                del found, blocks
        return times

    @property
    def _size(self) -> str:
        """Bytes and name of the rows."""
        return f"{self.rows.nbytes / 2**20:.0f} MiB of {self.place.name}"

    def write(self, *, sync: bool = False) -> None:
        """Write the array."""
        self._create()
        with zarr_io.RowsWriter(self.place, self.place.name, 0, sync=sync) as writer:
            for start, stop in self.ranges:
                writer.append(self.rows[start:stop])

    def write_by(self, name: str, n_rows: int, *, sync: bool) -> None:
        """Write the array by a library, so many rows at once."""
        self._create()
        with _pipeline(name):
            array = zarr.open_array(self.place / self.place.name, mode="r+")
            array = array.with_config({"write_empty_chunks": True})
            for start in range(0, len(self.rows), n_rows):
                stop = min(start + n_rows, len(self.rows))
                array[start:stop] = self.rows[start:stop]
                if sync and (stop % self.shard_rows == 0 or stop == len(self.rows)):
                    with zarr_io.shard_file(self.place, self.place.name, start).open() as file:
                        os.fsync(file.fileno())

    def read_by(self, name: str) -> list[NDArray[Any]]:
        """Read the array by a library."""
        with _pipeline(name):
            array = zarr.open_array(self.place / self.place.name, mode="r")
            return [np.asarray(array[start:stop]) for start, stop in self.ranges]

    def _create(self) -> None:
        """Make the array without values."""
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

    def write_plain(self, *, sync: bool = False) -> None:
        """Write the file."""
        with self.plain.open("wb", buffering=0) as file:
            for start, stop in self.ranges:
                file.write(self.rows[start:stop].data)
                if sync and (stop % self.shard_rows == 0 or stop == len(self.rows)):
                    os.fsync(file.fileno())

    def read(self) -> list[NDArray[Any]]:
        """Read the array."""
        return [zarr_io.read_rows(self.place, self.place.name, *rows) for rows in self.ranges]

    def read_plain(self) -> list[NDArray[Any]]:
        """Read the file."""
        blocks = []
        with self.plain.open("rb", buffering=0) as file:
            for start, stop in self.ranges:
                block = np.empty((stop - start, *self.rows.shape[1:]), self.rows.dtype)
                file.readinto(block.data)
                blocks.append(block)
        return blocks

    def fill(self) -> None:
        """Write both, to be read."""
        self.remove()
        self.write()
        self.write_plain()

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


def _pipeline(name: str) -> AbstractContextManager[Any]:
    """Return a context in which zarr uses a codec pipeline, with one thread as a worker has."""
    # `max_workers` of the pipeline is the fused one's.
    return zarr.config.set(
        {
            "codec_pipeline.path": PIPELINES[name],
            "codec_pipeline.max_workers": 1,
            "threading.max_workers": 1,
        }
    )


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
