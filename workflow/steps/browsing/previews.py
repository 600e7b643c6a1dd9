"""Pictures that were kept while images were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.engine.partitions import part_path
from workflow.runstore import layout
from workflow.runstore.files import ArrayPlace, read_arrays
from workflow.steps.base import part_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.steps.base import PartFile


class Previews:
    """The pictures that were kept while images were read, in the files that tasks left.

    Attributes
    ----------
    rows : int64 array of shape (n_kept,)
        Rising rows of their images.
    """

    def __init__(self, store: RunStore) -> None:
        self._folder = layout.previews(store.path)
        self._parts = part_files(store.journal("projection", "blocks").entries)
        self._places: dict[int, ArrayPlace] = {}
        rows = [self._rows_of(part) for part in self._parts]
        self._first = np.cumsum([0] + [len(some) for some in rows])
        self.rows: NDArray[np.int64] = np.concatenate(rows)

    def _rows_of(self, part: PartFile) -> NDArray[np.int64]:
        """Return the rows of the pictures of a partition, whose file is compared with its checksum."""
        path = part_path(self._folder, part.partition)
        return read_arrays(path, part.file_crc, ["row"])["row"]

    def pictures(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Return pictures by their numbers, in this order; nothing else is read."""
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        place = np.searchsorted(self._first, ordered, side="right") - 1
        found = []
        # One file at least, for the shape and the type of pictures of which there is none.
        for number in np.unique(place).tolist() if len(place) else [0]:
            if number not in self._places:
                path = part_path(self._folder, self._parts[number].partition)
                self._places[number] = ArrayPlace.find(path, "images")
            here = ordered[place == number] - self._first[number]
            found.append(self._places[number].read(here))
        read = np.concatenate(found)
        pictures = np.empty_like(read)
        pictures[order] = read
        return pictures

    def has(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows have a picture."""
        if not len(self.rows):
            return np.zeros(len(rows), np.bool_)
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        has: NDArray[np.bool_] = self.rows[place] == rows
        return has

    def with_images(
        self, rows: NDArray[np.int64], images: ImageStore | None, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """Return pictures of rows in their shape; those that were not kept are read from the images."""
        place = np.searchsorted(self.rows, rows)
        is_kept = self.has(rows)
        kept = self.pictures(place[is_kept]).reshape(-1, *shape)
        pictures = np.empty((len(rows), *shape), kept.dtype)
        pictures[is_kept] = kept
        for number in np.flatnonzero(~is_kept):
            assert images is not None
            row = int(rows[number])
            pictures[number] = images.read(row, row + 1).reshape(shape)
        return pictures
