"""A run that is killed and started again gives the same labels; a changed setting redoes what depends on it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import time
from functools import partial

import numpy as np
import pytest

from tests.conftest import picture_set, spawn_cli
from tests.runs.helpers import (
    LEAN,
    SETTINGS,
    assert_same_labels,
    copy_of,
    labels_of,
    only,
    with_numbers_of,
    without_families,
)
from tests.runs.helpers import make_run as make_any_run
from workflow.commands import recut as recut_module
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.commands.run import run_workflow
from workflow.commands.status import status
from workflow.config import LoadedConfig
from workflow.engine.progress import Progress
from workflow.engine.staleness import step_plans
from workflow.engine.step import by_name, dependents
from workflow.engine.summary import read_summary
from workflow.errors import StoreError
from workflow.runstore import RunStore, journal
from workflow.steps import STEPS, load_config

make_run = partial(make_any_run, defaults=SETTINGS | LEAN)
#: For tests of every step.
ALL = {"neighbors.enabled": True}
NAMES = [step.name for step in STEPS]
PIXELS = ("ingest", "pca", "projection")
SET_WORDS = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]


def wait_for(journal, process):
    """Wait until a journal has an entry."""
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def npy(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, picture_set(n=6000, seed=3)[0])
    return path


@pytest.fixture(scope="module")
def uninterrupted(npy, client, tmp_path_factory):
    return make_run(npy, tmp_path_factory.mktemp("whole") / "run", client)


@pytest.fixture
def run(uninterrupted, tmp_path):
    """A copy of that run, to be changed."""
    return copy_of(uninterrupted, tmp_path / "run")


class StopHereError(Exception):
    """Stands for a kill at a known place."""


def replace_run(patch, name, function):
    """Let a step do something else; return what it did before."""
    step = by_name(STEPS)[name]
    before = type(step).run
    patch.setattr(type(step), "run", function)
    return before


def test_resume__after_a_stop_before_each_step(npy, uninterrupted, client, tmp_path, monkeypatch):
    """One folder, stopped before each step in turn; what was complete is not done again."""

    def stop(self, context):
        raise StopHereError

    for number, name in enumerate(NAMES):
        with monkeypatch.context() as patch:
            replace_run(patch, name, stop)
            with pytest.raises(StopHereError):
                make_run(npy, tmp_path / "run", client, **ALL)
        store = RunStore.open(tmp_path / "run")
        assert store.step(name).state == "partial"
        done = [done for done in NAMES if store.step(done).state == "complete"]
        assert done == NAMES[:number]
    again = make_run(npy, tmp_path / "run", client, **ALL)
    assert_same_labels(labels_of(uninterrupted), without_families(labels_of(again)))


def test_resume__in_the_middle_of_every_pass_repeats_only_the_rest(
    npy, uninterrupted, client, tmp_path, monkeypatch
):
    """The journal of each pass takes five entries and no more: as if the client had been killed there."""
    extend, noted, stopped = journal.Journal.extend, [], set()

    def limited(journal, records):
        name = journal.path.parent.name, journal.path.stem
        places = [(*name, index) for index in records]
        assert not set(places) & set(noted), "a task that was noted ran again"
        n_fitting = len(records)
        if name not in stopped:
            n_fitting = min(n_fitting, 5 - sum(place[:2] == name for place in noted))
        extend(journal, dict(list(records.items())[:n_fitting]))
        noted.extend(places[:n_fitting])
        if n_fitting < len(records):
            stopped.add(name)
            raise StopHereError

    again = None
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "extend", limited)
        while again is None:
            with contextlib.suppress(StopHereError):
                again = make_run(npy, tmp_path / "run", client, **ALL)
    assert {step for step, _ in stopped} >= {
        "pca", "projection", "neighbors", "overcluster", "labels"
    }, stopped  # fmt: skip
    assert_same_labels(labels_of(uninterrupted), without_families(labels_of(again)))


def test_resume__a_finished_run_does_nothing(npy, run, client, monkeypatch):
    def never(self, context):
        raise AssertionError

    for name in NAMES:
        replace_run(monkeypatch, name, never)
    make_run(npy, run.path, client)


#: Setting, another value, the first step that is done again.
CHANGES = [
    ("report.images_per_cluster", 5, "report"),
    ("labels.noise", "resolve", "labels"),
    ("labels.max_outlier_score", "off", "labels"),
    ("tree.min_cluster_size", 100, "tree"),
    ("tree.method", "hdbscan", "tree"),
    ("centroid_graph.dimension_rows", 500, "centroid_graph"),
    ("overcluster.n_centroids", 50, "overcluster"),
    ("projection.dtype", "float16", "projection"),
    ("pca.whiten", True, "projection"),
    ("pca.n_components", 5, "pca"),
]


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [*CHANGES, ("seed", 1, "overcluster"), ("compute.n_workers", 7, None)],
)
def test_stale__is_what_depends_on_a_changed_setting(uninterrupted, key, value, first):
    config = load_config(None, {**SETTINGS, **LEAN, key: value}, environment={}).config
    due = {plan.name: plan for plan in step_plans(STEPS, uninterrupted, config) if plan.is_due}
    assert list(due) == ([first, *dependents(STEPS, first)] if first else [])
    if first:
        assert due[first].reason.startswith(f"{key} was ")


def test_stale__changed_settings_give_what_a_fresh_run_gives(npy, run, client, tmp_path, caplog):
    """First those of the early steps, then those of the late ones, which find the others' results."""
    early = {key: value for key, value, _ in CHANGES[-4:]}
    late = {key: value for key, value, _ in CHANGES[:-4]}
    make_run(npy, run.path, client, **early)
    with caplog.at_level(logging.INFO, logger="workflow"):
        changed = make_run(npy, run.path, client, **early, **late)
    assert "centroid_graph is stale: centroid_graph.dimension_rows was" in caplog.text
    assert "overcluster is stale" not in caplog.text
    fresh = make_run(npy, tmp_path / "fresh", client, **early, **late)
    # Numbers of clusters stay as they were.
    expected = labels_of(fresh)
    assert_same_labels(expected, with_numbers_of(labels_of(changed), expected))


def test_stale__other_images_are_refused(run, client, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, picture_set(n=700)[0])
    with pytest.raises(StoreError, match=r"was made from .*images.npy, and .*other.npy differs"):
        make_run(other, run.path, client)


def test_stale__images_altered_between_the_passes_are_noticed(client, tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    images = picture_set(n=3000)[0]
    np.save(path, images)
    projection = type(by_name(STEPS)["projection"]).run

    def alter_first(self, context):
        times = path.stat()
        stored = np.load(path, mmap_mode="r+")
        stored[1234, 0, 0, 0] ^= 1
        stored.flush()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        projection(self, context)

    replace_run(monkeypatch, "projection", alter_first)
    with pytest.raises(StoreError, match="images 1024 to 1535 have changed"):
        make_run(path, tmp_path / "run", client)


def test_recut__and_back(uninterrupted, run):
    summary = recut(run.path, n_clusters=3)
    assert summary["n_clusters"] == 3
    assert len(np.unique(labels_of(run)["label_resolved"])) == 3
    found = status(run.path, verify=True)
    assert {step["state"] for step in found["steps"].values()} == {"complete"}
    assert found["damaged"] == []
    assert recut(run.path, configured=True)["cut"] == "configured"
    assert_same_labels(labels_of(uninterrupted), labels_of(run))
    assert status(run.path, verify=True)["damaged"] == []


def test_run__keeps_a_cut_by_hand_unless_it_is_told_settings(
    npy, uninterrupted, run, client, caplog
):
    recut(run.path, n_clusters=3)
    page, plain = (run.path / "report.html").read_text(), load_config(None, {}, environment={})
    known = load_config(None, {**SETTINGS, **LEAN}, environment={})
    with caplog.at_level(logging.INFO, logger="workflow"):
        # As the same settings come from a folder: nothing is told.
        loaded = LoadedConfig(known.config, plain.origins)
        run_workflow(npy, run.path, loaded, client=client, progress=Progress(enabled=False))
    assert "the cut by hand is kept" in caplog.text
    assert "recut" in caplog.text
    assert read_summary(run)["n_clusters"] == 3
    assert (run.path / "report.html").read_text() == page
    again = make_run(npy, run.path, client)
    assert_same_labels(labels_of(uninterrupted), labels_of(again))
    assert read_summary(again)["cut"] == "configured"


def test_recut__stopped_before_the_page_leaves_it_to_be_written(run, monkeypatch):

    def stop(*_):
        raise StopHereError

    with monkeypatch.context() as patch:
        patch.setattr(recut_module, "write_report", stop)
        with pytest.raises(StopHereError):
            recut(run.path, n_clusters=3)
    assert status(run.path)["steps"]["report"]["state"] == "partial"
    assert read_summary(run)["n_clusters"] == 3
    assert "divided into 3 clusters" not in (run.path / "report.html").read_text()
    report(run.path)
    assert status(run.path)["steps"]["report"]["state"] == "complete"
    assert "divided into 3 clusters" in (run.path / "report.html").read_text()


def test_recut__cut_short_is_finished_by_the_next_opener(run, monkeypatch):
    before = labels_of(run)["label"].values
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "_finish_moves", lambda self: (_ for _ in ()).throw(StopHereError))
        with pytest.raises(StopHereError):
            recut(run.path, n_clusters=3)
    assert (labels_of(run)["label"].values == before).all()
    reopened = RunStore.open(run.path)
    assert read_summary(reopened)["n_clusters"] == 3
    assert len(np.unique(labels_of(reopened)["label_resolved"])) == 3


def test_lock__a_second_writer_is_refused(npy, run, client):
    with run.lock(), pytest.raises(StoreError, match="one command at a time"):
        make_run(npy, run.path, client)


@pytest.mark.parametrize("lost", ["labels.zarr", "report.html", "model.zarr", "projection/kept"])
def test_resume__makes_again_what_was_deleted(lost, npy, uninterrupted, run, client):
    place = run.path / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert "absent" in {s["state"] for s in status(run.path)["steps"].values()}
    again = make_run(npy, run.path, client)
    assert place.exists()
    assert_same_labels(labels_of(uninterrupted), labels_of(again))


def test_resume__after_another_cut_of_the_blocks(npy, uninterrupted, client, tmp_path):
    with only(*PIXELS):
        make_run(npy, tmp_path / "run", client, block_rows=700)
    again = make_run(npy, tmp_path / "run", client)
    assert again.read_model("moments_count")[0] == 6000
    assert_same_labels(labels_of(uninterrupted), labels_of(again))


def test_resume__a_recut_that_is_put_back_and_killed_is_not_taken_for_whole(
    npy, uninterrupted, run, client, monkeypatch
):
    recut(run.path, n_clusters=3)

    def stop(self, context):
        raise StopHereError

    with monkeypatch.context() as patch:
        replace_run(patch, "labels", stop)
        with pytest.raises(StopHereError):
            make_run(npy, run.path, client)
    again = make_run(npy, run.path, client)
    assert_same_labels(labels_of(uninterrupted), labels_of(again))


def test_signal__ends_with_one_line_and_status_1(npy, tmp_path):
    """Of any signal that stops: tests/cli/test_cli_stop.py."""
    words = ("run", npy, "--out", tmp_path / "run", *SET_WORDS, "--set", "compute.n_workers=1")
    process = spawn_cli(*words)
    wait_for(tmp_path / "run" / "pca/moments.jsonl", process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped; the same command goes on from here\n" in err
    assert "Traceback" not in err
