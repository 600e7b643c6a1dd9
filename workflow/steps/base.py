"""What several steps share: files that tasks leave, blocks read ahead, arrays of the model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.engine.partitions import part_path
from workflow.engine.waiting import waiting_for_rows
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import ArrayPlace, read_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows
    from workflow.runstore import RunStore
    from workflow.schema import ArraySpec

#: Arrays and the names of their dimensions, as `RunStore.write_model` takes them.
ModelArrays = dict[str, tuple["NDArray[Any]", tuple[str, ...]]]


class PartFile(NamedTuple):
    """The file in which the task of a partition left its arrays, and the checksum of it."""

    partition: int
    file_crc: int

    def read(self, folder: Path) -> dict[str, NDArray[Any]]:
        """Return the arrays; refuse a file that is not as it was written."""
        return read_arrays(part_path(folder, self.partition), self.file_crc)


def part_files(reports: Mapping[int, Mapping[str, Any]]) -> list[PartFile]:
    """Return what tasks left according to their reports, in the order of the partitions."""
    return sorted(PartFile(index, report["file_crc"]) for index, report in reports.items())


def read_ahead(stored: Rows, blocks: Iterable[RowRange]) -> Iterator[tuple[RowRange, NDArray[Any]]]:
    """Yield each range with its rows, read while the one before it is worked on."""
    waiting: tuple[RowRange, Future[NDArray[Any]]] | None = None
    with ThreadPoolExecutor(max_workers=1) as reader:
        for rows in blocks:
            following = rows, reader.submit(stored.read, *rows)
            if waiting is not None:
                yield waiting[0], _awaited(waiting[1])
            waiting = following
        if waiting is not None:
            yield waiting[0], _awaited(waiting[1])


def _awaited(reading: Future[NDArray[Any]]) -> NDArray[Any]:
    """Return rows once they are read."""
    with waiting_for_rows():
        return reading.result()


def call(task: Callable[[], Any]) -> Any:
    """Do a task that is given nothing more."""
    return task()


def write_blocks(
    target: Path, names: Sequence[str], start: int, blocks: Iterable[Sequence[NDArray[Any]]]
) -> dict[str, Any]:
    """Write consecutive blocks, an array for each name; return the checksums and bytes for the report."""
    checksums, n_bytes = [], 0
    with zarr_io.rows_writers(target, names, start) as writers:
        for arrays in blocks:
            for name, array in zip(names, arrays, strict=True):
                writers[name].append(array)
            checksums.append([zarr_io.crc(array) for array in arrays])
            n_bytes += sum(array.nbytes for array in arrays)
    return {"crc": checksums, "bytes_written": n_bytes}


@dataclass(frozen=True, slots=True)
class CopyTask:
    """The rows of a partition, from the arrays of a file that one task left."""

    found: Path
    target: Path
    names: tuple[str, ...]

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Copy the rows of each block."""
        places = [ArrayPlace.find(self.found, name) for name in self.names]
        blocks = ([place.read_range(*rows) for place in places] for rows in partition.blocks)
        report = write_blocks(self.target, self.names, partition.start, blocks)
        return report | {"bytes_read": report["bytes_written"]}


def is_picture(shape: Sequence[int]) -> bool:
    """Whether images of this shape can be looked at."""
    return len(shape) in (2, 3) and min(shape[:2]) > 1


def described(specs: Mapping[str, ArraySpec], arrays: Mapping[str, Any]) -> ModelArrays:
    """Return arrays of the model in the types and with the dimensions that a step declares."""
    return {
        name: (np.asarray(array, dtype=specs[name].dtype), specs[name].dims)
        for name, array in arrays.items()
    }


def numbered_dims(arrays: Mapping[str, Any]) -> ModelArrays:
    """Return arrays of the model whose dimensions have no names of their own."""
    return {
        name: (np.asarray(value), tuple(f"{name}_{axis}" for axis in range(np.ndim(value))))
        for name, value in arrays.items()
    }


def prefixed(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays with a prefix before each name."""
    return {prefix + name: array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names start with a prefix, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def read_prefixed(store: RunStore, step: str, prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of the model that a step has left and whose names start with a prefix, without it."""
    # Metadata of the arrays, which are noted too, lie a folder below.
    noted = (name.split("/") for name in store.step(step).checksums)
    names = [n for folder, n, *below in noted if folder == layout.MODEL and not below]
    names = [name for name in names if name.startswith(prefix)]
    return without_prefix(prefix, dict(zip(names, store.read_model(*names), strict=True)))
