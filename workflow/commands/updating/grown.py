"""The source of a run that has grown: which of its images are new, and whether the others are what they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import RowRange
from workflow.commands.base import is_same, open_new
from workflow.commands.updating.forgotten import forgotten_rows, not_forgotten
from workflow.engine.segments import segments
from workflow.engine.verify import block_checksums
from workflow.errors import ImagesError, StoreError
from workflow.ingest import (
    ImagesInput,
    file_of,
    files_of,
    first_difference,
    noted_of_images,
    some_files,
    some_rows,
)
from workflow.ingest.readers.files import printable
from workflow.ingest.source import prepared
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.segments import Segment
    from workflow.ingest import Source
    from workflow.mapper import Rows
    from workflow.runstore import RunStore

#: Blocks that a task compares.
BLOCKS_OF_TASK = 16


def own_source(store: RunStore, config: Config) -> ImagesInput:
    """Open the source that a run was made from.

    Raises
    ------
    ImagesError
        If it is gone, or was in memory.
    """
    try:
        return open_new(store, store.manifest.images["path"], config)
    except (ImagesError, StoreError) as err:
        msg = f"`update` without images must find the source of the run; {str(err).rstrip('.')}. Give the new images."
        raise ImagesError(msg) from None


@dataclass(frozen=True, slots=True)
class Grown:
    """A source that a run has read before, once or several times.

    Attributes
    ----------
    store : RunStore
        The run.
    given : ImagesInput
        The source as it is now.
    segments : list of Segment
        The segments of the run that came from it.
    """

    store: RunStore
    given: ImagesInput
    segments: list[Segment]

    @property
    def place(self) -> str:
        """Name of the source."""
        return zarr_io.full_name(self.given.name)

    @classmethod
    def of(cls, store: RunStore, given: ImagesInput) -> Grown | None:
        """Return the source as one that a run has read, by its path; None where the run has not."""
        place = zarr_io.full_name(given.name)
        read = [segment for segment in segments(store) if segment.n_samples]
        mine = [s for s in read if zarr_io.full_name(s.images["path"]) == place]
        forgotten = forgotten_rows(store, place)
        whole = [number for number, segment in enumerate(mine) if segment.images.get("again")]
        # Where all its images came again, others may have taken the place of those of before.
        return cls(store, given, mine[whole[-1] if whole else 0 :]) if mine or forgotten else None

    @property
    def is_as_read(self) -> bool:
        """Whether the source is what it was when it was last read, by its fingerprint."""
        return any(is_same(segment.images, self.given) for segment in self.segments)

    def gained(self, executor: Executor, work: Path) -> ImagesInput | None:
        """Return the images that the source has gained.

        Parameters
        ----------
        executor : Executor
            Runs the tasks.
        work : Path
            A new folder, for what must be decoded to be compared.

        Returns
        -------
        ImagesInput or None
            None where it has gained none.

        Raises
        ------
        ImagesError
            If images that the run has read are gone or others.
        """
        source, known = self.given.source, self.store.manifest.images
        if [list(source.image_shape), source.dtype.name] != [known["shape"][1:], known["dtype"]]:
            # Refused as any other images of another shape are.
            return self.given
        work.mkdir(parents=True)
        if files_of(self.given.source) is None:
            new = self._new_rows(executor, work)
        else:
            new = self._new_files(executor, work)
        return None if new is None else ImagesInput(self.given.name, new, new.fingerprint())

    def note(self, store: RunStore, record: dict[str, Any]) -> None:
        """Let the segments of a run, and the record of the images that come, know the source as it is now."""
        found, mine = self.given.fingerprint, Grown.of(store, self.given)
        assert mine is not None
        for images in (*(segment.images for segment in mine.segments), record["images"]):
            images["same"] = [*images.get("same", []), self.given.digest]
            if "metadata" in found:
                images["metadata"] = found["metadata"]

    def _new_rows(self, executor: Executor, work: Path) -> Source | None:
        """Return the rows behind those that the run has read, which are compared."""
        given = self.given
        firsts = [noted_of_images(s.images, "first_row") or 0 for s in self.segments]
        spans = [(first, s.n_samples) for first, s in zip(firsts, self.segments, strict=True)]
        spans += forgotten_rows(self.store, self.place)
        n_read = max(first + n_samples for first, n_samples in spans)
        if given.n_samples < n_read:
            what = f"{given.n_samples:,} images, and the run has read {n_read:,}"
            raise self._gone(what)
        images = prepared(given.source, work, executor)
        for first, segment in zip(firsts, self.segments, strict=True):
            found = self._difference(executor, images, segment, first)
            if found is not None:
                what = f"images {found.start} to {found.stop - 1}"
                raise self._changed(what)
        if given.n_samples == n_read:
            return None
        return some_rows(given.source, n_read, given.n_samples)

    def _new_files(self, executor: Executor, work: Path) -> Source | None:
        """Return the files that the run has not read; the others are compared."""
        files = files_of(self.given.source)
        assert files is not None
        names = {printable(name): name for name in files.names}
        taken: set[str] = set()
        readable: set[str] = set()
        again: set[str] = set()
        for segment in self.segments:
            read = self._files(segment, "path", names)
            failed = self._files(segment, "unreadable", names) - read
            both = read | failed
            there = files.some([name for name in files.names if printable(name) in both])
            if there.fingerprint()["files"] != noted_of_images(segment.images, "files"):
                good = [name for name in files.names if printable(name) in read]
                self._compare(segment, good, executor, work)
                again |= failed
            taken |= both
            readable |= read
        left = not_forgotten(self.store, self.place, names.keys() - taken)
        new = {names[key] for key in left}
        new |= self._readable_now(
            [names[name] for name in sorted(again - readable)], executor, work
        )
        ordered = [name for name in files.names if name in new]
        return some_files(self.given.source, ordered) if ordered else None

    def _files(self, segment: Segment, array: str, names: dict[str, str]) -> set[str]:
        """Return the files that images of a segment were read from, or could not be."""
        if array not in zarr_io.array_names(segment.copied):
            return set()
        items = [str(item) for item in zarr_io.read_array(segment.copied, array)]
        found = {item: file_of(item, names) for item in items}
        gone = [item for item, name in found.items() if name is None]
        if gone:
            more = f" and {len(gone) - 1:,} others" if len(gone) > 1 else ""
            what = f"no {gone[0]}{more} any more"
            raise self._gone(what)
        return {name for name in found.values() if name is not None}

    def _compare(
        self, segment: Segment, names: Sequence[str], executor: Executor, work: Path
    ) -> None:
        """Decode files again whose times or sizes have changed, and refuse other images."""
        folder = work / f"segment-{segment.start}"
        folder.mkdir()
        images = prepared(some_files(self.given.source, names), folder, executor)
        if images.n_samples != segment.n_samples:
            what = f"the number of images in the same files, {segment.n_samples:,} before and {images.n_samples:,} now"
            raise self._changed(what)
        found = self._difference(executor, images, segment, 0)
        if found is not None:
            copy = zarr_io.open_images(segment.copied)
            differs = (copy.read(*found) != images.read(*found)).any(axis=1)
            row = found.start + int(np.argmax(differs))
            path = zarr_io.read_rows(segment.copied, "path", row, row + 1)[0]
            what = f"{path} (image {segment.start + row})"
            raise self._changed(what)

    def _readable_now(self, failed: Sequence[str], executor: Executor, work: Path) -> set[str]:
        """Return which of the files that could not be read can be now; they may have been unfinished."""
        if not failed:
            return set()
        folder = work / "again"
        folder.mkdir()
        try:
            found: Any = prepared(some_files(self.given.source, failed), folder, executor)
        except ImagesError:
            return set()
        names = {printable(name): name for name in failed}
        read = {file_of(item, names) for item in found.read_paths(0, found.n_samples)}
        return {names[name] for name in read if name is not None}

    def _difference(
        self, executor: Executor, images: Source, segment: Segment, first: int
    ) -> RowRange | None:
        """Return the first images of a block that are not what the run has read; None where all are."""
        blocks = [
            (RowRange(rows.start - segment.start + first, rows.stop - segment.start + first), crc)
            for rows, crc in block_checksums(self.store, "pca/moments")
            if segment.start <= rows.start < segment.stop
        ]
        tasks = [blocks[at : at + BLOCKS_OF_TASK] for at in range(0, len(blocks), BLOCKS_OF_TASK)]
        found = executor.map(Compare(images), tasks)
        return next((rows for rows in found if rows is not None), None)

    def _gone(self, what: str) -> ImagesError:
        """Return the error for images that are gone."""
        return ImagesError(
            f"a source that grows must keep the images that the run has read; {self.given.name} holds {what}. Put them back, or give the new images by a path of their own."
        )

    def _changed(self, what: str) -> ImagesError:
        """Return the error for images that are others."""
        return ImagesError(
            f"a source that grows must keep the images that the run has read; {self.given.name} differs in {what}. Restore them, or add all its images as new ones with --again."
        )


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares blocks of images with their checksums."""

    images: Rows

    def __call__(self, blocks: Sequence[tuple[RowRange, int]]) -> RowRange | None:
        """Return the first block that differs."""
        return first_difference(self.images, [(RowRange(*rows), crc) for rows, crc in blocks])
