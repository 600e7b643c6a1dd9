"""Workers on hosts that are reached by SSH."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.deploy.ssh import Worker

from workflow.compute.scheduler import open_scheduler
from workflow.compute.scripts import DEATH_TIMEOUT_S, import_hpc, log_directory
from workflow.errors import ComputeError, ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import ComputeSettings


@contextlib.contextmanager
def ssh_client(settings: ComputeSettings) -> Iterator[Client]:
    """Start workers on hosts, with the scheduler in this process; stop them at the end."""
    if not settings.hosts:
        msg = "the launcher `ssh` must know its hosts; `compute.hosts` is empty. Set it, such as [node1, node2]."
        raise ConfigError(msg)
    import_hpc("asyncssh", "hosts")
    with contextlib.ExitStack() as stack:
        try:
            cluster, _ = stack.enter_context(
                open_scheduler(settings, log_directory(settings), _workers(settings))
            )
        except (ComputeError, ConfigError):
            raise
        except Exception as err:
            msg = f"every host must be reached by SSH and start a worker; one of {', '.join(settings.hosts)} did not ({one_line(err)}). Try: ssh HOST {settings.python or 'python'} -m distributed.cli.dask_spec --version"
            raise ComputeError(msg) from err
        yield stack.enter_context(Client(cluster, set_as_default=False))


def _workers(settings: ComputeSettings) -> dict[str, Any]:
    """Return what is started on each host; workers are spread evenly."""
    n_hosts = len(settings.hosts)
    n_workers = n_hosts if settings.n_workers == "auto" else settings.n_workers
    connect: dict[str, Any] = {"port": settings.ssh_port}
    if settings.ssh_username is not None:
        connect["username"] = settings.ssh_username
    if settings.ssh_key_file is not None:
        connect["client_keys"] = [settings.ssh_key_file]
    if settings.ssh_known_hosts_file is not None:
        connect["known_hosts"] = settings.ssh_known_hosts_file
    options = {
        "nthreads": settings.threads_per_worker,
        "memory_limit": settings.memory_limit,
        "death_timeout": DEATH_TIMEOUT_S,
        "local_directory": settings.local_directory,
        "interface": settings.interface,
    }
    per_host = [n_workers // n_hosts + (index < n_workers % n_hosts) for index in range(n_hosts)]
    return {
        f"{index}-{host}": {
            "cls": Worker,
            "options": {
                "address": host,
                "connect_options": connect,
                "kwargs": {**options, "n_workers": here},
                "remote_python": settings.python,
            },
        }
        for index, (host, here) in enumerate(zip(settings.hosts, per_host, strict=True))
        if here
    }
