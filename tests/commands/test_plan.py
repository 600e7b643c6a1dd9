"""What `plan` says: earlier runs and pilots are scaled by growth, what cannot fit is refused."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import last_json
from tests.runs.helpers import LEAN, make_run
from workflow.commands.planning import forecast, pilot
from workflow.commands.planning.forecast import NotedRun, StepCost, note_run, noted_runs, notes_file
from workflow.commands.planning.plan import check_disk, forecast_steps, nearest_folder
from workflow.engine.plan import Sizes, plan_tasks
from workflow.engine.step import Step
from workflow.errors import StoreError
from workflow.ingest import DemoSource
from workflow.ingest.images import open_input
from workflow.steps import STEPS, load_config

NAMES = [step.name for step in STEPS]
#: One worker, for tests that start some.
FEW = {"compute.n_workers": 1, "compute.dashboard": False}
WORDS = ("--set", "compute.n_workers=1", "--set", "overcluster.n_centroids=60")
#: Without steps that these tests are not about.
LEAN_WORDS = (*WORDS, "--set", "neighbors.enabled=false", "--set", "tree.n_resamples=0")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache of the user."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def images(tmp_path):
    """A file of small images."""
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (3000, 8, 8), np.uint8))
    return path


def sizes(n=1_000_000, n_features=768, dtype="uint8", *, is_copied=False, **settings):
    """Return the sizes of a run on images that need not exist."""
    images = SimpleNamespace(n_samples=n, n_features=n_features, dtype=np.dtype(dtype))
    if not is_copied:
        images.stored_rows = 16_384
    return Sizes.of(STEPS, images, load_config(None, {**FEW, **settings}, environment={}).config)


def noted(of=None, **changes):
    """Return a run of some sizes in which each step took a second for each unit of its growth."""
    of = of or sizes(100_000)
    costs = {step.name: StepCost(step.growth(of), 0.0, step.growth(of)) for step in STEPS}
    known = {
        "machine": forecast.machine_key(of.config.compute),
        "kind": forecast.kind_key(of),
        "images": "some",
        "is_pilot": False,
        "n_samples": of.n_samples,
        "rounds": 7,
        "start": 3.0,
        "worker_bytes": 2**28,
        "leader_bytes": 2**28,
        "steps": costs,
    }
    return NotedRun(**{**known, **changes})


# Growth.


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("n_features", [12, 768, 10_000])
def test_growth__is_never_less_for_more(step, dtype, n_features):
    numbers = (30_000, 200_000, 10**6, 10**7, 10**8)
    # By themselves they are left out where they take too long.
    wanted = {"neighbors.enabled": True, "families.enabled": True}
    if step.name == "map":
        # Up to so many, images are laid out, which takes longer than to place more around centroids.
        wanted["map.images_up_to"] = 0
    made = [sizes(n, n_features, dtype, is_copied=True, **wanted) for n in numbers]
    found = [step.growth(one) for one in made]
    assert found == sorted(found)
    assert found[0] > 0
    assert math.isfinite(found[-1])
    wider = step.growth(sizes(10**6, 2 * n_features, dtype, is_copied=True, **wanted))
    assert wider >= found[2]


@pytest.mark.parametrize("name", ["neighbors", "families"])
def test_tasks__of_what_is_left_out_by_itself_are_none(name):
    step = STEPS[NAMES.index(name)]
    wanted = {"neighbors.enabled": True, "families.enabled": True}
    if step.name == "map":
        # Up to so many, images are laid out, which takes longer than to place more around centroids.
        wanted["map.images_up_to"] = 0
    for n, is_there in ((10**5, True), (10**9, False)):
        assert bool(step.tasks(sizes(n))) == bool(step.growth(sizes(n))) == is_there
        assert step.tasks(sizes(n, **wanted))


@pytest.mark.parametrize("name", ["overcluster", "centroid_graph", "tree"])
def test_growth__rises_with_the_centroids(name):
    step = STEPS[NAMES.index(name)]
    numbers = (200, 1000, 4000, 16_384)
    found = [step.growth(sizes(**{"overcluster.n_centroids": k})) for k in numbers]
    assert found == sorted(set(found))


def test_growth__of_a_step_that_declares_none_is_constant():
    class Plain(Step):
        name = "plain"

        def run(self, context):
            del context

    assert Plain().growth(sizes(10)) == Plain().growth(sizes(10**9)) > 0


def test_growth__is_nothing_where_nothing_is_copied():
    assert STEPS[0].growth(sizes()) == 0
    assert "ingest" not in noted().seconds(sizes())
    copied = sizes(is_copied=True)
    assert noted(copied).seconds(copied)["ingest"] > 0


# Scaling.


def test_run_of_the_same_sizes__takes_the_same_seconds():
    run = noted()
    found = run.seconds(sizes(100_000))
    assert found.pop("start") == 3.0
    assert found == pytest.approx({name: run.steps[name].seconds for name in NAMES[1:]})


def test_seconds__grow_but_for_the_fixed_part():
    run, larger = noted(), sizes(10**6)
    pca = run.steps["pca"]
    factor = STEPS[1].growth(larger) / pca.growth
    assert run.seconds(larger)["pca"] == pytest.approx(pca.seconds * factor)
    cost = pca._replace(seconds=pca.seconds + 5.0, fixed=5.0)
    cold = noted(steps={**run.steps, "pca": cost})
    assert cold.seconds(larger)["pca"] == pytest.approx(5.0 + pca.seconds * factor)


def test_steps__have_memory_and_bytes_without_seconds():
    wanted = sizes(is_copied=True)
    tasks = plan_tasks(STEPS, wanted)
    unknown = forecast_steps(wanted, tasks, None)
    assert [cost["name"] for cost in unknown] == ["start", *NAMES]
    assert {cost["seconds"] for cost in unknown} == {None}
    known = forecast_steps(wanted, tasks, noted(wanted), since_start=2.0)
    assert known[0]["seconds"] == 5.0
    for costs in (unknown, known):
        peaks = [cost["peak_bytes"] for cost in costs]
        assert peaks == sorted(peaks)
        assert sum(cost["bytes_written"] for cost in costs) == sum(t.bytes_written for t in tasks)


def test_fitting_run__is_one_of_the_same_images_else_a_pilot_else_another():
    wanted = sizes(100_000)
    assert forecast.fitting_run(wanted, "mine", 20_000) is None
    note_run(noted(sizes(300_000), images="other"))
    # A pilot of these images says more than a run of others; where there will be none, that counts.
    assert forecast.fitting_run(wanted, "mine", 20_000) is None
    assert forecast.fitting_run(wanted, "mine", 0).n_samples == 300_000
    # Scaled too far a pilot says less.
    assert forecast.fitting_run(sizes(10**6), "mine", 20_000).n_samples == 300_000
    note_run(noted(sizes(20_000), images="mine", is_pilot=True))
    assert forecast.fitting_run(wanted, "mine", 20_000).is_pilot
    note_run(noted(wanted, images="mine"))
    assert forecast.fitting_run(wanted, "mine", 20_000).n_samples == 100_000


@pytest.mark.parametrize(
    "wanted",
    [
        sizes(n_features=769),
        sizes(dtype="uint16"),
        sizes(is_copied=True),
        sizes(**{"tree.method": "density"}),
        sizes(**{"compute.n_workers": 2}),
    ],
)
def test_fitting_run__is_of_the_same_kind_and_machine(wanted):
    note_run(noted(sizes(), images="mine"))
    assert forecast.fitting_run(sizes(), "mine", 0) is not None
    assert forecast.fitting_run(wanted, "mine", 0) is None


@pytest.mark.parametrize("changed", ["processor_name", "n_processors", "version"])
def test_fitting_run__is_of_the_same_processor_and_versions(changed, monkeypatch):
    note_run(noted(sizes(), images="mine"))
    monkeypatch.setattr(forecast, changed, lambda *_: 77)
    assert forecast.fitting_run(sizes(), "mine", 0) is None


def test_workers_elsewhere__are_not_counted():
    elsewhere = {"compute.launcher": "address", "compute.address": "tcp://127.0.0.1:1"}
    assert forecast.worker_count(sizes(**elsewhere).config.compute) == 1
    assert forecast.worker_count(sizes(**{"compute.n_workers": 3}).config.compute) == 3


# Notes.


def test_notes__are_kept_as_they_were_and_few(monkeypatch, cache):
    assert noted_runs() == []
    monkeypatch.setattr(forecast, "MAX_RUNS", 3)
    for n in (1, 2, 3, 4):
        note_run(noted(rounds=n))
    assert noted_runs() == [noted(rounds=n) for n in (2, 3, 4)]
    assert [path.name for path in (cache / "overcluster").iterdir()] == ["runs.json"]


@pytest.mark.parametrize("damage", ["", "{", "[7]", '{"format_version": 1}', '[{"start": -1.0}]'])
def test_notes__that_are_damaged_are_left_aside(damage):
    note_run(noted())
    notes_file().write_text(damage)
    assert noted_runs() == []
    note_run(noted())
    assert noted_runs() == [noted()]


def test_cache__that_cannot_be_written_stops_nothing(cache, monkeypatch):
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    note_run(noted())
    assert noted_runs() == []


def test_cache__follows_the_convention(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert notes_file() == tmp_path / "overcluster" / "runs.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert notes_file() == tmp_path / ".cache" / "overcluster" / "runs.json"


def test_run__is_noted_when_it_did_all_steps(images, tmp_path, run_cli):
    words = (*WORDS, "--set", "compute.n_workers=1")  # in the command itself nothing is noted
    assert run_cli("run", images, "--out", tmp_path / "run", *words)[0] == 0
    (run,) = noted_runs()
    assert run.n_samples == 3000
    assert not run.is_pilot
    assert all(cost.seconds > 0 for cost in run.steps.values())
    assert 2**26 < run.worker_bytes < 2**30
    assert not {str(tmp_path), images.name} & set(notes_file().read_text().split('"'))
    assert "/" not in notes_file().read_text()
    # The same command again has nothing to do; with another setting it does the last steps only.
    again = ("run", images, "--out", tmp_path / "run", *words, "--set", "labels.noise=resolve")
    assert run_cli(*again)[0] == 0
    assert noted_runs() == [run]
    # `plan` now knows, at once.
    status, out, _ = run_cli("plan", images, *words, "--json")
    assert status == 0
    content = last_json(out)
    assert content["source"] == "from a run of these 3,000 images on this machine"
    assert content["waited"] == run.waited < 1
    seconds = {cost["name"]: cost["seconds"] for cost in content["steps"]}
    assert seconds["pca"] == pytest.approx(run.steps["pca"].seconds)


def test_run__on_workers_of_others_is_not_noted(pictures, client, tmp_path):
    make_run(pictures[0][:1500], tmp_path / "run", client, **LEAN)
    assert noted_runs() == []


# Pilots.


@pytest.fixture
def workers(client, monkeypatch):
    """Let pilots use workers that run already."""
    monkeypatch.setattr(pilot, "open_client", lambda _: contextlib.nullcontext(client))


def test_pilot__of_few_images_is_the_run_itself(images, workers, run_cli, tmp_path):
    before = sorted(tmp_path.iterdir())
    status, out, err = run_cli("plan", images, *WORDS)
    assert status == 0, err
    assert "seconds     from a run of these 3,000 images just now, " in out
    assert re.search(r"was the limit: tasks waited \d+% of their time for rows", out)
    (run,) = noted_runs()
    assert (run.n_samples, run.is_pilot) == (3000, False)
    assert not any(cost.fixed for cost in run.steps.values())
    for word in ("seconds", "largest process", "total", "needed at most"):
        assert word in out
    content = last_json(run_cli("plan", images, *WORDS, "--json")[1])
    assert [cost["name"] for cost in content["steps"]] == ["start", *NAMES[1:]]
    assert content["seconds"] == pytest.approx(sum(s["seconds"] for s in content["steps"]))
    pca = next(cost for cost in content["steps"] if cost["name"] == "pca")
    assert pca["bytes_read"] >= images.stat().st_size - 128
    assert set(pca) == {"name", "seconds", "peak_bytes", "bytes_read", "bytes_written"}
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def small_pilots(monkeypatch):
    """Let pilots take 400 images."""
    monkeypatch.setattr(pilot, "MAX_IMAGES", 400)
    monkeypatch.setattr(pilot, "MIN_IMAGES", 400)


def _pictures(images, folder):
    (folder / "pictures").mkdir()
    for index, image in enumerate(np.load(images)[:600]):
        Image.fromarray(image).save(folder / "pictures" / f"{index}.png")
    return folder / "pictures"


@pytest.mark.parametrize("made", [lambda images, _: images, _pictures])
def test_pilot__takes_few_of_the_images(made, images, workers, small_pilots, run_cli, tmp_path):
    place = made(images, tmp_path)
    before = sorted(tmp_path.iterdir())
    words = (*LEAN_WORDS, "--set", "ingest.shape=[8,8]") if place.is_dir() else LEAN_WORDS
    status, out, err = run_cli("plan", place, *words, "--json")
    assert status == 0, err
    assert len(err.splitlines()) == 1
    content = last_json(out)
    assert content["source"].startswith("from a pilot of 400 of these images just now, ")
    assert content["seconds"] > 0
    (run,) = noted_runs()
    assert (run.n_samples, run.is_pilot) == (400, True)
    assert any(cost.fixed for cost in run.steps.values())
    assert ("ingest" in [cost["name"] for cost in content["steps"]]) == (place != images)
    assert sorted(tmp_path.iterdir()) == before
    again = last_json(run_cli("plan", place, *words, "--json")[1])
    assert again["source"] == "from a pilot of 400 of these images on this machine"


def test_pilot__is_spread_over_all_images():
    source = DemoSource(1_000)
    some = pilot.SpreadBlocks(200, source.image_shape, source.dtype, source)
    rows = [b * 990 // 19 + i for b in range(20) for i in range(10)]
    expected = np.concatenate([source.read(row, row + 1) for row in rows])
    np.testing.assert_array_equal(some.read(0, 200), expected)
    np.testing.assert_array_equal(some.read(7, 55), expected[7:55])
    assert rows[-1] == 999


def test_pilot__of_large_images_takes_fewer(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((9_000, 400, 200), np.uint8))
    given = open_input(tmp_path / "large.npy")
    assert pilot.pilot_size(given) == 3_340


def test_no_pilot__tells_no_seconds(images, run_cli):
    status, out, _ = run_cli("plan", images, "--no-pilot")
    assert status == 0
    assert "seconds     not known: --no-pilot" in out
    content = last_json(run_cli("plan", images, "--no-pilot", "--json")[1])
    assert content["seconds"] is None
    assert {cost["seconds"] for cost in content["steps"]} == {None}
    assert content["peak_bytes"] > 2**28
    assert noted_runs() == []


def test_pilot__that_fails_says_why_in_one_line(workers, tmp_path, run_cli):
    wrong = np.zeros((3000, 8), np.float32)
    wrong[::7, 3] = np.nan
    np.save(tmp_path / "wrong.npy", wrong)
    status, _, err = run_cli("plan", tmp_path / "wrong.npy", *WORDS)
    assert status == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: a pilot of 3,000 images must work before the seconds")
    assert last.endswith("or give --no-pilot.")
    assert noted_runs() == []


def test_calibrate__is_no_option_any_more(images, run_cli):
    status, _, err = run_cli("plan", images, "--calibrate")
    assert status == 2
    assert "No such option '--calibrate'" in err
    assert len(err.strip().splitlines()) == 1


# What is refused.


def test_plan__refuses_what_the_disk_cannot_take(run_cli, images, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    status, _, err = run_cli("plan", images, "--out", tmp_path / "deep" / "run")
    assert status == 2
    assert "a run must fit the disk; it writes up to" in err
    assert f"{tmp_path} has 9.77 kiB free" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        ({"n": 10**8}, "Set projection.dtype=float16"),
        ({"n": 200_000, "n_features": 4000}, "Lower pca.max_full_features"),
    ],
)
def test_disk__that_is_too_small_names_what_to_change(made, advice, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(StoreError, match=advice):
        check_disk(plan_tasks(STEPS, sizes(**made)), tmp_path)


def test_nearest_folder__is_one_that_exists(tmp_path):
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(tmp_path) == tmp_path
