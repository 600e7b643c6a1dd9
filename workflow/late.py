"""Public names whose modules are imported when they are first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def late_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package some of whose names are imported late.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    homes : mapping of str to str
        Public name -> module that it stands in.

    Returns
    -------
    callable
        Looks a name up; raises `AttributeError` for others.

    Notes
    -----
    Every worker imports the rooms whose functions it runs.  Estimators bring
    scikit-learn, and its statistics, along: a second of every process that a
    task never needs.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(importlib.import_module(homes[name]), name)

    return attribute
