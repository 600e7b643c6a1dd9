"""What the engine does for any step: order, resume, staleness, records; with toy steps."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from tests.engine.toys import StopHereError, Toy, run_toys, toy, toys
from workflow.config import config_model
from workflow.engine.staleness import step_plans
from workflow.engine.step import by_name, dependents, needed_for
from workflow.engine.summary import read_summary, summarize, write_summary
from workflow.errors import ImagesError
from workflow.runstore import RunStore

NAMES = ["first", "left", "right", "last"]
N_PARTITIONS = 12


def due(plans):
    return [plan.name for plan in plans if plan.is_due]


def states(plans):
    return {plan.name: plan.state for plan in plans}


def sums(store):
    return [Toy.result(store, name) for name in NAMES]


@pytest.fixture
def whole(tmp_path):
    """The results of a run that nothing interrupts."""
    (tmp_path / "whole").mkdir()
    return sums(run_toys(tmp_path / "whole", toys())[0])


def test_run__does_every_step_once_and_then_nothing(tmp_path, whole):
    store, plans = run_toys(tmp_path, toys())
    assert due(plans) == NAMES
    assert whole[3] == whole[1] + whole[2] + whole[0]
    again = toys()
    _, plans = run_toys(tmp_path, again)
    assert due(plans) == []
    assert [step.calls for step in again] == [[], [], [], []]
    assert {store.step(name).state for name in NAMES} == {"complete"}


@pytest.mark.parametrize("stopped", NAMES)
def test_resume__after_a_stop_in_each_step(tmp_path, whole, stopped):
    steps = toys()
    by_name(steps)[stopped].stop_at = 0
    with pytest.raises(StopHereError):
        run_toys(tmp_path, steps)
    store = RunStore.open(tmp_path / "run")
    before = NAMES[: NAMES.index(stopped)]
    assert [name for name in NAMES if store.step(name).state == "complete"] == before
    assert store.step(stopped).state == "partial"
    assert store.step(stopped).seconds > 0
    store, plans = run_toys(tmp_path, toys())
    assert due(plans) == NAMES[NAMES.index(stopped) :]
    assert sums(store) == whole


@pytest.mark.parametrize("n_done", [1, 5, 11])
def test_resume__in_the_middle_of_a_pass_repeats_only_the_rest(tmp_path, whole, n_done):
    steps = toys()
    steps[1].stop_at = n_done
    with pytest.raises(StopHereError):
        run_toys(tmp_path, steps)
    again = toys()
    store, _ = run_toys(tmp_path, again)
    assert again[0].calls == []
    assert again[1].calls == list(range(n_done, N_PARTITIONS))
    assert sums(store) == whole
    assert store.step("left").counters["bytes_read"] == 60 * 6


@pytest.mark.parametrize(
    ("changed", "redone"),
    [
        ("first", NAMES),
        ("left", ["left", "last"]),
        ("right", ["right", "last"]),
        ("last", ["last"]),
    ],
)
def test_stale__is_what_reads_it_and_nothing_else(tmp_path, changed, redone):
    run_toys(tmp_path, toys())
    store, plans = run_toys(tmp_path, toys(), **{changed: 7})
    assert due(plans) == redone
    reasons = {plan.name: plan.reason for plan in plans if plan.is_due}
    assert reasons[changed] == f"{changed}.factor was 2, is 7"
    assert all(reason.endswith("is done again") for reason in list(reasons.values())[1:])
    (tmp_path / "fresh").mkdir()
    fresh, _ = run_toys(tmp_path / "fresh", toys(), **{changed: 7})
    assert sums(store) == sums(fresh)


def test_stale__a_kill_does_not_let_old_results_pass_for_new(tmp_path, whole):
    """left is made with 7, then the run is killed; with 2 again, last must not be the old one."""
    run_toys(tmp_path, toys())
    steps = toys()
    steps[3].stop_at = 0
    with pytest.raises(StopHereError):
        run_toys(tmp_path, steps, left=7)
    store, plans = run_toys(tmp_path, toys())
    assert due(plans) == ["left", "last"]
    assert sums(store) == whole


def test_stale__another_version_and_what_is_gone(tmp_path):
    store, _ = run_toys(tmp_path, toys())
    newer = toys()
    newer[2] = toy("right", "first", version=2)
    _, plans = run_toys(tmp_path, newer)
    assert [(plan.name, plan.reason) for plan in plans if plan.is_due] == [
        ("right", "another version made it"),
        ("last", "right is done again"),
    ]
    (store.folder("left") / "sum.json").unlink()
    _, plans = run_toys(tmp_path, newer)
    assert states(plans) == {
        "first": "complete",
        "left": "absent",
        "right": "complete",
        "last": "stale",
    }


def test_stale__what_was_remade_elsewhere_is_named(tmp_path):
    """As `update` does: the record of a step gets another key without its dependents being run."""
    run_toys(tmp_path, toys())
    remade = toys()
    type(remade[0]).more_key = lambda self, store: {"updates": ["more"]}
    store = RunStore.open(tmp_path / "run")
    config = config_model({step.name: step.section for step in remade})(block_rows=5)
    with store.lock():
        store.step("first").key = step_plans(remade, store, config)[0].key
        store.save()
    _, plans = run_toys(tmp_path, remade)
    assert {plan.name: plan.reason for plan in plans} == {
        "first": "",
        "left": "first has another result",
        "right": "first has another result",
        "last": "left is done again",
    }


def test_stale__runs_of_version_0_1_are_complete(tmp_path):
    """Their keys are chained: each digests that of the step before, whether it is read or not."""
    store, _ = run_toys(tmp_path, toys())
    before = {"images": store.manifest.images["digest"]}
    with store.lock():
        for name in NAMES:
            record = store.step(name)
            settings = {f"{name}.factor": 2}
            content = {"step": name, "version": 1, "settings": settings, "before": before}
            text = json.dumps(content, sort_keys=True)
            record.key = before = hashlib.sha256(text.encode()).hexdigest()[:16]
            record.reads = {}
        store.save()
    again = toys()
    _, plans = run_toys(tmp_path, again)
    assert due(plans) == []
    _, plans = run_toys(tmp_path, toys(), right=3)
    assert due(plans) == ["right", "last"]


def test_added__a_step_that_an_old_run_lacks_is_absent_and_nothing_else(tmp_path, whole):
    run_toys(tmp_path, toys())
    store, plans = run_toys(tmp_path, [*toys(), toy("extra", "left")])
    assert states(plans) == dict.fromkeys(NAMES, "complete") | {"extra": "absent"}
    assert sums(store) == whole
    store, plans = run_toys(tmp_path, toys())
    assert due(plans) == []
    assert RunStore.open(store.path).step("extra").state == "complete"


def test_images__that_turn_out_to_be_damaged_may_be_replaced(tmp_path):
    class Refuses(Toy):
        name, reads, reads_images_first = "second", ("first",), True

        def run(self, context):
            msg = "images must be whole"
            raise ImagesError(msg)

    with pytest.raises(ImagesError):
        run_toys(tmp_path, [toy("first", reads_images_first=True), Refuses()])
    store = RunStore.open(tmp_path / "run")
    assert store.manifest.images == {}
    assert store.step("first").state == "partial"


def test_steps__in_an_impossible_order_are_refused():
    with pytest.raises(ValueError, match=r"left reads first, which is not before it\.$"):
        by_name([toy("left", "first"), toy("first")])
    with pytest.raises(ValueError, match=r"first is there twice\.$"):
        by_name([toy("first"), toy("first")])


def test_steps__that_depend_and_that_are_needed():
    steps = [*toys(), toy("side", "left")]
    assert dependents(steps, "left") == ["last", "side"]
    assert dependents(steps, "first") == ["left", "right", "last", "side"]
    assert needed_for(steps, "side") == ["first", "left", "side"]
    assert needed_for(steps, "last") == NAMES


def test_summary__has_a_part_of_each_step_and_what_replaces_it(tmp_path, whole):
    steps = toys()
    store, _ = run_toys(tmp_path, steps)
    assert write_summary(steps, store) == read_summary(store)
    summary = summarize(steps, store, {"last_sum": 0})
    assert summary["left_sum"] == whole[1]
    assert summary["last_sum"] == 0
    assert list(summary["seconds"]) == ["start", *NAMES, "total"]
    assert summary["peak_rss_bytes"] > 2**20


def test_step__that_is_done_says_so_in_a_line(tmp_path, caplog):
    with caplog.at_level("INFO", logger="workflow"):
        run_toys(tmp_path, toys())
    lines = [line for line in caplog.messages if line.startswith("last: ")]
    assert len(lines) == 1
    assert re.fullmatch(r"last: \d+\.\d s, a sum of \d+", lines[0])
