"""report: the page of a run, written again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import images_of, require_labels, stored_config
from workflow.engine.summary import write_summary
from workflow.runstore import RunStore, layout
from workflow.steps.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def report(run: Path | str, *, overrides: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a run with labels again; return the page."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labels(store)
        write_report(steps.STEPS, store, config, images_of(store))
        write_summary(steps.STEPS, store)
        if store.step("report").state != "complete":
            store.finish("report")
    return store.path / layout.REPORT
