"""Encryption of all that leaves this machine, with the site's certificate or a temporary one."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.security import Security

from workflow.errors import ComputeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import ComputeSettings

#: Files of a certificate, as Dask calls them.
ROLE_FILES = ("ca_file", "cert", "key")


def security_of(settings: ComputeSettings) -> Security | None:
    """Return the certificate that the settings ask for, None where nothing is encrypted.

    Raises
    ------
    ConfigError
        If one of the three files of a certificate is missing.
    ComputeError
        If a temporary certificate cannot be made.
    """
    if settings.tls == "off" or (settings.tls == "auto" and settings.launcher == "local"):
        return None
    files = {name: getattr(settings, f"tls_{name}") for name in ROLE_FILES}
    if any(files.values()):
        return _security_of_files(files)
    try:
        security: Security = Security.temporary()
    except ImportError:
        msg = "encryption must have a certificate; a temporary one cannot be made without the package cryptography. Install overcluster[hpc], or set compute.tls_ca_file, compute.tls_cert and compute.tls_key."
        raise ComputeError(msg) from None
    return security


def _security_of_files(files: dict[str, str | None]) -> Security:
    """Return the site's certificate, for every role."""
    for name, path in files.items():
        if path is None:
            msg = f"a certificate must be given whole; `compute.tls_{name}` is not set. Set compute.tls_ca_file, compute.tls_cert and compute.tls_key."
            raise ConfigError(msg)
        if not Path(path).is_file():
            msg = f"`compute.tls_{name}` must be a readable file; {path} is not. Check the path."
            raise ConfigError(msg)
    roles = {
        f"tls_{role}_{name}": files[name]
        for role in ("scheduler", "worker", "client")
        for name in ("cert", "key")
    }
    return Security(tls_ca_file=files["ca_file"], require_encryption=True, **roles)


@contextlib.contextmanager
def key_folder(log_directory: Path) -> Iterator[Path]:
    """Make a folder that only its owner can read; removed at the end."""
    try:
        log_directory.mkdir(parents=True, exist_ok=True)
        # mkdtemp makes it with mode 0700.
        folder = tempfile.TemporaryDirectory(prefix=".keys-", dir=log_directory)
    except OSError as err:
        msg = f"`compute.log_directory` must be a folder that can be written; {log_directory} is not ({err.strerror}). Give another one that workers see, too."
        raise ComputeError(msg) from None
    with folder as name:
        yield Path(name)


def worker_key_files(security: Security, folder: Path) -> dict[str, str]:
    """Return the paths of a worker's certificate; one in memory is written to a private folder.

    The security object then names these files, so that the command lines of
    workers hold paths and no secrets.
    """
    paths = {}
    for name in ROLE_FILES:
        attribute = f"tls_{name}" if name == "ca_file" else f"tls_worker_{name}"
        text = getattr(security, attribute)
        if "\n" in text:
            path = folder / f"{name}.pem"
            path.touch(mode=0o600)
            path.write_text(text)
            setattr(security, attribute, str(path))
        paths[name] = getattr(security, attribute)
    return paths
