"""status: what a run folder holds, each step absent, partial, complete or stale, and whether it is intact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import stored_config
from workflow.commands.updating import CHANGED
from workflow.config import flatten
from workflow.engine.segments import added, segment_folder
from workflow.engine.staleness import step_plans
from workflow.engine.summary import read_summary, summarize
from workflow.engine.verify import check_named
from workflow.errors import StoreError
from workflow.runstore import RunStore, layout
from workflow.runstore.manifest import Manifest
from workflow.steps.parts.edits import said_by_hand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


#: Names, and things done by hand, that are printed.
MAX_SAID = 8


def status(
    run: Path | str, *, verify: bool = False, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the state of each step of a run, with settings by dotted key over those it was last made with.

    ``steps`` has state, reason and seconds of each; ``names``, ``names_not_found`` and ``done`` what a person
    has said and done, the last first; ``damaged`` what differs from its checksum, empty when
    nothing does, or nothing was read and compared (`verify`).
    """
    store = RunStore.open(run, rows=verify)
    plans = step_plans(steps.STEPS, store, stored_config(store, overrides))
    states = {
        plan.name: {
            "state": plan.state,
            "reason": plan.reason,
            "seconds": round(store.step(plan.name).seconds, 3),
        }
        for plan in plans
    }
    for name, record in store.manifest.steps.items():
        if name not in states:
            seconds = round(record.seconds, 3)
            reason = "this version does not know the step"
            states[name] = {"state": "unknown", "reason": reason, "seconds": seconds}
    damaged = list(_damages(store)) if verify else []
    return {
        "run": str(store.path),
        "steps": states,
        **said_by_hand(store),
        "verified": verify,
        "damaged": damaged,
    }


def lines_by_hand(found: Mapping[str, Any]) -> list[str]:
    """Return what a person has said and done, the first of each, for a person."""
    said = {
        "names": [f"{cluster} {name}" for cluster, name in found["names"].items()],
        "not found now": found["names_not_found"],
        "done by hand, the last first": found["done"],
    }
    return [
        f"{what}: {', '.join(some[:MAX_SAID])}"
        + (f" and {len(some) - MAX_SAID:,} more, which `name RUN` lists" if some[MAX_SAID:] else "")
        for what, some in said.items()
        if some
    ]


def _damages(store: RunStore) -> Iterator[str]:
    """Yield a line for everything whose bytes are not what was written."""
    known = [*store.manifest.steps, *(step.name for step in steps.STEPS)]
    yield from _damages_of_steps(store, list(dict.fromkeys(known)))
    for number in range(1, len(added(store)) + 1):
        before = segment_folder(store, number) / layout.BEFORE
        if not before.is_dir():  # images were forgotten since
            continue
        try:
            was = RunStore(before, Manifest.load(before))
        except StoreError as err:
            yield f"{before.relative_to(store.path)}: cannot be read ({err})"
            continue
        for line in _damages_of_steps(was, CHANGED):
            yield f"{before.relative_to(store.path)}/{line}"
    if all(store.step(step.name).state == "complete" for step in steps.STEPS):
        yield from _check_summary(store)


def _damages_of_steps(store: RunStore, names: Sequence[str]) -> Iterator[str]:
    """Yield a line for all that steps have written and whose bytes are not what was written."""
    for name in names:
        for file, checksum in store.step(name).checksums.items():
            yield from check_named(store.path / file, file, checksum)
    for step in steps.STEPS:
        if step.name in names:
            try:
                yield from step.verify(store)
            except StoreError as err:
                yield f"{step.name}: cannot be read ({err})"


#: A run folder may be moved, and its page with it.
MOVED = {"report": ""}


def _check_summary(store: RunStore) -> Iterator[str]:
    """Check the summary against what the run holds."""
    try:
        written, found = read_summary(store), summarize(steps.STEPS, store)
    except StoreError as err:
        yield f"{layout.SUMMARY}: cannot be compared ({err})"
        return
    if flatten(written).keys() != flatten(found).keys():
        yield f"{layout.SUMMARY}: another version wrote it; `run` writes it anew"
    elif written | MOVED != found | MOVED:
        yield f"{layout.SUMMARY}: says other things than the run holds"
