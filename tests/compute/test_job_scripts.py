"""Job scripts as text, and site files: no batch system is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args

import pytest
import yaml

from tests.conftest import PROJECT
from workflow.compute.scripts import job_script
from workflow.config.compute import BATCH_LAUNCHERS, Launcher
from workflow.errors import ConfigError
from workflow.steps import load_config

SITES = sorted((PROJECT / "cluster_configs").glob("*.yaml"))
#: Settings for every batch system.
SAME = {
    "compute.n_workers": 8,
    "compute.cores": 4,
    "compute.memory": "6 GiB",
    "compute.walltime": "02:00:00",
    "compute.queue": "regular",
    "compute.account": "imaging",
    "compute.job_script_prologue": ["module load python", "ulimit -c 0"],
    "compute.local_directory": "/scratch",
    "compute.python": "/opt/python",
    "compute.interface": None,
    "compute.lsf_units": "mb",
}
#: Directives of each job script.  dask-jobqueue counts an LSF MB as a million bytes: 5 % more than requested.
DIRECTIVES = {
    "slurm": [
        "#SBATCH -J overcluster",
        "#SBATCH -p regular",
        "#SBATCH -A imaging",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=6144M",
        "#SBATCH -t 02:00:00",
        "#SBATCH --constraint=ib",
        "#SBATCH -e {logs}/overcluster-%J.err",
        "#SBATCH -o {logs}/overcluster-%J.out",
    ],
    "pbs": [
        "#PBS -N overcluster",
        "#PBS -q regular",
        "#PBS -A imaging",
        "#PBS -l select=1:ncpus=4:mem=6144MB",
        "#PBS -l walltime=02:00:00",
        "#PBS --constraint=ib",
        "#PBS -e {logs}/",
        "#PBS -o {logs}/",
    ],
    "lsf": [
        "#BSUB -J overcluster",
        "#BSUB -q regular",
        '#BSUB -P "imaging"',
        "#BSUB -n 4",
        '#BSUB -R "span[hosts=1]"',
        "#BSUB -M 6443",
        "#BSUB -W 02:00",
        "#BSUB --constraint=ib",
        "#BSUB -e {logs}/overcluster-N-%J.err",
        "#BSUB -o {logs}/overcluster-N-%J.out",
    ],
    "sge": [
        "#$ -N overcluster",
        "#$ -q regular",
        "#$ -P imaging",
        "#$ -l h_rt=02:00:00",
        "#$ -cwd",
        "#$ -j y",
        "#$ --constraint=ib",
        "#$ -e {logs}/",
        "#$ -o {logs}/",
    ],
}


def settings(launcher, tmp_path, **values):
    flat = SAME | {
        "compute.launcher": launcher,
        "compute.log_directory": str(tmp_path / "logs"),
        "compute.job_extra_directives": "--constraint=ib",
    }
    flat |= {f"compute.{name}": value for name, value in values.items()}
    assert launcher in BATCH_LAUNCHERS
    return load_config(None, flat, environment={}).config.compute


def worker_command(script):
    (line,) = [line for line in script.splitlines() if "dask_worker" in line]
    return line


@pytest.mark.parametrize("launcher", DIRECTIVES)
def test_job_script__has_the_directives_of_each_batch_system(launcher, tmp_path):
    lines = job_script(settings(launcher, tmp_path)).splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    mark = DIRECTIVES[launcher][0].split()[0]
    found = [line for line in lines if line.startswith(mark)]
    assert set(found) == {line.format(logs=tmp_path / "logs") for line in DIRECTIVES[launcher]}
    prologue = [lines.index(text) for text in SAME["compute.job_script_prologue"]]
    assert prologue == sorted(prologue)
    assert max(prologue) < lines.index(worker_command("\n".join(lines)))


@pytest.mark.parametrize("launcher", BATCH_LAUNCHERS)
def test_job_script__starts_workers_that_share_the_job(launcher, tmp_path):
    command = worker_command(job_script(settings(launcher, tmp_path)))
    assert "/opt/python -m distributed.cli.dask_worker tls://SCHEDULER:PORT" in command
    words = command.split()
    for name, value in {
        "--nworkers": "4",
        "--nthreads": "1",
        "--memory-limit": f"{6 * 2**30 * 95 // 100 // 4}B",
        "--local-directory": "/scratch",
        "--death-timeout": "60",
    }.items():
        assert words[words.index(name) + 1].strip("'\"") == value, name
    assert "--no-dashboard" in words


def test_job_script__htcondor_has_keys_instead_of_lines(tmp_path):
    script = job_script(
        settings("htcondor", tmp_path, job_extra_directives=["+ProjectName = Imaging"])
    )
    assert "MY.DaskWorkerCores = 4" in script
    assert f"MY.DaskWorkerMemory = {6 * 2**30}" in script
    assert f"MY.DaskWorkerDisk = {2**30}" in script
    assert "+ProjectName = Imaging" in script
    assert "module load python; ulimit -c 0; /opt/python" in script


@pytest.mark.parametrize("launcher", BATCH_LAUNCHERS)
def test_job_script__holds_no_secret_does_not_spill_and_is_patient(launcher, tmp_path):
    script = job_script(settings(launcher, tmp_path))
    assert "PRIVATE KEY" not in script
    assert "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False" in script
    # Patient with a scheduler that hundreds of workers reach for at once.
    for kind in ("CONNECT", "TCP"):
        assert f"export DASK_DISTRIBUTED__COMM__TIMEOUTS__{kind}=60s" in script


def test_job_script__resources_and_units_of_their_own(tmp_path):
    script = job_script(settings("pbs", tmp_path, resource_spec="select=1:ncpus=2:mem=1GB"))
    assert "#PBS -l select=1:ncpus=2:mem=1GB" in script
    assert "ncpus=4" not in script
    assert "#$ -l h_vmem=4G" in job_script(settings("sge", tmp_path, resource_spec="h_vmem=4G"))
    assert "#BSUB -M 6442451" in job_script(settings("lsf", tmp_path, lsf_units="kb"))
    skipped = job_script(settings("slurm", tmp_path, job_directives_skip=["--mem"]))
    assert "--mem=" not in skipped


def lifetime(text):
    return [float(x) for x in re.findall(r"--lifetime(?:-stagger)? (\d+)s", text)]


@pytest.mark.parametrize("walltime", ["00:01:00", "00:10:00", "02:00:00", "3-00:00:00"])
def test_lifetime__ends_before_the_walltime_and_not_all_at_once(walltime, tmp_path):
    given = settings("slurm", tmp_path, walltime=walltime)
    seconds = {"00:01:00": 60, "00:10:00": 600, "02:00:00": 7200, "3-00:00:00": 259_200}[walltime]
    life, stagger = lifetime(job_script(given))
    assert life + stagger < seconds
    # distributed draws from life - stagger to life + stagger.
    assert life - stagger > seconds / 2
    assert stagger >= seconds / 10


def test_lifetime__as_it_is_set(tmp_path):
    assert lifetime(job_script(settings("slurm", tmp_path, lifetime="off"))) == []
    assert lifetime(job_script(settings("slurm", tmp_path, lifetime="50 minutes"))) == [3000, 600]
    assert lifetime(job_script(settings("slurm", tmp_path, walltime=None))) == []


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("walltime", "tomorrow", "must be a time such as 02:00:00"),
        ("lifetime", "never", "must be auto, off or a time such as 50 minutes"),
        ("tls", "maybe", "'auto', 'on' or 'off'"),
        ("job_name", "two words", "compute.job_name"),
        ("cores", 0, "compute.cores"),
    ],
)
def test_settings__say_what_they_may_be(key, value, match, tmp_path):
    with pytest.raises(ConfigError, match=match):
        settings("slurm", tmp_path, **{key: value})


def test_settings__walltime_that_yaml_reads_as_a_number():
    assert yaml.safe_load("1:30:00") == 5400
    config = load_config(None, {"compute.walltime": 5400}, environment={}).config
    assert config.compute.walltime == "01:30:00"


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_site_file__loads_and_explains_every_key(path):
    section = yaml.safe_load(path.read_text())["compute"]
    config = load_config(None, (), compute=str(path), environment={}).config
    assert config.compute.launcher == section["launcher"]
    lines = path.read_text().splitlines()
    for key in section:
        (line,) = [line for line in lines if line.startswith(f"  {key}:")]
        assert len(line.partition("  # ")[2]) > 10, key


def test_site_files__are_there_for_every_launcher():
    launchers = {yaml.safe_load(path.read_text())["compute"]["launcher"] for path in SITES}
    assert launchers == set(get_args(Launcher))


@pytest.mark.parametrize("launcher", ["kubernetes", "gateway"])
def test_removed_launcher__is_answered_by_what_to_do(launcher, run_cli, tmp_path):
    site = tmp_path / "site.yaml"
    for section in ("{launcher: NAME}", "{namespace: dask, launcher: NAME}", "{image: a/b}"):
        site.write_text(f"compute: {section}".replace("NAME", launcher))
        for words in (("--compute", site), ("--config", site)):
            status, _, err = run_cli("config", *words)
            assert status == 2
            assert re.fullmatch(r"error: [^\n]+ --compute tcp://HOST:PORT [^\n]+\n", err)
    status, _, err = run_cli("config", "--compute", launcher)
    assert status == 2
    assert f"got `compute.launcher` '{launcher}' (from --compute {launcher})" in err


def test_import_jobqueue__leaves_ctrl_c_alone():
    program = (
        "import signal\n"
        "from workflow.compute.scripts import import_jobqueue\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "import_jobqueue()\n"
        "assert signal.getsignal(signal.SIGINT) is before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)
