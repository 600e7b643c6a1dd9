"""Progress: silent when short, plain lines where stderr is no terminal, share, rate and time left."""

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
        assert capsys.readouterr().err == "pca: 25 %, 100 images/s, 8 s left\n"
        clock.now += 5
        bar.advance(250)
        assert capsys.readouterr().err == ""
        clock.now += 5
        bar.advance(400)
        assert capsys.readouterr().err == "pca: 90 %, 72 images/s, 1 s left\n"


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
        assert bar.text() == "pca: 50 %, 1 images/s, 5 s left"
    capfd.readouterr()
