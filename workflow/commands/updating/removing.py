"""Images of one segment taken out of a run: the rows behind them move up, sums are those of the rows that stay."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.centroid_graph import count_pairs, merge_pair_counts
from workflow.chunks import RowRange
from workflow.commands.updating.whole import Whole, write_segments
from workflow.engine.partitions import n_rows, part_path
from workflow.engine.segments import added, refitted_rows, segments, stored_partitions
from workflow.overcluster import cell_sums, merge_cell_sums
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.growth import Cut
from workflow.runstore.journal import Journal
from workflow.steps.base import part_files, read_ahead
from workflow.steps.families import families_of
from workflow.steps.map import map_of
from workflow.steps.overcluster import leave_sums, merge_sums, pairs_file, read_sums, write_sums
from workflow.steps.pca import (
    PcaSettings,
    find_components,
    merge_part_files,
    merged_with_unlabelled,
)
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.partitions import Partition
    from workflow.engine.segments import Segment
    from workflow.mapper import Rows
    from workflow.overcluster import CellSums
    from workflow.steps.overcluster import AssignSums

#: Journal of the pass over the rows that stay.
PART = "assign-0"


@dataclass(frozen=True, slots=True)
class Removal(Whole):
    """A segment that is taken out of a run.

    Attributes
    ----------
    number : int
        The segment; not the first one.
    """

    number: int

    def remove(self) -> None:
        """Take the images out of all that the run knows of them."""
        store, gone = self.store, segments(self.store)[self.number]
        (population,) = store.read_model("population")
        centroid = zarr_io.read_rows(store.path / layout.LABELS, "centroid", gone.start, gone.stop)
        n_left = np.bincount(centroid, minlength=len(population))
        self._leave_out_reports(gone)
        self._cut(gone)
        store.manifest.images["shape"][0] -= gone.n_samples
        store.manifest.updates.remove(added(store)[self.number - 1])
        self._count_segments()
        self._sum_cells()
        self.make_graph()
        self._sum_moments()
        self.label("forget", n_left)

    def _leave_out_reports(self, gone: Segment) -> None:
        """Let journals and folders of the steps tell of the images that stay; those behind are others' partitions."""
        store = self.store
        pca, behind = self._partitions_of(gone, 0), self._partitions_of(gone, refitted_rows(store))
        _renumber(store.folder("pca") / "moments.jsonl", pca)
        _move_up(store.folder("pca") / "parts", pca)
        for name in ("projection", "map", "families"):
            _renumber(store.folder(name) / "blocks.jsonl", behind)
        _move_up(layout.previews(store.path), behind)
        journal = Journal.reopen(store.folder("projection") / "blocks.jsonl")
        for index in [one for one in journal.entries if one >= behind.start]:
            path, report = part_path(layout.previews(store.path), index), journal.entries[index]
            kept = read_arrays(path, report["file_crc"])
            file_crc = write_arrays(path, {**kept, "row": kept["row"] - gone.n_samples})
            journal.append(index, {**report, "file_crc": file_crc})

    def _partitions_of(self, gone: Segment, n_whole: int) -> RowRange:
        """Return the numbers of the partitions of a segment; see `stored_partitions` for `n_whole`."""
        starts = [blocks[0].start for blocks in stored_partitions(self.store, n_whole)]
        return RowRange(bisect_left(starts, gone.start), bisect_left(starts, gone.stop))

    def _cut(self, gone: Segment) -> None:
        """Make the arrays of the run shorter."""
        store, path = self.store, self.store.path
        groups = [
            layout.scores(path),
            layout.nearest(path),
            layout.hashes(path),
            layout.statistics(path),
            map_of(store),
            families_of(store),
            path / layout.LABELS,
        ]
        for group in groups:
            if group is not None and group.exists():
                shorter, n_old = store.wip(group.name), store.manifest.images["shape"][0]
                cut = Cut(group, shorter, n_old, RowRange(gone.start, gone.stop))
                self.executor.map(cut, cut.begin())
                store.replace([(shorter, group)])

    def _count_segments(self) -> None:
        """Give the segments of the images their new numbers; a run of one has none."""
        labels, left = self.store.path / layout.LABELS, segments(self.store)
        discard(labels / "segment")
        if len(left) > 1:
            write_segments(labels, [segment.stop for segment in left], self._block_rows)
        else:
            zarr_io.consolidate(labels)

    def _sum_cells(self) -> None:
        """Sum over the cells of the images that stay; a centroid that has lost all its images is dropped."""
        store, executor, record = self.store, self.executor, self.store.step("overcluster")
        (centroids,) = store.read_model("centroids")
        for path in store.folder("overcluster").glob("assign-*.jsonl"):
            path.unlink()
        cells, journal = store.wip("cells"), store.journal("overcluster", PART)
        cells.mkdir()
        task = SumTask(stored_scores(store), layout.nearest(store.path), len(centroids), cells)
        parts = {part.index: part for part in self.context().partitions}
        reports = executor.run("overcluster", task, parts, journal=journal, n_rows=n_rows)
        shared = executor.share({"centroids": centroids})
        place = store.wip("model-overcluster")
        sums: AssignSums = executor.reduce(
            partial(read_sums, cells),
            part_files(reports),
            merge_sums,
            partial(leave_sums, shared, pairs_file(store), place),
        )
        discard(cells)
        n_empty = int((~sums.is_occupied).sum())
        n_requested = record.details["n_centroids_requested"] - n_empty
        if not n_empty:
            self.adopt_sums(sums, PART, n_requested)
            return
        self.assign(centroids[sums.is_occupied], n_requested)
        if store.step("map").details["points"] == "centroids":
            self.keep_positions(centroids, *store.read_model("map_position"))

    def _sum_moments(self) -> None:
        """Merge the moments that the passes have left of the images that stay, and find their components."""
        store, settings = self.store, self.config.section(PcaSettings)
        reports = Journal.reopen(store.folder("pca") / "moments.jsonl").entries
        labelled = merge_part_files(self.executor, store.folder("pca") / "parts", reports)
        merged = merged_with_unlabelled(store, labelled)
        n_zero = sum(report.get("n_zero", 0) for report in reports.values())
        self.keep_moments(merged, find_components(merged, settings.n_components), n_zero)

    @property
    def _block_rows(self) -> int:
        """Rows of a block."""
        rows: int = self.store.manifest.images["block_rows"]
        return rows


@dataclass(frozen=True, slots=True)
class SumTask:
    """Sums over the cells in a partition of images whose nearest centroids are known."""

    scores: Rows
    nearest: Path
    n_centroids: int
    folder: Path

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Leave the sums in a file; report its checksum, and those of the blocks."""
        cells: CellSums | None = None
        pairs, checksums = [], []
        for rows, read in read_ahead(self.scores, partition.blocks):
            nearest: NDArray[np.int32] = zarr_io.read_rows(self.nearest, "nearest", *rows)
            sq_distance = zarr_io.read_rows(self.nearest, "sq_distance", *rows)
            checksums.append([zarr_io.crc(nearest), zarr_io.crc(sq_distance)])
            block = read.astype(np.float32, copy=False)
            found = cell_sums(block, rows.start, nearest, sq_distance, self.n_centroids)
            cells = found if cells is None else merge_cell_sums(cells, found)
            pairs.append(count_pairs(nearest, self.n_centroids))
        path = part_path(self.folder, partition.index)
        assert cells is not None
        return {"crc": checksums, "file_crc": write_sums(path, cells, merge_pair_counts(*pairs))}


def _move_up(folder: Path, left_out: RowRange) -> None:
    """Remove the files of some partitions; those behind get the numbers before theirs."""
    for path in sorted(folder.glob("part-*.npz")):
        index = int(path.stem.partition("-")[2])
        if index >= left_out.stop:
            path.replace(part_path(folder, index - left_out.n_rows))
        elif index >= left_out.start:
            path.unlink()


def _renumber(path: Path, left_out: RowRange) -> None:
    """Write a journal without the reports of some partitions; those behind get the numbers before theirs."""
    if not path.exists():
        return
    old = Journal.reopen(path)
    kept = {
        index - left_out.n_rows * (index >= left_out.stop): {
            name: value for name, value in report.items() if name != "index"
        }
        for index, report in sorted(old.entries.items())
        if not left_out.start <= index < left_out.stop
    }
    key = str(Journal.key_of(path))
    path.unlink()
    Journal(path, key).extend(kept)
