"""Tasks on workers: every one is noted once, together with those that finish meanwhile; errors are those of the data."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.runs.kills import open_workers
from workflow.engine.executor import MAX_TOGETHER, Executor
from workflow.engine.progress import Progress
from workflow.errors import ImagesError
from workflow.runstore.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

N_TASKS = 40


@dataclass(frozen=True)
class Square:
    """Squares an item; some are slow, some are refused, and some end with what is no error of ours."""

    refused: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    slow: tuple[int, ...] = ()

    def __call__(self, item):
        time.sleep(0.3 * (item in self.slow))
        if item in self.refused:
            msg = f"images must be good; number {item} is not. Leave it out."
            raise ImagesError(msg)
        if item in self.broken:
            msg = f"number {item} is broken"
            raise LookupError(msg)
        return {"square": item * item}


class WatchedJournal(Journal):
    """Knows how many entries came together; calls back before each write."""

    def __init__(self, path, before=lambda: None):
        super().__init__(path, "key")
        self.sizes, self.before = [], before

    def extend(self, records):
        self.before()
        self.sizes.append(len(records))
        super().extend(records)


def run(client, folder, task, journal, items=range(N_TASKS)):
    executor = Executor(client, Progress(enabled=False), folder / "shared")
    return executor.run(
        "squares", task, dict(enumerate(items)), journal=journal, n_rows=lambda _: 1
    )


def test_run__notes_what_has_finished_meanwhile_together(client, tmp_path):
    def wait_for_all():
        while {state.status for state in client.futures.values()} != {"finished"}:
            time.sleep(0.01)
        time.sleep(0.2)

    journal = WatchedJournal(tmp_path / "j.jsonl", wait_for_all)
    reports = run(client, tmp_path, Square(), journal)
    assert reports == {i: {"index": i, "square": i * i} for i in range(N_TASKS)}
    assert list(reports) == list(range(N_TASKS))
    assert sum(journal.sizes) == N_TASKS
    # The first write holds what had finished first; all others wait for it.
    assert len(journal.sizes) <= 2
    assert Journal(journal.path, "key").entries == reports


def test_run__fetches_few_of_many_results_together(client, tmp_path):
    def wait_for_all():
        while {state.status for state in client.futures.values()} != {"finished"}:
            time.sleep(0.01)
        time.sleep(0.2)

    n_tasks = 2 * MAX_TOGETHER + 9
    journal = WatchedJournal(tmp_path / "j.jsonl", wait_for_all)
    reports = run(client, tmp_path, Square(), journal, items=range(n_tasks))
    assert sum(report["square"] for report in reports.values()) == sum(
        i * i for i in range(n_tasks)
    )
    assert sum(journal.sizes) == n_tasks
    assert max(journal.sizes) == MAX_TOGETHER


def test_run__a_lone_result_is_noted_at_once(client, tmp_path):
    journal = Journal(tmp_path / "j.jsonl", "key")
    seen = tmp_path / "seen"

    run(client, tmp_path, WaitForNote(journal.path, seen), journal, items=range(2))
    assert int(seen.read_text()) == 1


@dataclass(frozen=True)
class WaitForNote:
    """The second of two tasks ends when the first is in the journal, or far too late."""

    journal: Path
    seen: Path

    def __call__(self, item):
        until = time.monotonic() + 60 * item
        while time.monotonic() < until:
            _, entries = Journal.read(self.journal)
            if entries:
                self.seen.write_text(str(len(entries)))
                break
            time.sleep(0.02)
        return {}


def test_run__does_what_the_journal_lacks(client, tmp_path):
    journal = WatchedJournal(tmp_path / "j.jsonl")
    journal.extend({i: {"square": -1} for i in range(0, N_TASKS, 3)})
    journal.sizes.clear()
    reports = run(client, tmp_path, Square(), journal)
    assert sum(journal.sizes) == N_TASKS - len(range(0, N_TASKS, 3))
    assert [r["square"] for r in reports.values()] == [
        i * i if i % 3 else -1 for i in range(N_TASKS)
    ]


@pytest.mark.parametrize(
    "task",
    [
        Square(refused=(7, 9, 30), slow=(7,)),
        Square(refused=(7, 30), broken=(8, 9, 31), slow=(6, 7)),
        Square(refused=(7, *range(20, N_TASKS)), slow=(2, 7)),
    ],
)
def test_run__tells_the_first_error_of_the_items_and_notes_all_before_it(task, client, tmp_path):
    logging.getLogger("distributed").setLevel(logging.ERROR)
    for name, where in (("here", None), ("there", client)):
        journal = WatchedJournal(tmp_path / f"{name}.jsonl")
        with pytest.raises(ImagesError, match="number 7 is not"):
            run(where, tmp_path, task, journal)
        assert set(range(7)) <= set(journal.entries)
        assert not {*task.refused, *task.broken} & set(journal.entries)
        assert Journal(journal.path, "key").entries == journal.entries


def test_run__an_error_that_is_not_ours_keeps_its_type(client, tmp_path):
    logging.getLogger("distributed").setLevel(logging.ERROR)
    journal = Journal(tmp_path / "j.jsonl", "key")
    with pytest.raises(LookupError, match="number 5 is broken"):
        run(client, tmp_path, Square(broken=(5, 11), refused=(20,), slow=(5,)), journal)
    assert set(range(5)) <= set(journal.entries)


class OnlyThere:
    """Can be made and sent, but not be received."""

    def __reduce__(self):
        return refuse_elsewhere, (os.getpid(),)


def refuse_elsewhere(pid):
    """Refuse any process but one."""
    if os.getpid() != pid:
        msg = "this stays where it was made"
        raise RuntimeError(msg)
    return OnlyThere()


def give_only_there(item):
    """Give back what cannot be received, for one item."""
    return {"given": OnlyThere() if item == 25 else item}


def test_run__a_result_that_cannot_be_received_does_not_cost_its_neighbours(tmp_path):
    with open_workers(2) as client:
        journal = Journal(tmp_path / "j.jsonl", "key")
        with pytest.raises(RuntimeError, match="this stays where it was made"):
            run(client, tmp_path, give_only_there, journal)
    assert set(range(25)) <= set(journal.entries)


def test_run__results_lost_with_their_worker_are_made_again(tmp_path):
    """The first write of the journal waits until a worker that holds results is gone."""
    with open_workers(2) as client:
        killed = []

        def kill_one():
            if not killed:
                killed.append(client.cluster.workers[0].pid)
                os.kill(killed[0], 9)
                time.sleep(0.5)

        journal = WatchedJournal(tmp_path / "j.jsonl", kill_one)
        reports = run(client, tmp_path, Square(slow=tuple(range(20, N_TASKS, 5))), journal)
    assert reports == {i: {"index": i, "square": i * i} for i in range(N_TASKS)}
    assert sum(journal.sizes) == N_TASKS, "each is noted once"


def test_run__interrupted_drops_its_tasks_at_once(client, tmp_path):
    executor = Executor(client, Progress(enabled=False), tmp_path)

    def interrupt(results):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        executor._run(
            Square(slow=tuple(range(1, N_TASKS))), dict(enumerate(range(N_TASKS))), interrupt
        )
    # The traceback still holds whatever was under way.
    assert caught.tb is not None
    assert "pending" not in {future.status for future in client.futures.values()}
