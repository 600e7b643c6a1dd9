"""A step of one's own, as docs/adding-a-step.md explains it: the brightness of each image."""

from functools import partial

import numpy as np
from pydantic import Field

from workflow.config import Section
from workflow.engine.plan import TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.runstore import zarr_io


class BrightnessSettings(Section):
    """Brightness of each image."""

    percentile: float = Field(default=50, ge=0, le=100)
    """Percentile of the pixels that counts as the brightness of an image."""


class BrightnessStep(Step):
    """Write the brightness of each image."""

    name, section, settings = "brightness", BrightnessSettings, ("brightness.percentile",)
    reads = ("ingest",)

    def run(self, context):
        target, percentile = self._target(context.store), context.config.brightness.percentile
        journal = context.rows_journal(self.name, target, {"brightness": "float32"})
        task = partial(measure_partition, context.images, percentile, target)
        context.run_partitions(self.name, task, journal)

    def _target(self, store):
        return store.folder(self.name) / "brightness.zarr"

    def outputs(self, run):
        return [run / "brightness" / "brightness.zarr"]

    def tasks(self, sizes):
        read, parts = sizes.n_samples * sizes.image_bytes, {"block": sizes.block_bytes}
        return [TaskPlan(self.name, sizes.n_partitions, read, 4 * sizes.n_samples, parts)]

    def verify(self, store):
        yield from check_rows_of_step(
            store, self.name, "blocks", self._target(store), ["brightness"]
        )


def measure_partition(images, percentile, target, partition):
    """Write the brightness of the images of a partition; return its report."""
    checksums = []
    with zarr_io.RowsWriter(target, "brightness", partition.start) as writer:
        for rows in partition.blocks:
            values = np.percentile(images.read(*rows), percentile, axis=1).astype(np.float32)
            writer.append(values)
            checksums.append(zarr_io.crc(values))
    return {"crc": checksums}
