"""A line every minute in a log: what it says is so."""

import os
import re
import signal
import threading
import time

import pytest

from tests.runs.kills import open_workers
from workflow.engine import heartbeat
from workflow.engine.heartbeat import Heartbeat
from workflow.engine.progress import Progress


@pytest.fixture
def progress(capsys):
    return Progress()


def test_text__says_step_share_rate_time_and_workers(client, progress):
    beats = Heartbeat(client, progress)
    beats.count()
    assert re.fullmatch(r"after 0 min: no step yet; 2 workers, 0 lost", beats.text())
    progress.step = "tree"
    assert "tree; 2 workers" in beats.text()
    with progress.bar("projection", 200) as bar:
        bar.advance(50)
        pattern = r"after 0 min: projection: 50 of 200 images \(25 %\), [\d,]+ a second, \d+ s left; 2 workers, 0 lost"
        assert re.fullmatch(pattern, beats.text())
    assert "tree; 2 workers" in beats.text()


def test_count__counts_workers_that_were_lost(progress):
    with open_workers(2) as client:
        beats = Heartbeat(client, progress)
        beats.count()
        (nanny, _) = client.cluster.workers.values()
        os.kill(nanny.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while beats.n_lost == 0 or len(beats.workers) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            beats.count()
        assert (beats.n_lost, len(beats.workers)) == (1, 2)


def test_count__loses_no_worker_to_what_the_client_renews(client, progress):
    beats, renewing = Heartbeat(client, progress), threading.Event()

    def renew():
        while not renewing.is_set():
            client.scheduler_info(n_workers=0)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        for _ in range(300):
            beats.count()
            assert (len(beats.workers), beats.n_lost) == (2, 0)
    finally:
        renewing.set()
        thread.join()


def test_heartbeat__tells_lines_in_a_log_only(client, progress, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "LINE_INTERVAL_S", 0.2)
    monkeypatch.setattr(heartbeat, "COUNT_INTERVAL_S", 0.05)
    assert progress.is_log
    with caplog.at_level("INFO", logger="workflow.engine.heartbeat"):
        with heartbeat.heartbeat(client, Progress(enabled=False)):
            time.sleep(0.5)
        assert caplog.messages == []
        with heartbeat.heartbeat(client, progress):
            deadline = time.monotonic() + 30
            while len(caplog.messages) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert all("2 workers, 0 lost" in message for message in caplog.messages)
