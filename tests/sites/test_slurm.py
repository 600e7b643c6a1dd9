"""Whole runs on a real Slurm, with all that befalls jobs; labels are those of a run on this machine."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import stat
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest

from tests.conftest import PROJECT, last_json
from tests.ingest.helpers import files_of
from tests.runs.helpers import assert_same_labels, labels_of
from tests.sites import lab
from workflow.commands.run import run_workflow
from workflow.compute import open_client
from workflow.config.load import flatten
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.errors import ComputeError
from workflow.ingest import ingest, open_source
from workflow.runstore import RunStore
from workflow.steps import load_config

pytestmark = pytest.mark.slurm

#: Off the node of the jobs that wait for their walltime.
OTHERS = {**lab.JOB, "queue": "lab", "job_extra_directives": ["--exclude=n1"]}


def site_of(folder, **compute):
    return lab.write_site(folder, "slurm", **{**OTHERS, "n_workers": 2, **compute})


def slow_site_of(folder, step, **compute):
    given = {**OTHERS, "n_workers": 2, **compute}
    lab.slow_step(folder, step, n_jobs=given["n_workers"] // given["cores"])
    return lab.slow_site(folder, "slurm", **given)


def settings_of(site):
    return load_config(None, flatten(lab.SETTINGS), compute=site and str(site), environment={})


def assert_same(folder, local_run):
    assert_same_labels(labels_of(RunStore.open(folder / "run")), labels_of(local_run))


def goes_on_here(folder, images, client):
    """Finish a run on workers of this machine."""
    loaded, silent = settings_of(None), Progress(enabled=False)
    run_workflow(images, folder / "run", loaded, client=client, progress=silent)


def keys_left(folder):
    return list((folder / "logs").glob(".keys-*"))


@pytest.fixture(autouse=True)
def _tidy(stopped_run, tidy_slurm):
    """Keep tests from each other's jobs."""


@pytest.fixture(scope="module")
def stopped_run(request, slurm, images, local_run, tmp_path_factory):
    """A run that is stopped in its middle until the walltime of its job has ended.

    The first thing that is started there, since Slurm looks at walltimes now and then only.  Gives what
    went wrong, too, as that concerns one test only.
    """
    wanted = test_run__the_walltime_ends_with_work_half_done.__name__
    if not any(item.name == wanted for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("walltime")
    options = {"n_workers": 1, "walltime": "00:01:00", "lifetime": "off", "job_name": lab.WAITING}
    node = {"job_extra_directives": ["--nodelist=n1"]}
    site = slow_site_of(folder, "projectiontask", **options, **node)
    command = lab.start_run(folder, images, site)
    command.waits = True
    with contextlib.ExitStack() as stack:
        stack.callback(command.end)
        try:
            (job,) = lab.wait_until(lambda: slurm.jobs(name=lab.WAITING), meanwhile=command)
            held = lab.frozen(command, "projectiontask", [job])
            done = stack.enter_context(held)
        except (AssertionError, pytest.fail.Exception) as failure:
            yield failure
        else:
            yield folder, command, job, done


def test_run__on_four_jobs(slurm, images, local_run, tmp_path):
    # Nothing goes on before all four are there.
    site = slow_site_of(tmp_path, "momentstask", n_workers=4)
    command = lab.start_run(tmp_path, images, site)
    lab.wait_until(lambda: len(lab.begun(tmp_path, "momentstask")) == 4, meanwhile=command)
    jobs = slurm.jobs("-t", "RUNNING")
    assert set(jobs) == set(lab.begun(tmp_path, "momentstask"))
    (keys,) = keys_left(tmp_path)
    assert_no_secret_told(jobs, keys, slurm)
    lab.no_slow_step(tmp_path)
    said = command.wait()
    assert slurm.is_empty()
    assert "ssh -N -L" in said
    assert_same(tmp_path, local_run)
    logs = "".join(path.read_text() for path in (tmp_path / "logs").glob("*"))
    assert logs.count("Start worker at:") == 4
    assert "tls://" in logs
    assert "tcp://" not in logs
    assert "PRIVATE KEY" not in logs + said
    assert not keys_left(tmp_path)


def assert_no_secret_told(jobs, keys, slurm):
    """The key of a run that is under way is in one file of its user, and nowhere else."""
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {
        "ca_file.pem": 0o600,
        "cert.pem": 0o600,
        "key.pem": 0o600,
    }
    key = "".join((keys / "key.pem").read_text().splitlines()[1:-1])
    for job in jobs:
        script = lab.call("scontrol", "write", "batch_script", job, "-")
        assert f"--tls-key {keys / 'key.pem'}" in script
        processes = [Path("/proc") / str(pid) for pid in lab.processes_of_job(job)]
        told = [
            (p / name).read_bytes().decode() for p in processes for name in ("cmdline", "environ")
        ]
        assert any("dask_worker" in text for text in told)
        for text in [script, *told]:
            assert "PRIVATE KEY" not in text
            assert key[:40] not in text
    # Where dask-jobqueue would have put it: the folder that the command runs in.
    assert not list(keys.parent.parent.glob(".dask-jobqueue*"))


def test_run__a_job_is_cancelled_and_a_node_dies(slurm, images, local_run, tmp_path):
    # Two workers in each job: it is lost when both are.
    site = slow_site_of(tmp_path, "momentstask", n_workers=4, cores=2, memory="3000 MiB")
    command = lab.start_run(tmp_path, images, site)
    (on_n2,), (on_n3,) = (
        lab.wait_until(lambda n=node: slurm.jobs("-t", "RUNNING", "-w", n), meanwhile=command)
        for node in ("n2", "n3")
    )
    with lab.frozen(command, "momentstask", [on_n2]):
        lab.call("scancel", on_n2)
        assert slurm.ended(on_n2) == "CANCELLED"
        # In the next step, maybe before another job has come.
        lab.slow_step(tmp_path, "projectiontask", n_jobs=1)
    with lab.frozen(command, "projectiontask", [on_n3]):
        slurm.kill_node("n3", on_n3)
        assert slurm.ended(on_n3) == "NODE_FAIL"
        lab.hold_step(tmp_path, "projectiontask")
    for job in (on_n2, on_n3):
        command.wait_for(f"job {job} was lost; another one takes its place")
    lab.no_slow_step(tmp_path)
    command.wait()
    slurm.start()
    lab.wait_until(slurm.is_empty)
    assert_same(tmp_path, local_run)


def test_run__a_job_is_killed_for_its_memory(slurm, images, local_run, tmp_path):
    # Another process of the job takes more than the job may have, when it is told to.
    eater = "import time; held = b'1' * (3 * 2**30); time.sleep(60)"
    wait = f"until [ -e {tmp_path}/eat-$SLURM_JOB_ID ]; do sleep 0.2; done"
    prologue = [
        *lab.JOB["job_script_prologue"],
        f'( {wait}; exec {sys.executable} -c "{eater}" ) &',
    ]
    site = slow_site_of(tmp_path, "assigntask", job_script_prologue=prologue)
    command = lab.start_run(tmp_path, images, site)
    job, _ = lab.wait_until(
        lambda: len(found := slurm.jobs("-t", "RUNNING")) == 2 and sorted(found), meanwhile=command
    )
    with lab.frozen(command, "assigntask", [job]):
        (tmp_path / f"eat-{job}").touch()
        assert slurm.ended(job) == "FAILED"
        lab.hold_step(tmp_path, "assigntask")
    command.wait_for(f"job {job} was lost; another one takes its place")
    lab.no_slow_step(tmp_path)
    command.wait()
    assert "exceeded memory limit" in (tmp_path / "logs" / f"overcluster-{job}.err").read_text()
    assert slurm.is_empty()
    assert_same(tmp_path, local_run)


def test_run__stopped_three_times_leaves_no_job_and_goes_on(slurm, images, local_run, tmp_path):
    for number, step, first in (
        (signal.SIGINT, "momentstask", None),
        (signal.SIGTERM, "projectiontask", "pca"),
        (signal.SIGKILL, "assigntask", "projection"),
    ):
        site = slow_site_of(tmp_path, step)
        command = lab.start_run(tmp_path, images, site)
        jobs = lab.wait_until(lambda: len(found := slurm.jobs()) == 2 and found)
        with lab.frozen(command, step, jobs) as done:
            command.process.send_signal(number)
        status = command.process.wait(lab.PATIENCE_S)
        assert status == (-signal.SIGKILL if number == signal.SIGKILL else 1), number
        # At once: a worker alone would end a minute after its scheduler.
        lab.wait_until(slurm.is_empty, patience_s=30)
        lab.wait_until(lambda: not keys_left(tmp_path), patience_s=30)
        assert done <= lab.entries(tmp_path, step) < set(range(lab.N_TASKS))
        said = command.messages.read_text()
        assert "Traceback" not in said
        assert first is None or f"going on with {first}" in said
    said = lab.start_run(tmp_path, images, site_of(tmp_path)).wait()
    assert "going on with overcluster" in said
    assert slurm.is_empty()
    assert_same(tmp_path, local_run)


def test_run__refused_jobs_end_it_in_the_words_of_slurm(slurm, images, tmp_path):
    said = lab.start_run(tmp_path, images, site_of(tmp_path, queue="nowhere")).wait(status=2)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "sbatch: error: invalid partition specified: nowhere" in error
    too_much = settings_of(site_of(tmp_path, memory="900 GiB")).config.compute
    with (
        pytest.raises(ComputeError, match="Requested node configuration is not available"),
        open_client(too_much),
    ):
        pass
    assert slurm.is_empty()


@pytest.mark.slow
def test_run__a_refusal_in_the_middle_ends_it_too_and_it_goes_on(
    slurm, images, local_run, client, tmp_path
):
    options = {"n_workers": 1, "queue": "short", "walltime": "00:02:00"}
    command = lab.start_run(tmp_path, images, slow_site_of(tmp_path, "momentstask", **options))
    (job,) = lab.wait_until(slurm.jobs, meanwhile=command)
    try:
        with lab.frozen(command, "momentstask", [job]):
            lab.call("scontrol", "update", "PartitionName=short", "State=INACTIVE")
            lab.call("scancel", job)
            assert slurm.ended(job) == "CANCELLED"
        said = command.wait(status=2)
    finally:
        lab.call("scontrol", "update", "PartitionName=short", "State=UP")
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "it refused: sbatch: error: " in error
    lab.wait_until(slurm.is_empty, patience_s=30)
    goes_on_here(tmp_path, images, client)
    assert_same(tmp_path, local_run)


@pytest.mark.slow
def test_open_client__jobs_that_end_at_once_are_not_asked_for_for_ever(slurm, tmp_path):
    site = site_of(tmp_path, job_script_prologue=["echo no such module; exit 3"])
    with (
        pytest.raises(ComputeError, match=r"must start workers; .*no such module"),
        open_client(settings_of(site).config.compute),
    ):
        pass
    lab.wait_until(slurm.is_empty, patience_s=30)


@pytest.mark.slow
def test_open_client__workers_leave_before_their_walltime_and_others_come(slurm, tmp_path):
    site = site_of(tmp_path, lifetime="20 s")
    with (
        messages_in(tmp_path / "told.txt"),
        open_client(settings_of(site).config.compute) as client,
    ):
        client.wait_for_workers(2)
        jobs = set(slurm.jobs())
        executor = Executor(client, Progress(enabled=False), tmp_path)
        deadline = time.monotonic() + lab.PATIENCE_S
        # Work is under way when they leave, and until others are there.
        while jobs & set(slurm.jobs()) or len(slurm.jobs()) < 2:
            assert time.monotonic() < deadline
            assert executor.map(slow_square, range(20)) == [n * n for n in range(20)]
    lab.wait_until(slurm.is_empty, patience_s=30)
    # By themselves, not because their job was cancelled.
    for job in jobs:
        said = (tmp_path / "logs" / f"overcluster-{job}.err").read_text()
        assert "worker-lifetime-reached" in said
        assert f"job {job} has served its time" in (tmp_path / "told.txt").read_text()
    assert "was lost" not in (tmp_path / "told.txt").read_text()


@contextlib.contextmanager
def messages_in(path):
    """Let our messages go to a file: Dask silences the handlers that pytest captures them with."""
    handler, ours = logging.FileHandler(path), logging.getLogger("workflow")
    before = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)
        handler.close()


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
    lab.wait_until(slurm.is_empty, patience_s=30)


def test_open_client__is_patient_with_queues_that_take_workers_away(slurm, tmp_path):
    """What scheduler and workers run with, whatever the user's own configuration of Dask says."""
    names = {
        "distributed.scheduler.allowed-failures": 10,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.comm.timeouts.tcp": "60s",
    }
    impatient = dict.fromkeys(names, 1) | {"distributed.scheduler.no-workers-timeout": "1s"}
    site = settings_of(site_of(tmp_path, n_workers=1)).config.compute
    with dask.config.set(impatient), open_client(site) as client:
        scheduler = client.run_on_scheduler(patience_of)
        assert scheduler == (10, None)
        assert dask.config.get("distributed.comm.timeouts.connect") == "60s"
        # Else no result, whoever dies.
        (worker,) = client.run(lambda: {name: dask.config.get(name) for name in names}).values()
        del worker["distributed.scheduler.allowed-failures"]
        assert worker == {name: names[name] for name in worker}


def patience_of(dask_scheduler):
    return dask_scheduler.allowed_failures, dask_scheduler.no_workers_timeout


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
    ended = slurm.ended(job)
    said = (tmp_path / "messages.txt").read_text()
    assert ended == "COMPLETED", said
    log = (tmp_path / "logs" / f"workers-{job}.log").read_text()
    assert log.count("Start worker at:") == 4
    assert "tls://" in log
    assert "PRIVATE KEY" not in log + said
    assert not keys_left(tmp_path)
    assert_same(tmp_path, local_run)


def test_ingest__as_a_job_array(slurm, tmp_path):
    # More shards than parts.
    source, target = tmp_path / "images.npy", tmp_path / "images.zarr"
    np.save(source, np.random.default_rng(0).integers(0, 256, (80_000, 600), np.uint8))
    begin = lab.Command(tmp_path, "ingest-init", source, target, "--parts", 4, "--json")
    begin.wait()
    plan = last_json(begin.out.read_text())
    assert (plan["n_parts"], plan["n_shards"]) == (4, 5)
    part = f"cd {PROJECT} && {sys.executable} -m workflow ingest-part {target} $SLURM_ARRAY_TASK_ID"
    options = ("--parsable", "--wait", "--mem=1G", "--exclude=n1", f"--output={tmp_path}/%a.txt")
    lab.call("sbatch", *options, "--array=0,1,3", "--wrap", part)
    said = lab.Command(tmp_path, "ingest-finish", target).wait(status=2)
    assert "part" in said
    assert "ingest-part" in said
    assert " 2" in said
    lab.call("sbatch", *options, "--array=2", "--wrap", part)
    lab.Command(tmp_path, "ingest-finish", target).wait()
    whole = tmp_path / "whole.zarr"
    ingest(open_source(str(source), shape=None, dtype=None, on_unreadable="skip"), whole)
    assert files_of(target) == files_of(whole)


@pytest.mark.slow
def test_open_client__an_adaptive_number_follows_the_work(slurm, tmp_path):
    site = site_of(tmp_path, adaptive=True, n_workers=3)
    with open_client(settings_of(site).config.compute) as client:
        assert len(slurm.jobs()) == 1
        # Minutes of work for three.
        futures = client.map(time.sleep, [2] * 600, pure=False)
        lab.wait_until(lambda: len(slurm.jobs()) == 3)
        client.cancel(futures)
    lab.wait_until(slurm.is_empty, patience_s=30)


def test_run__the_walltime_ends_with_work_half_done(slurm, stopped_run, local_run):
    if isinstance(stopped_run, BaseException):
        raise stopped_run
    folder, command, job, done = stopped_run
    assert slurm.ended(job) == "TIMEOUT"
    assert lab.entries(folder, "projectiontask") == done
    lab.no_slow_step(folder)
    command.process.send_signal(signal.SIGCONT)
    said = command.wait()
    assert f"job {job} was lost" in said
    # Told as soon as it goes on, since more than a minute has passed.
    line = r"after \d+ min: projection: [\d,]+ of [\d,]+ images \(\d+ %\), .* left; [01] workers?, [01] lost"
    assert re.search(line, said)
    assert slurm.is_empty(lab.WAITING)
    assert_same(folder, local_run)
