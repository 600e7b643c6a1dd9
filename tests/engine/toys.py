"""Toy steps: what the engine does for any step, in milliseconds and without workers.

first -> left, right -> last
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from workflow.config import Section, config_model, flatten
from workflow.engine.context import Context
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.engine.runner import run_steps
from workflow.engine.staleness import step_plans
from workflow.engine.step import Step
from workflow.errors import WorkflowError
from workflow.ingest import open_input
from workflow.runstore import RunStore

#: Images of a run, and rows of a block: 12 partitions of a block each.
N_IMAGES, BLOCK_ROWS = 60, 5


class ToySettings(Section):
    """Settings of a toy."""

    factor: int = Field(default=2, ge=1)
    """What every image is multiplied with before its values are added."""


class StopHereError(WorkflowError):
    """Stands for a kill at a known place."""


@dataclass
class Sum:
    """Sum of the values of a partition, times a factor; counts and stops where it is told."""

    images: object
    factor: int
    calls: list
    stop_at: int | None = None

    def __call__(self, partition):
        if self.stop_at is not None and len(self.calls) >= self.stop_at:
            msg = "stopped"
            raise StopHereError(msg)
        self.calls.append(partition.index)
        rows = self.images.read(partition.start, partition.start + partition.n_rows)
        return {"sum": int(rows.sum()) * self.factor, "bytes_read": rows.nbytes}


class Toy(Step):
    """Adds the sums of all partitions to what it reads."""

    section = ToySettings
    stop_at = None

    def __init__(self):
        self.calls = []

    def run(self, context):
        settings = context.config.section(self.section)
        journal = context.store.journal(self.name, "sums")
        task = Sum(context.images, settings.factor, self.calls, self.stop_at)
        reports = context.run_partitions(self.name, task, journal)
        before = [self.result(context.store, name) for name in self.reads]
        total = sum(report["sum"] for report in reports.values()) + sum(before)
        place = context.store.folder(self.name) / "sum.json"
        place.write_text(json.dumps(total))
        context.store.step(self.name).details = {"sum": total}

    def outputs(self, run):
        return [run / self.name / "sum.json"]

    def summary(self, store):
        return {f"{self.name}_sum": store.step(self.name).details.get("sum")}

    def describe(self, store):
        return f"a sum of {store.step(self.name).details['sum']}"

    @staticmethod
    def result(store, name):
        return json.loads((store.folder(name) / "sum.json").read_text())


def toy(name, *reads, **attributes):
    """Return a toy step with a section of its own."""
    section = type(f"{name.title()}Settings", (ToySettings,), {"__doc__": f"Settings of {name}."})
    content = {"name": name, "reads": reads, "settings": (f"{name}.factor",), "section": section}
    return type(name.title(), (Toy,), {**content, **attributes})()


def toys():
    """Return four steps, of which the last reads two that know nothing of each other."""
    return [
        toy("first", reads_images_first=True),
        toy("left", "first"),
        toy("right", "first"),
        toy("last", "left", "right"),
    ]


def make_images(folder):
    """Write some images; return their path."""
    path = folder / "images.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        np.save(path, rng.integers(0, 9, (N_IMAGES, 3, 2)).astype(np.uint8))
    return path


def run_toys(folder, steps, **settings):
    """Run steps in a folder as `run` does; return the store and the plans that it began with."""
    model = config_model({step.name: step.section for step in steps})
    nested = {key: {"factor": value} for key, value in settings.items()}
    config = model(block_rows=BLOCK_ROWS, **nested)
    given = open_input(make_images(folder))
    store = RunStore.create(folder / "run")
    with store.lock():
        if not store.manifest.images:
            store.manifest.images = {"digest": given.digest, "path": given.name}
        plans = step_plans(steps, store, config)
        store.manifest.config = flatten(config.model_dump(mode="json"))
        executor = Executor(None, Progress(enabled=False), folder / "shared")
        run_steps(Context(store, config, executor, given, steps), plans)
    return store, plans
