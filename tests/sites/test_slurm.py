"""Whole runs on a real Slurm, with all that befalls jobs; labels are those of a run on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time

import numpy as np
import pytest

from tests.conftest import PROJECT, last_json
from tests.pipeline.helpers import assert_same_labels, labels_of
from tests.sites import lab
from workflow.compute import open_client
from workflow.config import load_config
from workflow.errors import ComputeError
from workflow.pipeline.executor import Executor
from workflow.pipeline.progress import Progress
from workflow.pipeline.runner import run_pipeline
from workflow.runstore import RunStore

pytestmark = pytest.mark.slurm

#: Off the node of the jobs that wait for their walltime.
OTHERS = {**lab.JOB, "queue": "lab", "job_extra_directives": ["--exclude=n1"]}


def site_of(folder, **compute):
    return lab.write_site(folder, "slurm", **{**OTHERS, "n_workers": 2, **compute})


def load(site):
    flat = {
        f"{s}.{k}": v for s, c in lab.SETTINGS.items() if isinstance(c, dict) for k, v in c.items()
    }
    return load_config(
        None,
        {"block_rows": lab.SETTINGS["block_rows"], **flat},
        compute=site and str(site),
        environment={},
    )


def assert_same(folder, local_run):
    assert_same_labels(labels_of(RunStore.open(folder / "run")), labels_of(local_run))


@pytest.fixture(scope="module", autouse=True)
def stopped_run(slurm, images, tmp_path_factory):
    """A run that is stopped in its middle until the walltime of its jobs has ended.

    The first thing that is started, since Slurm looks at walltimes now and then only.
    """
    folder = tmp_path_factory.mktemp("walltime")
    site = site_of(
        folder,
        n_workers=1,
        walltime="00:01:00",
        lifetime="off",
        job_name="walltime",
        job_extra_directives=["--nodelist=n1"],
    )
    command = lab.start_run(folder, images, site)
    try:
        lab.wait_until(lambda: lab.entries(folder / "run", "projection/blocks.jsonl") > 2)
        os.kill(command.process.pid, signal.SIGSTOP)
        yield folder, command, slurm.jobs(name="walltime")
    finally:
        command.process.send_signal(signal.SIGCONT)
        command.end()


def test_run__on_four_jobs(slurm, images, local_run, tmp_path):
    command = lab.start_run(tmp_path, images, site_of(tmp_path, n_workers=4))
    lab.wait_until(lambda: len(slurm.jobs("-t", "RUNNING")) == 4)
    said = command.wait()
    assert slurm.is_empty()
    assert "ssh -N -L" in said
    assert_same(tmp_path, local_run)
    logs = "".join(path.read_text() for path in (tmp_path / "logs").glob("*"))
    assert logs.count("Start worker at:") >= 4
    assert "tls://" in logs
    assert "tcp://" not in logs
    assert "PRIVATE KEY" not in logs
    assert not list((tmp_path / "logs").glob(".keys-*"))


def test_run__a_job_is_cancelled_and_a_node_dies(slurm, images, local_run, tmp_path):
    # Two workers in each job: it is lost when both are.
    site = site_of(tmp_path, n_workers=4, cores=2, memory="3000 MiB")
    command = lab.start_run(tmp_path, images, site)
    lab.wait_until(lambda: lab.entries(tmp_path / "run", "pca/moments.jsonl") > 2)
    (on_n2,), (on_n3,) = (
        lab.wait_until(lambda n=node: slurm.jobs("-w", n)) for node in ("n2", "n3")
    )
    lab.call("scancel", on_n2)
    lab.wait_until(lambda: set(slurm.jobs()) - {on_n2, on_n3})
    daemon = int((slurm.folder / "run" / "slurmd-n3.pid").read_text())
    for pid in [daemon, *lab.processes_of_job(on_n3)]:
        os.kill(pid, signal.SIGKILL)
    said = command.wait()
    assert f"job {on_n2} was lost" in said
    assert f"job {on_n3} was lost" in said
    slurm.start()
    lab.wait_until(slurm.is_empty)
    assert_same(tmp_path, local_run)


def test_run__a_job_is_killed_for_its_memory(slurm, images, local_run, tmp_path):
    # Nobody but Slurm looks at memory here.
    quiet = "export DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE=False DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False"
    site = site_of(tmp_path, job_script_prologue=[*lab.JOB["job_script_prologue"], quiet])
    loaded = load(site)
    with open_client(loaded.config.compute) as client:
        client.wait_for_workers(2)
        first, second = slurm.jobs()
        worker = min(client.scheduler_info()["workers"])
        # Nowhere else: it is not to be tried again.
        eater = client.submit(eat_memory, workers=[worker], pure=False)
        store = run_pipeline(
            images, tmp_path / "run", loaded, client=client, progress=Progress(enabled=False)
        )
        lab.wait_until(lambda: set(slurm.jobs()) - {first, second})
        eater.cancel()
    assert "FAILED" in {slurm.ended(first), slurm.ended(second)}
    lab.wait_until(slurm.is_empty, patience_s=20)
    assert_same_labels(labels_of(store), labels_of(local_run))


def eat_memory():
    held = []
    while True:
        held.append(np.ones(2**24, np.uint8))
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_run__stopped_in_the_middle_leaves_no_job_and_goes_on(
    number, slurm, images, local_run, client, tmp_path
):
    site = site_of(tmp_path)
    command = lab.start_run(tmp_path, images, site)
    lab.wait_until(lambda: lab.entries(tmp_path / "run", "pca/moments.jsonl") > 2)
    assert len(slurm.jobs()) == 2
    os.kill(command.process.pid, number)
    status = command.process.wait(lab.PATIENCE_S)
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 1)
    # At once: a worker alone would end a minute after its scheduler.
    lab.wait_until(slurm.is_empty, patience_s=20)
    lab.wait_until(lambda: not list((tmp_path / "logs").glob(".keys-*")), patience_s=20)
    done = lab.entries(tmp_path / "run", "pca/moments.jsonl")
    assert done > 2
    if number == signal.SIGKILL:
        said = lab.start_run(tmp_path, images, site).wait()
        assert "going on with pca" in said
        assert slurm.is_empty()
    else:
        loaded = load(None)
        run_pipeline(
            images, tmp_path / "run", loaded, client=client, progress=Progress(enabled=False)
        )
    assert_same(tmp_path, local_run)


def test_run__refused_jobs_end_it_in_the_words_of_slurm(slurm, images, tmp_path):
    said = lab.start_run(tmp_path, images, site_of(tmp_path, queue="nowhere")).wait(status=2)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "sbatch: error: invalid partition specified: nowhere" in error
    said = lab.start_run(tmp_path, images, site_of(tmp_path, memory="900 GiB")).wait(status=2)
    assert "Requested node configuration is not available" in said
    assert slurm.is_empty()


@pytest.mark.slow
def test_run__a_refusal_in_the_middle_ends_it_too_and_it_goes_on(
    slurm, images, local_run, client, tmp_path
):
    site = site_of(tmp_path, n_workers=1, queue="short", walltime="00:02:00")
    command = lab.start_run(tmp_path, images, site)
    lab.wait_until(lambda: lab.entries(tmp_path / "run", "pca/moments.jsonl") > 2)
    lab.call("scontrol", "update", "PartitionName=short", "State=INACTIVE")
    try:
        lab.call("scancel", *slurm.jobs())
        said = command.wait(status=2)
    finally:
        lab.call("scontrol", "update", "PartitionName=short", "State=UP")
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "it refused: sbatch: error: " in error
    lab.wait_until(slurm.is_empty, patience_s=20)
    run_pipeline(
        images, tmp_path / "run", load(None), client=client, progress=Progress(enabled=False)
    )
    assert_same(tmp_path, local_run)


@pytest.mark.slow
def test_open_client__jobs_that_end_at_once_are_not_asked_for_for_ever(slurm, tmp_path):
    site = site_of(tmp_path, job_script_prologue=["echo no such module; exit 3"])
    with (
        pytest.raises(ComputeError, match=r"must bring up workers; .*no such module"),
        open_client(load(site).config.compute),
    ):
        pass
    lab.wait_until(slurm.is_empty, patience_s=20)


@pytest.mark.slow
def test_open_client__workers_leave_before_their_walltime_and_others_come(slurm, tmp_path, caplog):
    logging.getLogger("workflow").propagate = True
    caplog.set_level("INFO", logger="workflow")
    site = site_of(tmp_path, lifetime="15 s")
    with open_client(load(site).config.compute) as client:
        client.wait_for_workers(2)
        jobs = set(slurm.jobs())
        executor = Executor(client, Progress(enabled=False), tmp_path)
        # Longer than the two can stay.
        assert executor.map(slow_square, range(200)) == [n * n for n in range(200)]
        assert set(slurm.jobs()) - jobs
    lab.wait_until(slurm.is_empty, patience_s=20)
    # By themselves, not because their job was cancelled.
    ended = [path.read_text() for path in (tmp_path / "logs").glob("*.err")]
    assert sum("worker-lifetime-reached" in text for text in ended) >= 2
    assert "has served its time" in caplog.text
    assert "was lost" not in caplog.text


def slow_square(n):
    time.sleep(0.15)
    return n * n


def test_compute_check__says_what_a_job_saw(slurm, images, tmp_path):
    site = site_of(tmp_path, memory="1 GiB")
    words = ("compute", "check", site, "--images", images, "--out", tmp_path / "run", "--json")
    command = lab.Command(tmp_path, *words)
    command.wait()
    found = last_json(command.out.read_text())
    assert found["problems"] == found["differing"] == []
    assert "#SBATCH --mem=1024M" in found["job_script"]
    assert found["read_bytes"] == images.stat().st_size
    assert found["sees_images"]
    assert found["writes_run"]
    assert found["memory_limit"] == 2**30 * 95 // 100
    assert 0 < found["worker_s"] < found["result_s"]
    assert found["versions"]["numpy"]["there"] == np.__version__
    lab.wait_until(slurm.is_empty, patience_s=20)


def test_run__inside_a_job_with_workers_in_the_same_allocation(slurm, images, local_run, tmp_path):
    lab.write_site(tmp_path, "allocation", interface="lo")
    lab.write_settings(tmp_path)
    script = tmp_path / "job.sh"
    script.write_text(
        "#!/bin/bash\n"
        "#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2 --mem=3000M --time=00:10:00\n"
        "#SBATCH --job-name=inside --exclude=n1 --output=messages.txt\n"
        f"export PYTHONPATH={PROJECT}\n"
        f"exec {sys.executable} -m workflow run {images} --out run --config settings.yaml "
        "--compute allocation.yaml\n"
    )
    job = lab.call("sbatch", "--parsable", str(script), cwd=tmp_path).strip()
    lab.wait_until(lambda: slurm.is_empty("inside"))
    said = (tmp_path / "messages.txt").read_text()
    assert slurm.ended(job) == "COMPLETED", said
    log = (tmp_path / "logs" / f"workers-{job}.log").read_text()
    assert log.count("Start worker at:") == 4
    assert "tls://" in log
    assert not list((tmp_path / "logs").glob(".keys-*"))
    assert_same(tmp_path, local_run)


@pytest.mark.slow
def test_open_client__an_adaptive_number_follows_the_work(slurm, tmp_path):
    site = site_of(tmp_path, adaptive=True, n_workers=3)
    with open_client(load(site).config.compute) as client:
        assert len(slurm.jobs()) == 1
        futures = client.map(slow_square, range(20_000), pure=False)
        lab.wait_until(lambda: len(slurm.jobs()) == 3)
        client.cancel(futures)
    lab.wait_until(slurm.is_empty, patience_s=20)


def test_run__the_walltime_ends_with_work_half_done(slurm, stopped_run, local_run):
    folder, command, (job,) = stopped_run
    lab.wait_until(lambda: slurm.is_empty("walltime"))
    assert slurm.ended(job) == "TIMEOUT"
    done = lab.entries(folder / "run", "projection/blocks.jsonl")
    assert done < 20
    os.kill(command.process.pid, signal.SIGCONT)
    said = command.wait()
    assert f"job {job} was lost" in said
    assert slurm.is_empty("walltime")
    assert_same(folder, local_run)
