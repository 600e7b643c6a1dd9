"""Arrays of rows that grow or lose some: their whole files stay what they are, under another name; trees of such links."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import RowRange
from workflow.runstore.files import read_json, write_json
from workflow.runstore.rows_writer import RowsWriter, shard_file
from workflow.runstore.zarr_read import GROUP_METADATA, array_names, open_array, read_rows
from workflow.runstore.zarr_write import consolidate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.runstore.paths import Place

#: Files that are changed where they lie, or are small: they are copied.
COPIED = (".json", ".jsonl", ".html")
#: Bytes of rows that are copied at a time.
COPY_BYTES = 1 << 24


def link_tree(source: Path, target: Path) -> None:
    """Make a file or a folder again of links to its files, or of copies where there are no links.

    Parameters
    ----------
    source : Path
        What is there.
    target : Path
        Where it is made; its parent is there.
    """
    if source.is_dir():
        target.mkdir()
        for place in source.iterdir():
            link_tree(place, target / place.name)
    else:
        _link(source, target)


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix not in COPIED:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copy2(source, target)


class Piece(NamedTuple):
    """Rows of an array that one task writes: a whole file."""

    name: str
    rows: RowRange


class _Copy(ABC):
    """A group of rows made again, with other rows behind some that stay."""

    __slots__ = ()
    old: Path
    target: Path
    n_rows: int

    @property
    @abstractmethod
    def n_kept(self) -> int:
        """Rows at the start that stay where they are."""

    @abstractmethod
    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows of an array as it is to be."""

    def begin(self) -> list[Piece]:
        """Make the group, without the rows of the pieces.

        Returns
        -------
        list of Piece
            What tasks are to write.
        """
        self.target.mkdir(parents=True)
        shutil.copy2(self.old / GROUP_METADATA, self.target / GROUP_METADATA)
        names = array_names(self.old)
        pieces = [piece for name in names for piece in self._begin(name)]
        if "consolidated_metadata" in read_json(self.old / GROUP_METADATA):
            consolidate(self.target)
        return pieces

    def _begin(self, name: str) -> Iterator[Piece]:
        """Make a longer array, and yield what must be written of it."""
        array = open_array(self.old / name).array
        shard_rows = (array.shards or array.chunks)[0]
        metadata = read_json(self.old / name / GROUP_METADATA)
        metadata["shape"][0] = self.n_rows
        (self.target / name).mkdir()
        write_json(self.target / name / GROUP_METADATA, metadata)
        n_whole = self.n_kept // shard_rows
        for start in range(0, n_whole * shard_rows, shard_rows):
            _link(shard_file(self.old, name, start), shard_file(self.target, name, start))
        for start in range(n_whole * shard_rows, self.n_rows, shard_rows):
            yield Piece(name, RowRange(start, min(start + shard_rows, self.n_rows)))

    def __call__(self, piece: Piece) -> None:
        """Write the rows of a piece."""
        name, (start, stop) = piece
        array = open_array(self.target / name).array
        row_bytes = max(1, array.dtype.itemsize) * int(np.prod(array.shape[1:], dtype=np.int64))
        step = max(1, COPY_BYTES // row_bytes)
        with RowsWriter(self.target, name, start) as writer:
            for first in range(start, stop, step):
                writer.append(self._read(name, first, min(first + step, stop)))


@dataclass(frozen=True, slots=True)
class Growth(_Copy):
    """A group of rows made longer by those of another group.

    Attributes
    ----------
    old : Path
        The group as it is.
    new : Path, Address or None
        A group with the rows that come; its arrays have the same names and types.
    target : Path
        Where the longer group is made.
    n_old, n_rows : int
        Rows of the old group, and of the longer one.
    fill : mapping of str to number or text
        What rows that come hold in arrays that `new` lacks.

    Notes
    -----
    Files of the old group that are whole are linked; what is written is the last one and those that
    come, each by a task.
    """

    old: Path
    new: Place | None
    target: Path
    n_old: int
    n_rows: int
    fill: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_kept(self) -> int:
        """Rows of the old group."""
        return self.n_old

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows of the old group, the new one, or both."""
        parts = []
        if start < self.n_old:
            parts.append(read_rows(self.old, name, start, min(stop, self.n_old)))
        if stop > self.n_old:
            first, last = max(start, self.n_old) - self.n_old, stop - self.n_old
            if self.new is not None and name in array_names(self.new):
                parts.append(read_rows(self.new, name, first, last))
            else:
                like = open_array(self.target / name).array
                dtype = np.dtypes.StringDType() if like.dtype.kind in "OT" else like.dtype
                shape = (last - first, *like.shape[1:])
                parts.append(np.full(shape, self.fill[name], dtype))
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Cut(_Copy):
    """A group of rows without some; those behind move up.

    Attributes
    ----------
    old : Path
        The group as it is.
    target : Path
        Where the shorter group is made.
    n_old : int
        Rows of the old group.
    left_out : RowRange
        The rows that go.
    """

    old: Path
    target: Path
    n_old: int
    left_out: RowRange

    @property
    def n_rows(self) -> int:  # type: ignore[override]
        """Rows of the shorter group."""
        return self.n_old - self.left_out.n_rows

    @property
    def n_kept(self) -> int:
        """Rows before those that go."""
        return self.left_out.start

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows from before those that go, from behind them, or both."""
        first, n_gone = self.left_out.start, self.left_out.n_rows
        spans = (start, min(stop, first)), (max(start, first) + n_gone, stop + n_gone)
        return np.concatenate(
            [read_rows(self.old, name, *span) for span in spans if span[0] < span[1]]
        )


__all__ = ["Cut", "Growth", "Piece", "link_tree"]
