"""Encryption: on where it is due, with files that only their owner may read; and what sites are refused for."""

import stat
import subprocess
import sys

import pytest
from distributed import Client, LocalCluster
from distributed.security import Security

from workflow.compute import open_client
from workflow.compute.allocation import worker_command_line
from workflow.compute.security import ROLE_FILES, key_folder, security_of, worker_key_files
from workflow.errors import ComputeError, ConfigError
from workflow.steps import load_config


def settings(**values):
    flat = {f"compute.{name}": value for name, value in values.items()}
    return load_config(None, flat, environment={}).config.compute


@pytest.fixture
def certificate(tmp_path):
    """The files of a site's certificate."""
    made = Security.temporary()
    with key_folder(tmp_path / "site") as folder:
        yield {f"tls_{name}": path for name, path in worker_key_files(made, folder).items()}


def test_security_of__is_on_for_all_that_leaves_this_machine():
    assert security_of(settings()) is None
    for launcher in ("slurm", "pbs", "lsf", "sge", "htcondor", "ssh", "allocation"):
        assert security_of(settings(launcher=launcher)).require_encryption, launcher
        assert security_of(settings(launcher=launcher, tls="off")) is None
    assert security_of(settings(tls="on")).require_encryption


def test_worker_key_files__are_the_owners_alone_and_go_away(tmp_path):
    security = security_of(settings(launcher="slurm"))
    with key_folder(tmp_path / "logs") as folder:
        files = worker_key_files(security, folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert set(files) == set(ROLE_FILES)
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "PRIVATE KEY" in (folder / "key.pem").read_text()
        assert all(
            not (value and "\n" in value)
            for value in security.get_tls_config_for_role("worker").values()
        )
    assert not folder.exists()


def test_security_of__a_site_certificate_is_whole(certificate, tmp_path):
    assert security_of(settings(launcher="slurm", **certificate)).tls_ca_file
    for name in certificate:
        part = {key: value for key, value in certificate.items() if key != name}
        with pytest.raises(ConfigError, match=f"`compute.{name}` is not set"):
            security_of(settings(launcher="slurm", **part))
    wrong = certificate | {"tls_key": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match="must be a readable file"):
        security_of(settings(launcher="slurm", **wrong))


def test_local__encrypted_when_asked():
    with open_client(settings(tls="on", n_workers=1, memory_limit="1 GiB")) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert all(w.startswith("tls://") for w in client.scheduler_info()["workers"])
        assert client.submit(sum, [1, 2]).result() == 3


def test_address__encrypted_is_joined_with_its_certificate(certificate):
    site = security_of(settings(launcher="slurm", **certificate))
    with LocalCluster(
        n_workers=1,
        protocol="tls://",
        security=site,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        processes=False,
    ) as cluster:
        address = cluster.scheduler_address
        with open_client(settings(launcher="address", address=address, **certificate)) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        with (
            pytest.raises(ConfigError, match=r"`compute.tls_ca_file` is not set"),
            open_client(settings(launcher="address", address=address)),
        ):
            pass


def test_address__unencrypted_is_refused_when_encryption_is_on(client):
    address = client.scheduler.address
    with (
        pytest.raises(ConfigError, match=r"must have a tls:// address; got tcp://"),
        open_client(settings(launcher="address", address=address, tls="on")),
    ):
        pass
    with Client(address, set_as_default=False) as again:
        assert again.submit(sum, [3, 4]).result() == 7


def test_address__unencrypted_off_this_machine_is_warned_of_in_one_line(caplog):
    # All addresses of this machine, so none of loopback's: the warning goes by what was given.
    with LocalCluster(
        n_workers=1,
        host="tcp://0.0.0.0",
        dashboard_address="127.0.0.1:0",
        processes=False,
    ) as cluster:
        address = cluster.scheduler.listeners[0].contact_address
        address = f"tcp://0.0.0.0:{address.rpartition(':')[2]}"
        with open_client(settings(launcher="address", address=address)) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("workflow")]
        assert line == (
            f"the connection to {address} is not encrypted: anybody on that network may run code "
            "there. Start it with certificates (tls://...), or set compute.tls=off if that is known."
        )
        caplog.clear()
        with open_client(settings(launcher="address", address=address, tls="off")):
            pass
    assert not [r for r in caplog.records if r.name.startswith("workflow")]


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"launcher": "ssh"}, ConfigError, "`compute.hosts` is empty"),
        ({"launcher": "allocation"}, ConfigError, "SLURM_JOB_ID is not set"),
    ],
)
def test_open_client__says_what_a_site_needs(values, error, match, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(error, match=match), open_client(settings(**values)):
        pass


def test_ssh__without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with (
        pytest.raises(ComputeError, match=r"asyncssh, which is not .*Install overcluster\[hpc\]"),
        open_client(settings(launcher="ssh", hosts=["node1"])),
    ):
        pass


def test_slurm__not_installed_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    site = settings(launcher="slurm", log_directory=str(tmp_path / "logs"), interface="lo")
    with pytest.raises(ComputeError, match="sbatch is not installed here"), open_client(site):
        pass


SLURM = {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("environment", "n_workers", "n_bytes"),
    [
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_MEM_PER_NODE": "32000"}, 8, 16_000 / 8),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_CPU": "1500"}, 2, 1500),
        ({"SLURM_MEM_PER_CPU": "1500"}, 1, 1500),
        ({}, 1, None),
    ],
)
def test_worker_command_line__fills_the_tasks(environment, n_workers, n_bytes):
    files = {"ca_file": "/a", "cert": "/b", "key": "/c"}
    given = SLURM | environment
    site = settings(launcher="allocation")
    words = worker_command_line(site, "tls://10.0.0.1:99", files, given)
    assert words[:4] == ["srun", sys.executable, "-m", "distributed.cli.dask_worker"]
    assert words[4] == "tls://10.0.0.1:99"
    value = {name: words[words.index(name) + 1] for name in words if name.startswith("--")}
    assert value["--nworkers"] == str(n_workers)
    assert value["--nthreads"] == "1"
    limit = "auto" if n_bytes is None else str(int(n_bytes * 2**20 * 0.95))
    assert value["--memory-limit"] == limit
    assert (value["--tls-ca-file"], value["--tls-cert"], value["--tls-key"]) == ("/a", "/b", "/c")
    assert "--lifetime" not in words


def test_worker_command_line__is_one_that_dask_takes():
    site = settings(launcher="allocation", worker_extra_args=["--help"])
    words = worker_command_line(site, "tcp://127.0.0.1:1", {}, {})
    done = subprocess.run(words[1:], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
