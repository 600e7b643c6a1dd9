"""Time that tasks wait for rows to be read is told, and time in which rows are decoded is not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from workflow.chunks import RowRange
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.engine.waiting import Waits
from workflow.steps.base import read_ahead

if TYPE_CHECKING:
    from distributed import Client

BLOCKS = [RowRange(start, start + 10) for start in range(0, 60, 10)]


@dataclass(frozen=True)
class SlowRows:
    """Rows that take their time: asleep, as those on a slow disk, or computing, as those to be decoded."""

    asleep_s: float
    busy_s: float

    def read(self, start, stop):
        time.sleep(self.asleep_s)
        until = time.thread_time() + self.busy_s
        while time.thread_time() < until:
            pass
        return np.zeros((stop - start, 2))


@dataclass(frozen=True)
class ReadAll:
    rows: SlowRows

    def __call__(self, blocks):
        return {"rows": sum(len(block) for _, block in read_ahead(self.rows, blocks))}


@pytest.mark.parametrize(
    ("asleep_s", "busy_s", "least", "most"), [(0.05, 0.0, 0.8, 1.0), (0.0, 0.05, 0.0, 0.7)]
)
def test_waits__are_of_what_is_read_and_not_of_what_is_decoded(
    client: Client, tmp_path, asleep_s, busy_s, least, most
):
    for here in (None, client):
        progress = Progress(enabled=False)
        executor = Executor(here, progress, tmp_path)
        assert executor.map(ReadAll(SlowRows(asleep_s, busy_s)), [BLOCKS])[0] == {"rows": 60}
        waits = executor.waits
        assert waits.total_s >= 6 * (asleep_s + busy_s)
        assert least <= waits.reading_s / waits.total_s <= most
        assert progress.waits == waits
        total = executor.reduce(ReadAll(SlowRows(asleep_s, 0.0)), [BLOCKS[:2]], max)
        assert total == {"rows": 20}
        assert executor.waits.total_s > waits.total_s


def test_waits__are_told_from_a_fifth_on():
    assert Waits(1.9, 10).words == Waits().words == ""
    assert Waits(2.0, 10).words == "20% of the time waiting for what is read"
    assert Waits(2.0, 10).plus(Waits(1.0, 5)) == Waits(3.0, 15)
    assert Waits(1.5, 10).counters() == {"waited_ms": 1500, "tasks_ms": 10000}
