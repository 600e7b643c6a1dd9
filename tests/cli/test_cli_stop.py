"""A stop is felt wherever it falls."""

import gc
import os
import signal
import sys
import time

import pytest

from workflow.cli.stop import Stopping

# The usual way of the timeout is the very timer that is tested here.
pytestmark = pytest.mark.timeout(60, method="thread")
STOPS = [signal.SIGTERM, signal.SIGINT]


def wait():
    """Wait long for what comes at once."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)


def strike(number):
    """Send a signal to this process, and wait for what comes of it."""
    os.kill(os.getpid(), number)
    wait()


@pytest.mark.parametrize("number", STOPS)
def test_stopping__interrupts(number):
    with Stopping() as stopping:
        assert not stopping.was_asked
        with pytest.raises(KeyboardInterrupt):
            strike(number)
        assert stopping.was_asked


@pytest.fixture
def no_other_callbacks():
    """Keep the callbacks of libraries out: stopped halfway, one of Dask's fails in all tests that follow."""
    others = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = others


@pytest.mark.usefixtures("no_other_callbacks")
@pytest.mark.parametrize("number", STOPS)
def test_stopping__is_felt_after_a_callback_of_the_garbage_collector(number, capsys):
    swallowed = []

    def callback(phase, info):
        if phase == "start":
            gc.callbacks.remove(callback)
            try:
                strike(number)
            except KeyboardInterrupt:
                swallowed.append(stopping.was_asked)
                raise

    def collect():
        gc.callbacks.append(callback)
        gc.collect()
        wait()

    with Stopping() as stopping, pytest.raises(KeyboardInterrupt):
        collect()
    assert swallowed == [True]
    assert capsys.readouterr().err == ""


def test_stopping__is_felt_after_two_finalizers():
    class Striking:
        def __del__(self):
            strike(signal.SIGTERM)

    def finalize():
        Striking()
        wait()

    with Stopping():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                finalize()


def test_stopping__leaves_no_timer_handler_or_hook():
    numbers = [*STOPS, signal.SIGALRM]
    before = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), Stopping():
        strike(signal.SIGTERM)
    assert ([signal.getsignal(number) for number in numbers], sys.unraisablehook) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_stopping__tells_what_else_nobody_can_catch():
    told = []

    class Failing:
        def __del__(self):
            msg = "lost"
            raise ValueError(msg)

    before, sys.unraisablehook = sys.unraisablehook, lambda what: told.append(what.exc_type)
    try:
        with Stopping():
            Failing()
    finally:
        sys.unraisablehook = before
    assert told == [ValueError]
