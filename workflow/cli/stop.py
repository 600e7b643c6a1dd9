"""Ctrl-C and SIGTERM: end the command once, wherever it is, and say how to go on."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

#: A stop that got lost is repeated after this time [s].
AGAIN_AFTER_S = 0.05


class Stopping:
    """Turns signals into KeyboardInterrupt while inside.

    Python swallows an exception raised where nobody can catch it: in the
    garbage collector's callbacks, of which Dask has one, in weak references'
    and in ``__del__``. A stop that falls there is repeated until it is felt.

    Attributes
    ----------
    was_asked : bool
        Whether a signal came.
    """

    def __init__(self) -> None:
        self.was_asked = False
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                self._before[number] = signal.getsignal(number)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            sys.unraisablehook = self._swallowed
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._before:
            if self.was_asked:
                signal.setitimer(signal.ITIMER_REAL, 0)
            sys.unraisablehook = self._hook
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        """Interrupt what the main thread does."""
        self.was_asked = True
        raise KeyboardInterrupt

    def _swallowed(self, what: Any) -> None:
        """See an exception that nobody can catch; repeat a stop, tell of others unless stopping."""
        if not self.was_asked:
            self._hook(what)
        elif issubclass(what.exc_type, KeyboardInterrupt):
            # Not at once: this is where it would be swallowed again.
            signal.signal(signal.SIGALRM, self._stop)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_S)
