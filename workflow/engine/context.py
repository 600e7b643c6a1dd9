"""What a step is given: the run folder, the settings, the images, and someone to do the work."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.chunks import choose_block_rows, row_ranges
from workflow.engine.partitions import Partition, n_rows, partition_rows, partitions, totals
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.step import Step
    from workflow.ingest import ImagesInput
    from workflow.runstore import RunStore
    from workflow.runstore.journal import Journal
    from workflow.runstore.paths import Place
    from workflow.runstore.zarr_io import ImageStore


@dataclass
class Context:
    """One run at work.

    Attributes
    ----------
    store : RunStore
        The run folder.
    config : Config
        The effective settings.
    executor : Executor
        Runs tasks.
    given : ImagesInput
        The images as the user gave them.
    steps : sequence of Step
        All steps of the workflow, in their order.
    """

    store: RunStore
    config: Config
    executor: Executor
    given: ImagesInput
    steps: Sequence[Step]

    @functools.cached_property
    def images(self) -> ImageStore:
        """The images, readable in place: the user's, or the copy in the run folder."""
        return self.given.store or zarr_io.open_images(self.store.path / layout.IMAGES)

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return self.images.n_samples

    @property
    def block_rows(self) -> int:
        """Rows of a block, of images, scores and labels alike."""
        asked = self.config.block_rows
        if asked != "auto":
            return asked
        return choose_block_rows(self.images.n_features, self.images.stored_rows)

    @property
    def block_sizes(self) -> list[int]:
        """Rows of each block."""
        return [rows.n_rows for rows in row_ranges(self.n_samples, self.block_rows)]

    @property
    def partitions(self) -> list[Partition]:
        """The restartable units of every pass over the images."""
        return partitions(self.n_samples, self.block_rows)

    def rows_journal(
        self,
        step: str,
        group: Path,
        arrays: Mapping[str, str],
        *,
        dims: Sequence[str] = ("sample",),
        tail_shape: Sequence[int] = (),
        part: str = "blocks",
        needs: Sequence[Path] = (),
    ) -> Journal:
        """Return the journal of a pass that writes a row for each image, and the arrays for it.

        Parameters
        ----------
        step, part : str
            Name of the step, and of the journal.
        group : Path
            The Zarr group that the tasks write.
        arrays : mapping of str to str
            Names of its arrays -> their types.
        dims : sequence of str
            Names of the dimensions of all arrays; the first one is ``sample``.
        tail_shape : sequence of int
            Lengths of the others.
        needs : sequence of Path
            Folders that tasks leave files in.

        Returns
        -------
        Journal
            Of what is there already; where it has no entries, arrays and folders are made anew.
        """
        journal = self.store.journal(step, part, needs=(group, *needs))
        if not journal.entries:
            for place in (group, *needs):
                discard(place)
            for folder in needs:
                folder.mkdir(parents=True)
            for name, dtype in arrays.items():
                zarr_io.create_rows_array(
                    group,
                    name,
                    n_rows=self.n_samples,
                    tail_shape=tuple(tail_shape),
                    dtype=dtype,
                    shard_rows=partition_rows(self.n_samples, self.block_rows),
                    block_rows=self.block_rows,
                    dims=tuple(dims),
                    compressor=None,
                )
        return journal

    def run_partitions(
        self,
        step: str,
        task: Callable[[Any], dict[str, Any]],
        journal: Journal,
        *,
        items: Mapping[int, Any] | None = None,
        name: str = "",
    ) -> Mapping[int, dict[str, Any]]:
        """Run the tasks of a pass that its journal lacks, and count what they read and write.

        Parameters
        ----------
        step : str
            Name of the step.
        task : callable
            Takes an item, returns a JSON-able report; picklable.
        journal : Journal
            Where finished tasks are recorded.
        items : mapping of int to object, optional
            Task -> what it works on, with `n_rows`; the partitions of the images by default.
        name : str, optional
            Name of the pass in the progress; that of the step by default.

        Returns
        -------
        mapping of int to dict
            Task -> its report.
        """
        if items is None:
            items = {partition.index: partition for partition in self.partitions}
        reports = self.executor.run(name or step, task, items, journal=journal, n_rows=n_rows)
        self.count(step, reports)
        return reports

    def count(self, step: str, reports: Mapping[int, Mapping[str, Any]]) -> None:
        """Add what tasks reported to the counters of a step."""
        counters = self.store.step(step).counters
        for name, value in totals(reports).items():
            counters[name] = counters.get(name, 0) + value
        counters["peak_rss_bytes"] = max(
            counters.get("peak_rss_bytes", 0), self.executor.peak_rss_bytes
        )

    def split(self, per_block: list[Any]) -> list[list[Any]]:
        """Return a list with a value per block as a list per partition."""
        cut, first = [], 0
        for partition in self.partitions:
            cut.append(per_block[first : first + len(partition.blocks)])
            first += len(partition.blocks)
        return cut

    def paths(self) -> Place | None:
        """Return the group that holds the file names of the images, None where there are none."""
        return named_group(self.images)


def named_group(images: ImageStore) -> Place | None:
    """Return the Zarr group that holds the file names beside the images, None where there are none."""
    in_group = images.kind == "zarr" and bool(images.key)
    has_names = in_group and zarr_io.node_kind(images.path / "path") == "array"
    return images.path if has_names else None
