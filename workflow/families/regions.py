"""Communities of more images than one task holds: region by region, twice, with other borders.

Every image is in one region.  A region is solved as a part of the whole graph: ties that lead out of
it stay cut, and count as exits.  A community on a border is cut in two.  The second time regions have
other borders and hold whole communities, so that those halves meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.families._graph_kernels import places_of, symmetric_graph, weight_inside
from workflow.families._map_kernels import exits_of, in_order
from workflow.families.ambient import touching_dimension
from workflow.families.find import central, conductances
from workflow.families.map_equation import Surroundings, moved_communities
from workflow.neighbors import Regions, build_regions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Ways of cutting: each is one round.
N_CUTS = 2
#: Patches of a region: images are worked through patch by patch, so that what is near is in the cache.
N_PATCHES = 64


@dataclass(frozen=True, slots=True)
class Cuts:
    """Two ways to cut the space of the scores into patches and regions, with borders at an angle.

    Consecutive patches make a region.

    Attributes
    ----------
    cuts : tuple of Regions
        The second one cuts scores that are turned.
    """

    cuts: tuple[Regions, ...]

    @classmethod
    def of(cls, sample: NDArray[Any], n_regions: int) -> Cuts:
        """Return cuts into patches of about as many images each.

        Parameters
        ----------
        sample : float array of shape (n_rows, n_features)
            Scores of some of the images [score].
        n_regions : int
            Regions wanted, a power of two, at most 65,536.

        Returns
        -------
        Cuts
            Nothing is drawn.
        """
        n_patches = n_regions * patches_per_region(n_regions)
        return cls((build_regions(sample, n_patches), build_regions(turned(sample), n_patches)))

    def route(self, rows: NDArray[Any]) -> list[NDArray[np.int32]]:
        """Return the patches of images.

        Parameters
        ----------
        rows : float array of shape (n_rows, n_features)
            Scores [score].

        Returns
        -------
        list of int32 array of shape (n_rows,)
            Patch of each by each cut.
        """
        seen = (rows, turned(rows))
        return [cut.route(cut.scaled(of_cut)) for cut, of_cut in zip(self.cuts, seen, strict=True)]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {
            f"{name}_{number}": array
            for number, cut in enumerate(self.cuts)
            for name, array in cut.to_arrays().items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Cuts:
        """Return the cuts whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave.

        Returns
        -------
        Cuts
            The same cuts.
        """
        return cls(
            tuple(
                Regions.from_arrays(
                    {
                        name.removesuffix(f"_{number}"): array
                        for name, array in arrays.items()
                        if name.endswith(f"_{number}")
                    }
                )
                for number in range(N_CUTS)
            )
        )


def patches_per_region(n_regions: int) -> int:
    """Return how many patches a region has.

    Parameters
    ----------
    n_regions : int
        Regions, a power of two.

    Returns
    -------
    int
        So many that 16 bits number all patches.
    """
    return max(1, min(N_PATCHES, 2**16 // n_regions))


def turned(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows turned by an eighth of a circle in the plane of each two features, and made longer.

    Parameters
    ----------
    rows : float array of shape (n_rows, n_features)
        Scores [score].

    Returns
    -------
    float32 array of shape (n_rows, n_features)
        A last feature without another stays as it is.
    """
    found = rows.astype(np.float32)
    n_paired = found.shape[1] // 2 * 2
    one, other = found[:, :n_paired:2].copy(), found[:, 1:n_paired:2].copy()
    found[:, :n_paired:2], found[:, 1:n_paired:2] = one + other, one - other
    return found


def dealt(sizes: NDArray[np.int64], wanted: int) -> tuple[NDArray[np.int64], int]:
    """Deal regions that came out too large out to several, as copies of one image may make them.

    Parameters
    ----------
    sizes : int64 array of shape (n_units, n_regions) [images]
        Images of each unit, which are consecutive ones, in each region.
    wanted : int
        Images that a region should have; it has twice as many at most, or those of one unit.

    Returns
    -------
    number : int64 array of shape (n_units, n_regions)
        The region that the images of a unit come to.
    n_regions : int
        How many there are then.
    """
    total = sizes.sum(axis=0)
    parts = np.where(total > 2 * wanted, -(-total // wanted), 1)
    before = np.cumsum(sizes, axis=0) - sizes
    part = before * parts // np.maximum(total, 1)
    return np.cumsum(parts) - parts + part, int(parts.sum())


class Lists(NamedTuple):
    """The lists of neighbours of the images of a region.

    Attributes
    ----------
    image : int array of shape (n_images,)
        Their numbers, rising.
    neighbors : int array of shape (n_images, n_neighbors)
        Neighbours of each; -1 where missing.
    weight : float32 array of shape (n_images, n_neighbors)
        Weights that these give.
    strength : float64 array of shape (n_images,)
        Weight of all edges of each image, those that only others list too.
    first : int array of shape (n_images,)
        First image of the community of each, which is whole in the region.
    patch : int array of shape (n_images,)
        Patch of each: the order in which images are worked through.
    """

    image: NDArray[Any]
    neighbors: NDArray[Any]
    weight: NDArray[np.float32]
    strength: NDArray[np.float64]
    first: NDArray[Any]
    patch: NDArray[Any]


class Solved(NamedTuple):
    """The communities of a region.

    Attributes
    ----------
    community : int64 array of shape (n_images,)
        Community of each image, in the order of their first images.
    inside : float64 array of shape (n_images,)
        Weight of the edges of an image to its own community.
    exits : float
        Weight that leaves all of them.
    graph : Graph
        The graph of the region.
    order : int64 array of shape (n_images,)
        The images in the order of its nodes.
    """

    community: NDArray[np.int64]
    inside: NDArray[np.float64]
    exits: float
    graph: Graph
    order: NDArray[np.int64]

    def first(self) -> NDArray[np.int64]:
        """Return where the first image of each community stands."""
        highest = np.maximum.accumulate(self.community)
        return np.flatnonzero(np.diff(highest, prepend=-1))

    def touching(self) -> NDArray[np.float64]:
        """Return the dimension around each community, from the others of the region that it touches."""
        return touching_dimension(self.graph, self.community[self.order])


def solve_region(lists: Lists, all_exits: float, *, is_first: bool = False) -> Solved:
    """Find the communities of a region as a part of the whole graph.

    Parameters
    ----------
    lists : Lists
        Of its images.
    all_exits : float
        Weight that leaves all communities of all images, as they are now.
    is_first : bool
        Whether each image is alone as yet, and another round follows.

    Returns
    -------
    Solved
        After one round of moves of images and communities.
    """
    order = np.argsort(lists.patch, kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    place = places_of(lists.image, rank, lists.neighbors[order])
    graph = symmetric_graph(place, lists.weight[order])
    del place
    strength = lists.strength[order]
    first = lists.first[order, None]
    start = places_of(lists.image, rank, first)[:, 0].astype(np.int64)
    exits = float(exits_of(graph, strength, start).sum())
    around = Surroundings(strength, start, exits / all_exits if exits else 1.0)
    community = moved_communities(graph, around, is_first=is_first)
    inside = weight_inside(graph, community)
    left = float((strength - inside).sum())
    return Solved(in_order(community[rank]), inside[rank], left, graph, order)


class Table(NamedTuple):
    """What is known of communities.

    Attributes
    ----------
    first : int array of shape (n_communities,)
        First image of each.
    size, left : int64 arrays of shape (n_communities,) [images]
        Their images, and those that are no lone ones.
    conductance : float64 array of shape (n_communities,)
        Weight that leaves each over the weight of its images; 1 without edges.
    touching : float64 array of shape (n_communities,)
        Dimension around each, from how many others it touches; infinite where unknown.
    exemplars : int array of shape (n_communities, 5)
        Most central images that are no lone ones; -1 where fewer.
    """

    first: NDArray[Any]
    size: NDArray[np.int64]
    left: NDArray[np.int64]
    conductance: NDArray[np.float64]
    touching: NDArray[np.float64]
    exemplars: NDArray[Any]

    @classmethod
    def of(cls, lists: Lists, solved: Solved, is_alone: NDArray[np.bool_]) -> Table:
        """Return what is known of the communities of a region.

        Parameters
        ----------
        lists : Lists
            Of its images.
        solved : Solved
            What `solve_region` has found.
        is_alone : bool array of shape (n_images,)
            Which of them are lone images.

        Returns
        -------
        Table
            In the order of their first images.
        """
        community = solved.community
        size, conductance = conductances(community, solved.inside, lists.strength)
        member = np.where(is_alone, -1, community)
        place = central(member, solved.inside, len(size))
        return cls(
            lists.image[solved.first()],
            size,
            np.bincount(community[~is_alone], minlength=len(size)),
            conductance,
            solved.touching(),
            np.where(place >= 0, lists.image[place], -1),
        )
