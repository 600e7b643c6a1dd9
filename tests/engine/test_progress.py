"""Progress: silent when short, plain lines where stderr is no terminal; counts, pace and time left."""

import io
import re
import sys

import pytest

from workflow.engine import progress
from workflow.engine.progress import Progress


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_progress__prints_plain_lines_after_two_seconds(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress().bar("pca", 1000) as bar:
        clock.now += 1
        bar.advance(100)
        assert capsys.readouterr().err == ""
        clock.now += 1.5
        bar.advance(150)
        assert capsys.readouterr().err == (
            "pca: 250 of 1,000 images (25 %), 100 a second, 8 s left\n"
        )
        clock.now += 5
        bar.advance(250)
        assert capsys.readouterr().err == ""
        clock.now += 5
        bar.advance(400)
        assert capsys.readouterr().err == (
            "pca: 900 of 1,000 images (90 %), 72 a second, 1 s left\n"
        )
        clock.now += 60
        bar.advance(100)
        assert capsys.readouterr().err == "", "what is done has nothing left"


def test_progress__a_bound_is_called_one(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress().bar("overcluster", 40, "rounds", is_bound=True) as bar:
        assert bar.text() == "overcluster: 0 of at most 40 rounds"
        clock.now += 60
        bar.advance(3)
        assert bar.text() == (
            "overcluster: 3 of at most 40 rounds, 20.0 s each, at most 740 s left"
        )
        clock.now += 140
        bar.advance(1)
        assert bar.text().endswith(", 50.0 s each, at most 30 min left")


def test_progress__what_was_done_before_says_nothing_of_the_pace(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress().bar("pca", 1000) as bar:
        bar.resume(800)
        assert bar.text() == "pca: 800 of 1,000 images (80 %)"
        clock.now += 10
        bar.advance(100)
        assert bar.text() == "pca: 900 of 1,000 images (90 %), 10 a second, 10 s left"


def test_progress__can_be_switched_off(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress(enabled=False).bar("pca", 10) as bar:
        clock.now += 60
        bar.advance(5)
    assert capsys.readouterr().err == ""


def test_progress__draws_a_bar_on_a_terminal(monkeypatch, capfd):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress().bar("pca", 10) as bar:
        clock.now += 5
        bar.advance(5)
        bar.progress.refresh()
    assert "5 of 10 images (50 %), 1.0 s each, 5 s left" in capfd.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("is_plain", [False, True])
def test_progress__on_a_terminal_has_colours_unless_they_are_not_wanted(is_plain, monkeypatch):
    clock, terminal = Clock(), Terminal()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if is_plain:
        monkeypatch.setenv("NO_COLOR", "1")
    with Progress().bar("pca", 1000) as bar:
        clock.now += 5
        bar.advance(100)
    assert "pca" in terminal.getvalue()
    # Colours are 30 to 37 and above; what moves the cursor and hides it ends in another letter.
    assert bool(re.search(r"\x1b\[[0-9;]*[349][0-9;]*m", terminal.getvalue())) != is_plain
