"""How far a step is: a bar on a terminal, plain lines in a log; always on stderr.  See `watching` for Jupyter."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from workflow.engine.waiting import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.mapper import Bar

log = logging.getLogger(__name__)

#: Steps shorter than this stay silent [s].
SILENT_S = 2.0
#: Time between two plain lines [s].
LINE_EVERY_S = 10.0


class Progress:
    """Shows the progress of steps; chooses how by where stderr goes."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.step = ""
        #: Of the tasks of this pass that are done.
        self.waits = Waits()
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
    def bar(
        self, name: str, total: int, unit: str = "images", *, is_bound: bool = False
    ) -> Iterator[Bar]:
        """Show one pass from its first unit to its last; a bound is the most that it may take."""
        if not self.enabled:
            yield _SilentBar()
        elif sys.stderr.isatty():
            with _terminal_bar(Meter(name, total, unit, self, is_bound=is_bound)) as shown:
                yield shown
        else:
            self._meter = bar = _LineBar(name, total, unit, self, is_bound=is_bound)
            try:
                yield bar
            finally:
                self._meter = None


class _SilentBar:
    """Shows nothing."""

    def advance(self, n: int) -> None:
        """Count nothing."""

    resume = advance


class Meter:
    """What is done of a pass, how fast, and the time left."""

    def __init__(
        self, name: str, total: int, unit: str, progress: Progress, *, is_bound: bool = False
    ) -> None:
        self.name, self.total, self.unit, self.is_bound = name, max(total, 1), unit, is_bound
        self.progress, progress.waits = progress, Waits()
        self.done = self.done_before = 0
        self.started = self.shown = time.monotonic()

    def advance(self, n: int) -> None:
        """Count."""
        self.done += n

    def resume(self, n: int) -> None:
        """Count what was done before."""
        self.done += n
        self.done_before += n

    def text(self) -> str:
        """Return one line about now."""
        return f"{self.name}: {self.figures()}"

    def figures(self) -> str:
        """Return what is done, how fast, and the time left."""
        most = "at most " if self.is_bound else ""
        share = "" if self.is_bound else f" ({100 * self.done / self.total:.0f} %)"
        found = f"{self.done:,} of {most}{self.total:,} {self.unit}{share}"
        n_here = self.done - self.done_before
        if not n_here:
            return found
        each = max(time.monotonic() - self.started, 1e-9) / n_here
        pace = f"{1 / each:,.0f} a second" if each < 1 else f"{each:,.1f} s each"
        left = f"{most}{_time(each * (self.total - self.done))} left"
        return ", ".join(filter(None, [found, pace, left, self.progress.waits.words]))


def _time(seconds: float) -> str:
    """Return a time to come: seconds, or minutes where there are many."""
    return f"{seconds:,.0f} s" if seconds < 1000 else f"{seconds / 60:,.0f} min"


class _LineBar(Meter):
    """A plain line now and then."""

    def advance(self, n: int) -> None:
        """Count, and print when it is time."""
        super().advance(n)
        now = time.monotonic()
        waited = LINE_EVERY_S if self.shown > self.started else SILENT_S
        if now - self.shown >= waited and self.done < self.total:
            self.shown = now
            self._say()

    def _say(self) -> None:
        """Print a line; where somebody listens to our messages it is one of them."""
        if log.isEnabledFor(logging.INFO) and log.hasHandlers():
            step = self.name.partition(":")[0]
            counted = {"done": self.done, "total": self.total, "unit": self.unit}
            log.info("%s", self.text(), extra={"step": step, **counted})
        else:
            print(self.text(), file=sys.stderr, flush=True)  # noqa: T201


class _TerminalBar:
    """A bar of rich, shown once the pass is not a short one."""

    def __init__(self, meter: Meter, progress: RichProgress) -> None:
        self.meter, self.progress = meter, progress
        self.task = progress.add_task(meter.name, total=meter.total, figures="", visible=False)

    def advance(self, n: int) -> None:
        """Count and redraw."""
        self.meter.advance(n)
        self._draw()

    def resume(self, n: int) -> None:
        """Count what was done before, and redraw."""
        self.meter.resume(n)
        self._draw()

    def _draw(self) -> None:
        """Redraw."""
        meter = self.meter
        is_long = time.monotonic() - meter.started >= SILENT_S
        self.progress.update(
            self.task, completed=meter.done, figures=meter.figures(), visible=is_long
        )


@contextlib.contextmanager
def _terminal_bar(meter: Meter) -> Iterator[Bar]:
    """Open a bar on the terminal and wipe it at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _TerminalBar(meter, progress)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
