"""What a run found, as ``summary.json`` and ``--json`` give it: each step adds its own part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.runstore import layout
from workflow.runstore.files import read_json, write_json
from workflow.runstore.manifest import present_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workflow.engine.step import Step
    from workflow.runstore import RunStore


def summarize(
    steps: Sequence[Step], store: RunStore, replaced: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the summary of a run.

    Parameters
    ----------
    steps : sequence of Step
        All steps; those that are complete say what they found.
    store : RunStore
        The run.
    replaced : mapping, optional
        Entries that hold for a result which is about to take the place of the stored one.

    Returns
    -------
    dict
        JSON-able; counts are of images unless the name says otherwise.
    """
    records = {step.name: store.step(step.name) for step in steps}
    spent = {name: record.seconds for name, record in records.items()}
    seconds = {
        name: round(time, 3)
        for name, time in {"start": store.manifest.start_seconds, **spent}.items()
    }
    summary: dict[str, Any] = {}
    # The last results are what a reader wants first.
    for step in reversed(steps):
        summary |= step.summary(store)
    return {
        **summary,
        **(replaced or {}),
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "peak_rss_bytes": max(r.counters.get("peak_rss_bytes", 0) for r in records.values()),
    }


def read_summary(store: RunStore) -> dict[str, Any]:
    """Return what ``summary.json`` holds."""
    return present_names(read_json(store.path / layout.SUMMARY))


def write_summary(steps: Sequence[Step], store: RunStore) -> dict[str, Any]:
    """Write ``summary.json`` in one move; return what it holds."""
    summary = summarize(steps, store)
    write_json(store.path / layout.SUMMARY, summary)
    return summary
