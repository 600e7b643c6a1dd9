"""What every method to build the tree is and does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from workflow.tree.layers import Cut
    from workflow.tree.linkage import Linkage
    from workflow.tree.problem import Problem


class Method(Protocol):
    """A way to build the tree: one class, listed in `workflow.tree.methods`.

    Attributes
    ----------
    name : str
        Word in the settings and in stored trees.
    title : str
        What the report calls it.
    joins_by : {"flow", "length"}
        What of an edge says how early its ends are joined: how many images
        flow along it, or how short it is.  Noise is given to clusters in the
        same order.
    reads : {"flows", "edges", "positions"}
        What of the centroid graph it uses: the flows; the edges and their
        lengths; nothing but the positions of the centroids.
    noise : str
        What its noise is, as a noun phrase.
    has_threshold : bool
        Whether the threshold of the contrast test decides its clusters.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    joins_by: ClassVar[Literal["flow", "length"]]
    reads: ClassVar[Literal["flows", "edges", "positions"]]
    noise: ClassVar[str]
    has_threshold: ClassVar[bool] = False

    def can_build(self, problem: Problem) -> bool:
        """Return whether the number of clusters it finds says something, and costs little."""
        return True

    def build(self, problem: Problem) -> Linkage:
        """Link the nodes.

        Parameters
        ----------
        problem : Problem
            Checked input and what is derived from it.

        Returns
        -------
        Linkage
            Hierarchy of the nodes, sizes in images.
        """
        ...

    def cut(self, problem: Problem) -> Cut:
        """Return where its linkage is cut.

        Parameters
        ----------
        problem : Problem
            Checked input.

        Returns
        -------
        Cut
            The default cut.
        """
        ...
