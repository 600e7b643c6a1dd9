"""What a run shows of itself in a notebook, whatever state it is in."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workflow.engine.summary import read_summary
from workflow.errors import WorkflowError, one_line
from workflow.report import ReportData, run_html, unfinished_html
from workflow.runstore import RunStore, layout
from workflow.steps import STEPS
from workflow.steps.report import ContactSheets, certainty_of, shown_tree_data
from workflow.steps.tree import stored_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workflow.report import Sheet

T = TypeVar("T")

#: Clusters with pictures, and pictures of each.
N_CLUSTERS, N_IMAGES = 12, 12


def html_of(path: Path) -> str:
    """Return a run folder as HTML for a notebook; never raises.

    Parameters
    ----------
    path : Path
        The run folder.

    Returns
    -------
    str
        All that can be read; of the rest it is said why it is not there.
    """
    token = uuid.uuid4().hex[:8]
    try:
        store = RunStore.open(path)
        summary = read_summary(store)
        if not is_complete(store):
            return _unfinished(store, "the labels are not made, or not made anew")
        return run_html(_gathered(store, summary), token)
    except WorkflowError as err:
        return unfinished_html("A run that cannot be read", [_line(err)], [])
    except Exception as err:  # noqa: BLE001 - a run that is damaged in a way nobody thought of is still shown
        return unfinished_html("A run that cannot be shown", [_line(err), str(path)], [])


def text_of(path: Path) -> str:
    """Return a run folder as one line of text; never raises."""
    try:
        store = RunStore.open(path)
        if not is_complete(store):
            return f"Run({str(path)!r}, incomplete: {_next_step(store)} is next)"
        summary = read_summary(store)
        return f"Run({str(path)!r}, n_samples={summary['n_samples']}, n_clusters={summary['n_clusters']})"
    except Exception as err:  # noqa: BLE001 - as above
        return f"Run({str(path)!r}, unreadable: {_line(err)})"


def is_complete(store: RunStore) -> bool:
    """Whether the labels of a run are those of its last settings."""
    return store.step("labels").state == "complete" and _next_step(store) in (None, "report")


def _next_step(store: RunStore) -> str | None:
    """Return the first step that is not complete."""
    names = [step.name for step in STEPS]
    return next((name for name in names if store.step(name).state != "complete"), None)


def _unfinished(store: RunStore, why: str) -> str:
    """Return the states of the steps of a run without labels."""
    states = [(step.name, store.step(step.name).state) for step in STEPS]
    notes = [f"{why}; the call that made the run goes on with {_next_step(store)}"]
    return unfinished_html(f"A run without results yet: {store.path.name}", notes, states)


def _gathered(store: RunStore, summary: dict[str, Any]) -> ReportData:
    """Return what can be read of a run that is complete."""
    notes: list[str] = []

    def tried(what: str, make: Callable[[], T], instead: T) -> T:
        try:
            return make()
        except Exception as err:  # noqa: BLE001 - one damaged part must not hide the others
            notes.append(f"{what} cannot be shown: {_line(err)}")
            return instead

    nothing: list[Sheet] = []
    files = store.path / layout.MANIFEST, store.path / layout.SUMMARY
    stamp = tuple(file.stat().st_mtime_ns for file in files)
    sheets = tried("the pictures", lambda: _sheets(store.path, stamp), nothing)
    return ReportData(
        title="",
        run_path=str(store.path),
        summary=summary,
        cluster_size=np.asarray(summary["cluster_sizes"], dtype=np.int64),
        tree=tried("the tree", lambda: shown_tree_data(store), None),
        certainty=tried("certainty", lambda: certainty_of(store, stored_tree(store)), None),
        sheets=[_first(sheet) for sheet in sheets],
        notes=notes,
    )


@lru_cache(maxsize=4)
def _sheets(path: Path, stamp: tuple[int, ...]) -> list[Sheet]:
    """Return the pictures, for which the labels of all images are read; `stamp` tells a changed run."""
    del stamp
    store = RunStore.open(path)
    return list(
        ContactSheets(store, None, read_summary(store), n_clusters=N_CLUSTERS, n_images=N_IMAGES)
    )


def _first(sheet: Sheet) -> Sheet:
    """Return a sheet with as many pictures as a notebook has room for."""
    images = sheet.images
    return sheet if images is None else replace(sheet, images=images[:N_IMAGES])


def _line(err: BaseException) -> str:
    """Return an error as one line."""
    text = one_line(err)
    return text if isinstance(err, WorkflowError) else f"{type(err).__name__}: {text}"
