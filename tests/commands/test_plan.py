"""What `plan` predicts: more work takes longer, a measurement is kept, what cannot fit is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.pipeline.made_rates import MADE_RATES
from workflow.pipeline import calibration, measuring, rehearsal
from workflow.pipeline.calibration import calibrated, calibration_key, stored_rates, worker_count
from workflow.pipeline.durations import Machine, pass_seconds
from workflow.pipeline.forecast import check_disk, forecast_steps, nearest_folder
from workflow.pipeline.plan import plan_run
from workflow.pipeline.rates import SEARCH_CENTROIDS, SEARCH_COMPONENTS, Rates, between, plane
from workflow.pipeline.rehearsal import library_seconds, rehearse

from tests.conftest import last_json
from workflow.errors import ComputeError, StoreError
from workflow.ingest import DemoSource
from workflow.runstore.layout import STEPS
from workflow.steps import load_config

#: The session puts another in its place before tests run, after this module was imported.
USERS_CACHE_FOLDER = calibration.cache_folder


def planned(n=1_000_000, n_features=768, dtype="uint8", **settings):
    """Return the plan of a run on images that need not exist."""
    images = SimpleNamespace(
        n_samples=n, n_features=n_features, dtype=np.dtype(dtype), stored_rows=16_384
    )
    return plan_run(images, load_config(None, settings, environment={}).config, None)


def machine(n_workers=2, rates=MADE_RATES):
    """Return a made machine."""
    return Machine(rates, n_workers, 1e-9)


def seconds(name, n_workers=2, **plan):
    """Return the seconds of the passes of a step."""
    found = pass_seconds(planned(**plan).sizes, machine(n_workers))
    return sum(s for pass_, s in found.items() if pass_.partition(":")[0] == name)


@pytest.mark.parametrize("step", ["pca", "projection", "overcluster", "labels", "report"])
def test_seconds__grow_with_the_images(step):
    few, some, many = (seconds(step, n=n) for n in (10**6, 10**7, 10**8))
    assert few < some < many


@pytest.mark.parametrize("step", ["overcluster", "centroid_graph", "tree", "labels"])
def test_seconds__grow_with_the_centroids(step):
    found = [seconds(step, **{"overcluster.n_centroids": k}) for k in (200, 1000, 4000, 16_384)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_seconds__of_large_data_are_products_of_sizes():
    # Beside what does not grow, ten times the images take ten times as long.
    for step in ("pca", "projection", "labels"):
        ratio = seconds(step, n=10**9) / seconds(step, n=10**8)
        assert ratio == pytest.approx(10, rel=0.1)
    # Byte products: twice the features, at most four times as long, and more than twice.
    ratio = seconds("pca", n=10**8, n_features=1536) / seconds("pca", n=10**8)
    assert 2 < ratio < 4.5
    # Four workers take half of what two take, apart from what the leading process does.
    assert seconds("projection", 4, n=10**8) / seconds("projection", 2, n=10**8) == pytest.approx(
        0.5, abs=0.02
    )


def test_rounds__are_as_many_as_allowed_at_most():
    few = {"overcluster.max_rounds": 2, "overcluster.n_centroids": 1000}
    assert planned(**few).sizes.n_rounds == 3
    assert seconds("overcluster", **few) < seconds(
        "overcluster", **{"overcluster.n_centroids": 1000}
    )


def test_tree__redrawn_copies_cost_what_they_are():
    none, ten, twenty = (seconds("tree", **{"tree.n_resamples": n}) for n in (0, 10, 20))
    assert ten - none == pytest.approx(twenty - ten)
    assert none < ten


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("n_features", [12, 768, 10_000])
def test_every_kind_of_images__has_all_steps(dtype, n_features):
    plan = planned(n_features=n_features, dtype=dtype)
    steps = forecast_steps(plan, machine())
    assert [s.name for s in steps] == ["start", *(name for name in STEPS if name != "ingest")]
    assert all(np.isfinite(s.seconds) and s.seconds > 0 for s in steps)
    peaks = [s.peak_bytes for s in steps]
    assert peaks == sorted(peaks)
    assert peaks[0] > MADE_RATES.leader_bytes


def test_source_that_is_copied__has_an_ingest():
    config = load_config(environment={}).config
    plan = plan_run(DemoSource(50_000), config, None)
    assert plan.tasks[0].name == "ingest"
    assert plan.tasks[0].bytes_written == 50_000 * 768
    assert next(s for s in forecast_steps(plan, machine()) if s.name == "ingest").seconds > 0


def test_between__meets_what_was_measured_and_rises():
    table = [[1.0, 3.0], [2.0, 12.0]]
    for row, k in zip(table, SEARCH_CENTROIDS, strict=True):
        for value, d in zip(row, SEARCH_COMPONENTS, strict=True):
            assert between(table, k, d) == pytest.approx(value)
    found = [between(table, k, 50) for k in (256, 1024, 3000, 8192, 16_384)]
    assert found == sorted(found)
    # Twice as much beyond the larger one as the power between the two says: 4 to the third of 3.
    assert found[-1] == pytest.approx(12 * 2 ** (2 / 3))


def test_between__noise_never_makes_more_work_faster():
    assert between([[2.0, 2.0], [1.0, 1.0]], 16_384, 50) == pytest.approx(1.0)


def test_plane__gives_no_negative_rate():
    sizes = ((1.0, 1.0), (16.0, 4.0))
    for found in (plane(sizes, (1.0, 2.0)), plane(sizes, (1.0, 40.0))):
        assert min(found) >= 0
        assert found[0] * 16 + found[1] * 4 in (pytest.approx(2.0), pytest.approx(40.0))


def test_busiest_worker__gets_whole_tasks():
    assert machine(2).spread([10, 10, 10]) == 20
    assert machine(8).spread([10, 10, 10]) == 10
    assert machine(2).spread([10, 10, 1, 1, 1]) == 12


# What is kept.


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Count measurements; keep them in an empty folder."""
    made = []

    def measure(*_):
        made.append(1)
        return replace(MADE_RATES, library=float(len(made)))

    monkeypatch.setattr(calibration, "measure", measure)
    monkeypatch.setattr(calibration, "cache_folder", lambda: tmp_path / "cache" / "overcluster")
    return made


def settings(**changes):
    """Return the compute section."""
    return load_config(None, {"compute.n_workers": 1, **changes}, environment={}).config.compute


def test_measurement__is_kept_and_used_again(counted, tmp_path):
    first = calibrated(settings(), tmp_path)
    again = calibrated(settings(), tmp_path)
    assert first.is_new
    assert not again.is_new
    assert len(counted) == 1
    assert again.rates == first.rates
    assert first.path.is_file()
    anew = calibrated(settings(), tmp_path, anew=True)
    assert anew.is_new
    assert stored_rates(anew.path, calibration_key(settings(), tmp_path)).library == 2.0


@pytest.mark.parametrize("changed", ["processor_name", "n_processors", "version", "n_workers"])
def test_measurement__of_another_machine_or_version_is_made_anew(
    counted, tmp_path, monkeypatch, changed
):
    calibrated(settings(), tmp_path)
    other = {"compute.n_workers": 2} if changed == "n_workers" else {}
    if changed == "n_processors":
        monkeypatch.setattr(calibration, changed, lambda: 77)
    elif changed != "n_workers":
        monkeypatch.setattr(calibration, changed, lambda *_: "another")
    assert calibrated(settings(**other), tmp_path).is_new
    assert len(counted) == 2


@pytest.mark.parametrize("damage", ["{", "[]", '{"key": 1}', "missing", "negative"])
def test_measurement__that_is_damaged_is_made_anew(counted, tmp_path, damage):
    path = calibrated(settings(), tmp_path).path
    content = json.loads(path.read_text())
    if damage == "missing":
        del content["rates"]["tree"]
        damage = json.dumps(content)
    elif damage == "negative":
        content["rates"]["labels"] = -1.0
        damage = json.dumps(content)
    path.write_text(damage)
    assert calibrated(settings(), tmp_path).is_new
    assert len(counted) == 2
    assert not calibrated(settings(), tmp_path).is_new


def test_measurement__that_cannot_be_kept_is_used(counted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(calibration, "cache_folder", lambda: tmp_path / "file" / "overcluster")
    assert calibrated(settings(), tmp_path).is_new
    assert calibrated(settings(), tmp_path).is_new
    assert len(counted) == 2


def test_cache_folder__follows_the_convention(monkeypatch, tmp_path):
    folder = USERS_CACHE_FOLDER
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "overcluster"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == tmp_path / ".cache" / "overcluster"


def test_workers_elsewhere__are_not_counted():
    elsewhere = {"compute.launcher": "address", "compute.address": "tcp://127.0.0.1:1"}
    assert worker_count(settings(**elsewhere)) == 1
    assert worker_count(settings(**{"compute.launcher": "slurm", "compute.n_workers": 64})) == 1
    assert worker_count(settings(**{"compute.n_workers": 3})) == 3


def test_rates__survive_their_file():
    assert Rates.from_json(json.loads(json.dumps(MADE_RATES.to_json()))) == MADE_RATES
    with pytest.raises(ValueError, match="rates must be those of this version"):
        Rates.from_json({"library": 1.0})


def test_measuring__gives_every_rate(tmp_path):
    """For real, on few images; of the numbers only that they can be rates."""
    n_images = 2 * measuring.N_QUERIES + 1024
    (tmp_path / "few").mkdir()
    worker = measuring.merge_workers([measuring.measure_worker(tmp_path, n_images)])
    leader = measuring.measure_leader(n_images)
    once = rehearse(settings(), tmp_path / "few")
    assert set(once) == {"start", *STEPS}
    assert 0 < min(once.values()) < max(once.values()) < 60
    sent = {"once": once, "library": library_seconds(), "task": 0.01, "result_byte": 1e-9}
    rates = Rates.from_json({**sent, **worker, **leader})
    assert set(rates.to_json()) == {field.name for field in fields(Rates)}
    assert set(rates.moments) == set(MADE_RATES.moments)
    assert set(rates.once) == set(MADE_RATES.once)
    assert rates.per_row("assign", 16_384, 50) > 0
    assert [place.name for place in tmp_path.iterdir()] == ["few"]


def test_rehearsal__that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "N_CENTROIDS", rehearsal.N_IMAGES + 1)
    with pytest.raises(ComputeError, match=r"must work .* said: error: .*n_centroids"):
        rehearse(settings(), tmp_path)


# What is said and refused.


@pytest.fixture
def images(tmp_path):
    """A file of small images."""
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (3000, 8, 8), np.uint8))
    return path


def test_plan__says_seconds_memory_and_where_the_measurement_is(run_cli, images):
    status, out, _ = run_cli("plan", images)
    assert status == 0
    for word in ("seconds", "largest process", "total", "calibration-", "needed at most"):
        assert word in out
    status, out, _ = run_cli("plan", images, "--calibrate", "--json")
    content = last_json(out)
    assert [step["name"] for step in content["steps"]] == [
        "start",
        *(name for name in STEPS if name != "ingest"),
    ]
    assert content["seconds"] == pytest.approx(sum(s["seconds"] for s in content["steps"]))
    pca = next(step for step in content["steps"] if step["name"] == "pca")
    assert pca["bytes_read"] >= images.stat().st_size - 128
    assert set(pca) == {"name", "seconds", "peak_bytes", "bytes_read", "bytes_written"}


def test_plan__refuses_what_the_disk_cannot_take(run_cli, images, monkeypatch, tmp_path):
    def full(_):
        return SimpleNamespace(free=10_000)

    monkeypatch.setattr(shutil, "disk_usage", full)
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
        check_disk(planned(**made), tmp_path)


def test_nearest_folder__is_one_that_exists(tmp_path):
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(tmp_path) == tmp_path
