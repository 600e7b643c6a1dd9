"""What the user's own configuration of Dask changes: named where workers do not start, or die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.config

from workflow.config.load import as_yaml, flatten

#: What may keep workers from starting, or end them.
CRITICAL = (
    "distributed.comm.",
    "distributed.nanny.",
    "distributed.scheduler.",
    "distributed.worker.",
    "temporary-directory",
)
#: Most settings that a message names.
MAX_NAMED = 3


def describe_dask_settings() -> str:
    """Return what files and variables change of Dask's defaults that may harm workers.

    Returns
    -------
    str
        A sentence for the end of an error, with a blank before it; empty
        where nothing is changed.
    """
    default = _by_hyphens(dask.config.merge(*dask.config.defaults))
    changed = [
        f"{key}={as_yaml(value)}"
        for key, value in _by_hyphens(dask.config.collect()).items()
        if key.startswith(CRITICAL) and default.get(key) != value
    ]
    if not changed:
        return ""
    named = ", ".join(changed[:MAX_NAMED]) + (" and others" if len(changed) > MAX_NAMED else "")
    return f" Dask's configuration ({dask_places()}) sets {named}: try without that first."


def dask_places() -> str:
    """Return where Dask's configuration comes from here: its folders that exist, and variables."""
    folders = [path for path in dask.config.paths if Path(path).exists()]
    return ", ".join([*folders, "variables DASK_..."])


def _by_hyphens(settings: dict[str, Any]) -> dict[str, Any]:
    """Return Dask's settings by dotted key; to Dask a hyphen and an underscore are the same."""
    return {key.replace("_", "-"): value for key, value in flatten(settings).items()}
