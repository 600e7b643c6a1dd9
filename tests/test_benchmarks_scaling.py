"""The benchmark of scaling runs, at its smallest scale, and what it says of sizes is so."""

import inspect
import re

import numpy as np
import pytest

from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling import messages
from benchmarks.scaling.messages import (
    LIMIT_BYTES,
    N_COMPONENTS,
    count_numbers,
    fit_returns,
    held_by_client,
    step_sizes,
)
from benchmarks.scaling.scheduler import BLOCK_ROWS, Plan, WaitTask, makespan
from workflow.centroid_graph import count_pairs
from workflow.commands import predict
from workflow.engine.executor import StoredArrays
from workflow.engine.partitions import partitions
from workflow.overcluster import NearestCentroids, cell_sums
from workflow.runstore.files import read_arrays, write_arrays
from workflow.steps import centroid_graph as graph
from workflow.steps import labels, overcluster, pca, projection
from workflow.steps.centroid_graph import GraphTask
from workflow.steps.overcluster import leave_sums
from workflow.steps.parts import sample

#: Largest picture that belongs into a repository [bytes].
MAX_PICTURE = 150_000


@pytest.fixture(scope="module")
def found():
    return scaling.measure("tiny")


def test_steps__take_no_less_than_their_bound(found):
    assert found.main.plan == scaling.SCALES["tiny"].main
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
        # All tasks at once; or, where all have ended meanwhile, all that they gave back.
        assert "update-graph" in timing.wire.content or timing.wire.content == "an answer"


def test_rates__are_measured_for_every_pass(found):
    names = {"pca", "projection", "overcluster: assign", "labels"}
    assert set(found.rates.block_s) == names
    assert min(found.rates.block_s.values()) > 0
    assert min(found.rates.merge_s.values()) > 0
    assert found.rates.fit_task_s > 0


def test_page__has_every_section_and_links_its_plot(found, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "measure", lambda _: found)
    place = tmp_path / "docs" / "scaling.md"
    assert scaling.main(["--scale", "tiny", "--output", str(place)]) == 0
    text = place.read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
        "What the scheduler costs",
        "What is sent to the workers",
        "What comes back",
        "What 10^9 images on 200 workers would take",
    ]
    assert f"**{found.main.overhead:.1%} is the cost" in text
    assert "--scale tiny`" in text
    assert "| float32 product | " in text.partition("##")[0]
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
    source = inspect.getsource(overcluster.AssignTask.__call__)
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
    main = scaling.SCALES["full"].main
    assert main == Plan(200, 20_000, 1.0)
    assert main.ideal_s == 100
    assert main.bound_s == pytest.approx(112)
    assert len(main.partitions) == 1_250


def test_objects_of_a_graph__stay_below_a_mebibyte():
    sizes = step_sizes(20_000, 16_384)
    classes = {size.name.split(": ")[1] for size in sizes}
    every = [
        n for m in (graph, overcluster, sample, pca, projection, labels, predict) for n in vars(m)
    ]
    assert classes == {name for name in every if re.fullmatch(r"[A-Z]\w+Task", name)}
    for size in sizes:
        assert 0 < size.largest < LIMIT_BYTES / 100, size.name
        assert size.all_bytes < LIMIT_BYTES, size.name


def test_objects_of_a_graph__do_not_grow_with_the_blocks():
    few, many = ({w.name: w.function_bytes for w in step_sizes(n, 1_000)} for n in (2_000, 20_000))
    assert not {name for name in few if many[name] > few[name] + 50}


def held_of(n_blocks, n_centroids):
    """Return what is listed as held by the client, by step and first words."""
    return {(h.step, re.split("[,;]", h.what)[0]): h for h in held_by_client(n_blocks, n_centroids)}


@pytest.mark.parametrize("path", ["batch", "candidates"])
def test_what_the_fit_returns__is_what_the_page_lists(path, monkeypatch):
    if path == "candidates":
        monkeypatch.setattr(messages, "MAX_IN_MEMORY_PAIRS", 1)
    k = 300
    returned, held = {r.size.name: r for r in fit_returns(k)}, held_of(2_000, k)
    found = returned["sum_block"]
    # And the five numbers that are noted of an iteration.
    assert found.n_numbers == held["overcluster, each iteration", "the centroids"].at_once + 5
    assert found.n_bytes == pytest.approx(4 * found.n_numbers, rel=0.1)
    seeds = held["overcluster, seeding", "the first centroids"].at_once
    if path == "batch":
        assert list(returned) == ["sum_block", "seed_by_batch"]
        # And three numbers beside.
        assert returned["seed_by_batch"].n_numbers == seeds + 3
    else:
        names = {"sum_block", "take_rows", "measure_block", "draw_candidates", "recluster"}
        assert set(returned) == names
        assert returned["recluster"].n_numbers == seeds
        drawn = held["overcluster, seeding", "which rows are candidates"].at_once
        assert returned["draw_candidates"].n_numbers == pytest.approx(drawn, rel=0.25)
        # Places of files, of what stays there.
        n_blocks = returned["measure_block"].size.n_tasks
        assert returned["measure_block"].n_numbers == 2 * n_blocks > 2
        assert returned["take_rows"].n_numbers == 2
    for one in returned.values():
        assert one.size.largest < LIMIT_BYTES


def test_what_the_last_merge_and_the_graph_return__is_what_the_page_lists(tmp_path):
    rng = np.random.default_rng(0)
    k, rows = 40, rng.random((900, N_COMPONENTS), np.float32)
    centroids = rows[:k]
    nearest, sq_distance = NearestCentroids.build(centroids).query(rows)
    sums = cell_sums(rows, 0, nearest, sq_distance, k), count_pairs(nearest, k)
    shared = StoredArrays(
        tmp_path / "c.npz", write_arrays(tmp_path / "c.npz", {"centroids": centroids})
    )
    pairs = tmp_path / "pairs.npz"
    left = leave_sums(shared, pairs, tmp_path / "staged", sums)
    made = GraphTask(pairs, left.pairs_crc, k, tmp_path / "staged")()
    held = held_of(2_000, k)
    for found, listed in (
        (left, held["overcluster, assign", "which centroids have images"]),
        (made, held["centroid_graph", "dimension and edges"]),
    ):
        # Beside it places, names and checksums of what lies ready: none is as long as an array.
        assert listed.at_once <= count_numbers(found) <= listed.at_once + 50
    assert left.is_occupied.size == k
    assert sum(array.size for array in read_arrays(pairs).values()) > 10 * k


def test_seeding__holds_no_more_than_the_seeds_however_it_is_done():
    few, many = (held_of(20_000, k) for k in (4_096, 16_384))
    key = "overcluster, seeding", "the first centroids"
    assert few[key].at_once == 4_096 * N_COMPONENTS
    assert many[key].at_once == 16_384 * N_COMPONENTS
    assert "a batch" in few[key].what
    assert "candidates" in many[key].what
    assert ("overcluster, seeding", "which rows are candidates") in many


def test_steps__hold_what_grows_with_images_only_where_it_is_named():
    n = 20_000
    few, many = held_of(n, 16_384), held_of(3 * n, 16_384)
    grown = {key for key in few if many[key].at_once != few[key].at_once}
    assert {step for step, _ in grown if "command" not in step} == {"each pass", "projection"}
    assert max(few[key].at_once for key in grown if "command" not in key[0]) < 4 * n
