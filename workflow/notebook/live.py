"""Progress in a notebook: every step with its bar, redrawn in place under the cell."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.engine.progress import SILENT_S, Meter, Progress, in_notebook
from workflow.errors import WorkflowError
from workflow.report import LiveRow, live_html

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.mapper import Bar

#: Time between two drawings [s]: a browser far away is sent some kilobytes each time.
DRAW_S = 0.5


@contextlib.contextmanager
def watched(title: str, *, enabled: bool = True) -> Iterator[Progress]:
    """Show the progress of what is done inside, in the way that suits the place.

    Parameters
    ----------
    title : str
        What is done.
    enabled : bool
        Whether anything is shown.

    Yields
    ------
    Progress
        To be given to whoever works.
    """
    if not enabled or not in_notebook():
        yield Progress(enabled=enabled)
        return
    progress = NotebookProgress(title)
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close("stopped", "The same call goes on from there.")
        raise
    except BaseException as err:
        text = " ".join(str(err).split())
        progress.close(
            "failed", text if isinstance(err, WorkflowError) else f"{type(err).__name__}: {text}"
        )
        raise
    progress.close("done", "")


@dataclass(slots=True)
class _Step:
    """What is known of one step."""

    state: str = "waiting"
    seconds: float = 0.0
    since: float = 0.0
    meter: Meter | None = None


class NotebookProgress(Progress):
    """Draws all steps into one output of a notebook's cell.

    Parameters
    ----------
    title : str
        What is done.

    Notes
    -----
    One output that is replaced, of HTML without script: it works in every
    front end, is saved with the notebook, and needs no package but IPython.
    A thread redraws it, so that time goes on where a step tells nothing.  What
    has nothing to do, or one pass of less than two seconds, is not drawn.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.steps: dict[str, _Step] = {}
        self.started = time.monotonic()
        self._state, self._end = "running", ""
        self._workers = self._address = self._told = ""
        self._handle: Any = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_drawing, name="progress", daemon=True)

    @property
    def counts_workers(self) -> bool:
        """Whether somebody wants to know how many workers there are."""
        return True

    def plan(self, steps: Sequence[tuple[str, bool]]) -> None:
        """Learn the steps of a run, and which of them are due."""
        self.steps = {name: _Step("waiting" if is_due else "complete") for name, is_due in steps}
        if any(is_due for _, is_due in steps):
            self.open()

    def begin(self, name: str) -> None:
        """Learn that a step begins."""
        super().begin(name)
        self.steps[name] = _Step("running", since=time.monotonic())

    def finish(self, name: str, seconds: float) -> None:
        """Learn that a step is done, and the time it took in all [s]."""
        self.steps[name] = _Step("done", seconds)

    def link(self, address: str, told: str) -> None:
        """Learn where the dashboard is: for a browser, and in words."""
        self._address, self._told = address, told if told != address else ""

    def saw(self, n_workers: int, n_lost: int) -> None:
        """Learn how many workers there are, and how many were lost."""
        noun = "worker" if n_workers == 1 else "workers"
        self._workers = f"{n_workers} {noun}" + (f", {n_lost} lost" if n_lost else "")

    @contextlib.contextmanager
    def bar(
        self, name: str, total: int, unit: str = "images", *, is_bound: bool = False
    ) -> Iterator[Bar]:
        """Show one pass of a step from its first unit to its last."""
        # Outside of a run there are no steps: each pass counts as one.
        step = self.steps.get(self.step) or self.steps.setdefault(
            name, _Step("running", since=time.monotonic())
        )
        step.meter = meter = _Counted(name, total, unit, self, is_bound=is_bound)
        try:
            yield meter
        finally:
            if not self.step:
                self.steps[name] = _Step("done", time.monotonic() - step.since)

    def close(self, state: str, end: str) -> None:
        """Draw the last state: ``done``, ``stopped`` or ``failed``, and why."""
        if self._handle is None:
            return
        self._closed.set()
        self._thread.join()
        self._state, self._end = state, end
        for step in self.steps.values():
            if step.state == "running" and state != "done":
                step.state, step.seconds = state, time.monotonic() - step.since
        self.draw()

    def html(self) -> str:
        """Return what is shown now."""
        elapsed = time.monotonic() - self.started
        words = {"running": "running for", "done": "done in"}.get(
            self._state, f"{self._state} after"
        )
        message = f"{words} {elapsed:,.0f} s"
        if self._state in ("stopped", "failed") and self.step:
            message += f" in {self.step}"
        if self._state == "running":
            message += f"; {self._workers}" if self._workers else ""
        message += f". {self._end}" if self._end else ""
        # What is over has no dashboard any more.
        link = self._address if self._state == "running" else ""
        hint = self._told if self._state == "running" else ""
        rows = [_row(name, step) for name, step in self.steps.items()]
        return live_html(self.title, self._state, message, rows, link=link, hint=hint)

    def draw(self) -> None:
        """Replace what is shown."""
        with self._lock:
            self._handle.update(_html(self.html()))

    def open(self) -> None:
        """Make the output, under the cell that runs now: other threads know of no cell."""
        if self._handle is None:
            self._handle = _display().display(_html(self.html()), display_id=True)
            self._thread.start()

    def _keep_drawing(self) -> None:
        """Draw until closed."""
        while not self._closed.wait(DRAW_S):
            self.draw()


class _Counted(Meter):
    """Counts; a thread draws, once what is done turns out to take its time."""

    progress: NotebookProgress

    def advance(self, n: int) -> None:
        """Count."""
        super().advance(n)
        if time.monotonic() - self.progress.started >= SILENT_S:
            self.progress.open()


def _row(name: str, step: _Step) -> LiveRow:
    """Return a step as it is drawn."""
    if step.state == "complete":
        return LiveRow(name, step.state, None, "was complete")
    if step.state != "running":
        text = f"{step.seconds:,.1f} s" if step.seconds else ""
        meter = step.meter
        return LiveRow(name, step.state, meter.done / meter.total if meter else None, text)
    if step.meter is None:
        return LiveRow(name, step.state, None, f"{time.monotonic() - step.since:,.0f} s")
    meter = step.meter
    part = meter.name.removeprefix(name).lstrip(": ")
    text = f"{meter.figures()} ({part})" if part else meter.figures()
    return LiveRow(name, step.state, meter.done / meter.total, text)


def _display() -> Any:
    """Return IPython's display module, which only a notebook has loaded."""
    return importlib.import_module("IPython.display")


def _html(text: str) -> Any:
    """Return HTML as IPython displays it."""
    return _display().HTML(text)
