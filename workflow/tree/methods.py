"""The methods to build the tree: the one list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.errors import ConfigError
from workflow.tree.contrast.method import Contrast
from workflow.tree.density.method import Density
from workflow.tree.hdbscan import Hdbscan
from workflow.tree.modularity.method import Modularity

if TYPE_CHECKING:
    from workflow.tree.method import Method

CONTRAST, DENSITY, MODULARITY, HDBSCAN = Contrast(), Density(), Modularity(), Hdbscan()

#: Every method by its name, in the order in which their numbers of clusters are reported.  A further
#: one is a class like these and an entry here.
METHODS: dict[str, Method] = {
    method.name: method for method in (CONTRAST, DENSITY, MODULARITY, HDBSCAN)
}
#: The word for a choice between the methods (`workflow.tree.auto`).
AUTO = "auto"


def method_names() -> tuple[str, ...]:
    """Return the words that `method` may be, in alphabetical order.

    Returns
    -------
    tuple of str
        ``"auto"`` and the names of the methods.
    """
    return tuple(sorted((AUTO, *METHODS)))


def method_of(name: str) -> Method:
    """Return the method with a name.

    Parameters
    ----------
    name : str
        Name of a method; ``"auto"`` is none.

    Returns
    -------
    Method
        The method.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    if name not in METHODS:
        msg = (
            f"method must be one of {', '.join(method_names())}; got {name!r}. Choose one of them."
        )
        raise ConfigError(msg)
    return METHODS[name]
