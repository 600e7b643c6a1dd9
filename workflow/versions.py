"""Versions of this package, of what it stands on, and of the machine."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

#: Packages whose versions can change a bit of a result.
RECORDED_PACKAGES = (
    "overcluster",
    "numpy",
    "scipy",
    "scikit-learn",
    "hdbscan",
    "dask",
    "distributed",
    "dask-ml",
    "zarr",
    "xarray",
)


def version_of(package: str) -> str:
    """Return the installed version of a package, or ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def software_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    here = {"python": platform.python_version(), "machine": platform.machine()}
    return here | {name: version_of(name) for name in RECORDED_PACKAGES}


def show_versions() -> None:
    """Print versions of Python, the system and all packages that this one needs: for a report of a defect."""
    needed = [
        re.split(r"[\[<>=;]", line)[0].strip()
        for line in (requires("overcluster") or [])
        if "extra ==" not in line
    ]
    rows = {
        **software_versions(),
        "system": platform.platform(),
        "cores": str(os.cpu_count()),
        **{name: version_of(name) for name in sorted(needed)},
    }
    for name, value in rows.items():
        print(f"{name:>15}: {value}")  # noqa: T201


def __getattr__(name: str) -> str:
    """Look the package's own version up when it is asked for."""
    if name == "__version__":
        return version_of("overcluster")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
