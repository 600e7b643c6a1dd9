"""How far a step is: a bar on a terminal, plain lines in a log; always on stderr.  See `watching` for Jupyter."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.mapper import Bar

#: Steps shorter than this stay silent [s].
SILENT_S = 2.0
#: Time between two plain lines [s].
LINE_EVERY_S = 10.0


class Progress:
    """Shows the progress of steps; chooses how by where stderr goes."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.step = ""
        self._meter: Meter | None = None

    def plan(self, steps: Sequence[tuple[str, bool]]) -> None:
        """Learn the steps of a run, and which of them are due."""

    def begin(self, name: str) -> None:
        """Learn that a step begins."""
        self.step = name

    def finish(self, name: str, seconds: float) -> None:
        """Learn that a step is done, and the time it took in all [s]."""

    def link(self, address: str, told: str) -> None:
        """Learn where the dashboard is: for a browser, and in words."""

    def saw(self, n_workers: int, n_lost: int) -> None:
        """Learn how many workers there are, and how many were lost."""

    @property
    def counts_workers(self) -> bool:
        """Whether somebody wants to know how many workers there are."""
        return self.is_log

    @property
    def is_log(self) -> bool:
        """Whether it goes where nobody watches: a file, a scheduler's log."""
        return self.enabled and not in_notebook() and not sys.stderr.isatty()

    def text(self) -> str:
        """Return one line about now."""
        meter = self._meter
        if meter is None:
            return self.step or "no step yet"
        return meter.text()

    @contextlib.contextmanager
    def bar(self, name: str, total: int, unit: str = "images") -> Iterator[Bar]:
        """Show one step from its first unit to its last."""
        if not self.enabled:
            yield _SilentBar()
        elif sys.stderr.isatty():
            with _terminal_bar(name, total, unit) as shown:
                yield shown
        else:
            self._meter = bar = _LineBar(name, total, unit)
            try:
                yield bar
            finally:
                self._meter = None


class _SilentBar:
    """Shows nothing."""

    def advance(self, n: int) -> None:
        """Count nothing."""


class Meter:
    """Share done, rate and time left."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, max(total, 1), unit
        self.done = 0
        self.started = self.shown = time.monotonic()

    def text(self) -> str:
        """Return one line about now."""
        return f"{self.name}: {self.figures()}"

    def figures(self) -> str:
        """Return share, rate and time left."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate else float("inf")
        share = 100 * self.done / self.total
        left_text = f"{left:,.0f} s left" if left < float("inf") else "time left unknown"
        return f"{share:.0f} %, {rate:,.0f} {self.unit}/s, {left_text}"


class _LineBar(Meter):
    """A plain line now and then."""

    def advance(self, n: int) -> None:
        """Count, and print when it is time."""
        self.done += n
        now = time.monotonic()
        waited = LINE_EVERY_S if self.shown > self.started else SILENT_S
        if now - self.shown >= waited:
            self.shown = now
            print(self.text(), file=sys.stderr, flush=True)  # noqa: T201


class _TerminalBar(Meter):
    """A bar of rich, shown once the step is not a short one."""

    def __init__(self, name: str, total: int, unit: str, progress: RichProgress) -> None:
        super().__init__(name, total, unit)
        self.progress = progress
        self.task = progress.add_task(name, total=self.total, rate="", visible=False)

    def advance(self, n: int) -> None:
        """Count and redraw."""
        self.done += n
        elapsed = max(time.monotonic() - self.started, 1e-9)
        rate = f"{self.done / elapsed:,.0f} {self.unit}/s"
        self.progress.update(self.task, advance=n, rate=rate, visible=elapsed >= SILENT_S)


@contextlib.contextmanager
def _terminal_bar(name: str, total: int, unit: str) -> Iterator[Bar]:
    """Open a bar on the terminal and wipe it at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _TerminalBar(name, total, unit, progress)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
