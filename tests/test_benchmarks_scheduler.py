"""The scheduler benchmark runs, at its smallest scale, and what it says of sizes is so."""

import inspect
import re

import numpy as np
import pytest

from benchmarks import scheduler
from benchmarks.scheduler_run import BLOCK_ROWS, Plan, WaitTask, makespan
from benchmarks.scheduler_sizes import (
    LIMIT_BYTES,
    N_COMPONENTS,
    fit_returns,
    held_by_caller,
    step_weights,
)
from workflow.pipeline import tasks
from workflow.pipeline.partitions import partitions

#: Largest picture that belongs into a repository [bytes].
MAX_PICTURE = 150_000


@pytest.fixture(scope="module")
def found():
    return scheduler.measure(scheduler.SCALES["tiny"])


def test_steps__take_no_less_than_their_bound(found):
    assert found.main.plan == scheduler.SCALES["tiny"].main
    assert len(found.timings) == 3
    for timing in found.timings:
        assert timing.wall_s >= timing.plan.bound_s >= timing.plan.ideal_s * (1 - 1e-9)
        assert timing.over_ideal == pytest.approx(timing.tail + timing.overhead)
        assert timing.n_tasks == len(timing.plan.partitions)
        assert timing.cpu_s > timing.loop_cpu_s > 0
        assert timing.wall_s > timing.journal_s > 0
        assert 1 <= timing.n_writes <= timing.n_tasks
        # Each task is sent, and what it gives back is fetched.
        assert timing.wire.n_messages > 2 * timing.n_tasks
        assert timing.wire.n_bytes > timing.wire.largest > 100 * timing.n_tasks
        assert "update-graph" in timing.wire.content


def test_rates__are_measured_for_every_pass(found):
    names = {"pca", "projection", "overcluster: sample", "overcluster: assign", "labels"}
    assert set(found.rates.block_s) == names
    assert min(found.rates.block_s.values()) > 0
    assert min(found.rates.merge_s.values()) > 0
    assert found.rates.piece_s > 0
    assert found.rates.n_pairs > found.rates.n_centroids


def test_page__tells_everything_and_links_its_plot(found, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "measure", lambda _: found)
    place = tmp_path / "docs" / "scaling.md"
    assert scheduler.main(["--scale", "tiny", "--output", str(place)]) == 0
    text = place.read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
        "What the scheduler costs",
        "What travels to the workers",
        "What comes back",
        "What 10^9 images on 200 workers would take",
    ]
    assert f"**{found.main.overhead:.1%} is the cost" in text
    assert "--scale tiny`" in text
    for name in found.rates.block_s:
        assert re.search(rf"^\| {name} +\|", text, flags=re.MULTILINE), name
    assert "61,036 blocks of 16,384 images in 3,815 partitions" in text
    assert not re.search(r"\bnan\b|\binf\b", text)
    (linked,) = re.findall(r"!\[.*?\]\((.+?)\)", text)
    content = (place.parent / linked).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < MAX_PICTURE


def test_wait_task__reports_what_an_assign_task_does():
    partition = partitions(4 * BLOCK_ROWS, BLOCK_ROWS)[1]
    report = WaitTask(0.0)(partition)
    assert [len(pair) for pair in report["crc"]] == [2] * len(partition.blocks)
    source = inspect.getsource(tasks.AssignTask.__call__)
    assert list(report) == re.findall(r'^ {12}"(\w+)":', source, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("sizes", "n_workers", "expected"),
    [
        ([1] * 10, 5, 2),
        ([1] * 11, 5, 3),
        ([16] * 1250, 200, 112),
        ([3, 1, 1, 1], 2, 3),
        ([2], 9, 2),
    ],
)
def test_makespan__is_when_the_last_one_ends(sizes, n_workers, expected):
    assert makespan(sizes, n_workers) == expected


def test_plan__of_full_scale_is_what_the_page_promises():
    main = scheduler.SCALES["full"].main
    assert main == Plan(200, 20_000, 1.0)
    assert main.ideal_s == 100
    assert main.bound_s == pytest.approx(112)
    assert len(main.partitions) == 1_250


def test_objects_of_a_graph__stay_below_a_mebibyte():
    weights = step_weights(20_000, 16_384)
    classes = {weight.name.split(": ")[1] for weight in weights}
    assert classes == {name for name in vars(tasks) if re.fullmatch(r"[A-Z]\w+Task", name)}
    for weight in weights:
        assert 0 < weight.largest < LIMIT_BYTES / 100, weight.name
        assert weight.all_bytes < LIMIT_BYTES, weight.name


def test_objects_of_a_graph__grow_with_the_blocks_only_where_they_must():
    few, many = (
        {w.name: w.function_bytes for w in step_weights(n, 1_000)} for n in (2_000, 20_000)
    )
    growing = {name for name in few if many[name] > few[name] + 50}
    # Where each partition begins among the rows that were drawn.
    assert growing == {"overcluster, shuffle: ShuffleTask"}


def test_what_the_fit_returns__is_what_the_page_lists():
    k = 300
    found, distances, rows = fit_returns(k)
    held = {h.what: h for h in held_by_caller(2_000, k, 1_000)}
    # And the five numbers that are told of a round.
    assert found.n_numbers == held["the centroids, moved by the workers"].at_once + 5
    assert found.n_bytes == pytest.approx(4 * found.n_numbers, rel=0.1)
    assert distances.n_numbers == 2 * 65_536
    assert rows.n_numbers == k * N_COMPONENTS
    for returned in (found, distances, rows):
        assert returned.weight.largest < LIMIT_BYTES


def test_seeding__holds_a_batch_of_few_centroids_and_candidates_of_many():
    few, many = (
        {h.what: h for h in held_by_caller(20_000, k, 0) if h.step == "overcluster, seeding"}
        for k in (4_096, 16_384)
    )
    assert few["rows of the first batch"].at_once == 32 * 4_096 * N_COMPONENTS
    assert len(many) == 2
    assert many["rows drawn as candidates, 3.5 K'"].at_once == np.prod([7, 8_192, N_COMPONENTS])
