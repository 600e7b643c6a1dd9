"""How far out images lie: the distance to the centroid that 99 % of the images of a run do not exceed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow.chunks import row_ranges
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import Executor
    from workflow.runstore import RunStore

#: Share of the images of a run that are not far out.
USUAL_SHARE = 0.99
#: Distances that are read at a time.
ROWS_AT_ONCE = 2**20


def usual_distance(executor: Executor, labels: Path) -> float:
    """Return the distance that 99 % of the images do not exceed; found by a task that reads all."""
    (distance,) = executor.map(UsualDistance(), [labels])
    return distance


def stored_usual_distance(store: RunStore) -> float | None:
    """Return that distance of a run; None where it was not noted and the labels are gone."""
    details, labels = store.step("labels").details, store.path / layout.LABELS
    if "usual_distance" in details:
        return float(details["usual_distance"])
    return UsualDistance()(labels) if labels.exists() else None


@dataclass(frozen=True, slots=True)
class UsualDistance:
    """Finds the smallest distance that so large a share of the images does not exceed."""

    share: float = USUAL_SHARE
    rows_at_once: int = ROWS_AT_ONCE

    def __call__(self, labels: Path) -> float:
        """Read the distances twice: bits of numbers that are not negative rise as the numbers do."""
        stored = zarr_io.StoredRows.open(labels, "distance")
        left = max(1, math.ceil(self.share * stored.n_samples))
        counts = np.zeros(2**16, np.int64)
        for bits in self._bits(stored):
            counts += np.bincount(bits >> 16, minlength=2**16)
        high = int(np.searchsorted(counts.cumsum(), left))
        left -= int(counts[:high].sum())
        counts[:] = 0
        for bits in self._bits(stored):
            counts += np.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=2**16)
        low = int(np.searchsorted(counts.cumsum(), left))
        return float(np.uint32(high << 16 | low).view(np.float32))

    def _bits(self, stored: zarr_io.StoredRows) -> Iterator[NDArray[np.uint32]]:
        """Yield the bits of all distances, some at a time."""
        for rows in row_ranges(stored.n_samples, self.rows_at_once):
            yield stored.read(*rows)[:, 0].view(np.uint32)
