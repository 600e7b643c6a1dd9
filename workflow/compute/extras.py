"""Packages that only some sites need."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from workflow.errors import ComputeError

if TYPE_CHECKING:
    from types import ModuleType


def import_extra(name: str, what: str, extra: str) -> ModuleType:
    """Import a module of a package that is there only with one of our extras.

    Parameters
    ----------
    name : str
        The module.
    what : str
        What is reached through its package, for the message.
    extra : str
        The extra that installs the package.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ComputeError
        If the package is not installed.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        if str(err.name).partition(".")[0] != package:
            raise
        known_as = package.replace("_", "-")
        msg = f"{what} must be reached through {known_as}, which is not installed. Install overcluster[{extra}]."
        raise ComputeError(msg) from None
