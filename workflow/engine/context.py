"""What a step is given: the run folder, the settings, the images, and someone to do the work."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.chunks import choose_block_rows, row_ranges
from workflow.engine.partitions import Partition, partitions, totals
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.step import Step
    from workflow.ingest.images import ImagesInput
    from workflow.runstore import RunStore
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

    def paths(self) -> Path | None:
        """Return the group that holds the file names of the images, None where there are none."""
        return named_group(self.images)


def named_group(images: ImageStore) -> Path | None:
    """Return the Zarr group that holds the file names beside the images, None where there are none."""
    has_names = images.kind == "zarr" and images.key and "path" in zarr_io.array_names(images.path)
    return images.path if has_names else None
