"""The methods to find communities of the graph of the images: the one list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from workflow.errors import ConfigError
from workflow.families.map_equation import quick_communities
from workflow.tree.flows.communities import modularity_communities

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workflow.graph import Graph


class Method(Protocol):
    """A way to find communities of the graph of the images.

    Attributes
    ----------
    name : str
        Word in the settings.
    title : str
        What the report calls it.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def find(self, graph: Graph) -> NDArray[np.int64]:
        """Find communities.

        Parameters
        ----------
        graph : Graph
            The graph of the images: symmetric, weights whole numbers in float64.

        Returns
        -------
        int64 array of shape (n_samples,)
            Community of each image, from 0.
        """
        ...


@dataclass(frozen=True)
class MapEquation(Method):
    """Communities in which a random walk is told shortest; their size follows from the graph."""

    name: ClassVar[str] = "map-equation"
    title: ClassVar[str] = "map equation"

    def find(self, graph: Graph) -> NDArray[np.int64]:
        """Return modules of the two-level map equation."""
        return quick_communities(graph)


@dataclass(frozen=True)
class Modularity(Method):
    """Communities of largest modularity: the larger the resolution, the smaller they are.

    Attributes
    ----------
    resolution : float
        Weight of chance.
    """

    name: ClassVar[str] = "modularity"
    title: ClassVar[str] = "modularity"
    resolution: float = 1.0

    def find(self, graph: Graph) -> NDArray[np.int64]:
        """Return the communities that local moves, refinement and contraction find."""
        return modularity_communities(graph, self.resolution)


def method_of(name: str, resolution: float) -> Method:
    """Return the method with a name.

    Parameters
    ----------
    name : str
        ``"map-equation"`` or ``"modularity"``.
    resolution : float
        Resolution of the modularity.

    Returns
    -------
    Method
        The method.

    Raises
    ------
    ConfigError
        If there is no such method.
    """
    methods = {method.name: method for method in (MapEquation(), Modularity(resolution))}
    if name not in methods:
        msg = f"method must be one of {', '.join(methods)}; got {name!r}. Choose one of them."
        raise ConfigError(msg)
    return methods[name]
