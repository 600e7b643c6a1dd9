"""Communities found region by region against those of the whole graph."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.families.conftest import neighbors_of, sources
from workflow.families import neighbor_graph
from workflow.families.find import central, conductances, measure
from workflow.families.map_equation import (
    Surroundings,
    code_length,
    map_communities,
    moved_communities,
)
from workflow.families.neighbor_graph import add_weights, edge_weights, local_scales
from workflow.families.regions import (
    N_CUTS,
    Cuts,
    Lists,
    Table,
    dealt,
    patches_per_region,
    solve_region,
)


@pytest.fixture(scope="module")
def cloud():
    """Sources in a smooth cloud, and their nearest neighbours."""
    rows, source = sources(n_sources=100, n_single=3000)
    return rows, source, *neighbors_of(rows)


def lists_of(index, distance, rows=None):
    """Return the lists of some images, each a community of its own."""
    rows = np.arange(len(index)) if rows is None else rows
    scale, strength = local_scales(distance), np.zeros(len(index))
    weight = edge_weights(index, distance, scale, scale)
    add_weights(index, weight, 0, 0, strength)
    return Lists(rows, index[rows], weight[rows], strength[rows], rows, rows % 7)


def in_regions(rows, index, distance, n_regions):
    """Return the communities after both cuts, by their first image, and the code length after each."""
    whole = lists_of(index, distance)
    n_patches = patches_per_region(n_regions)
    routed = [patch // n_patches for patch in Cuts.of(rows, n_regions).route(rows)]
    graph = neighbor_graph(index, distance)
    first, exits, lengths = np.arange(len(rows)), whole.strength.sum(), []
    for cut, region in enumerate(routed):
        found, left = np.empty_like(first), 0.0
        for number in np.unique(region):
            members = np.flatnonzero(region[first] == number)
            lists = lists_of(index, distance, members)._replace(first=first[members])
            solved = solve_region(lists, exits, is_first=cut == 0)
            found[members] = members[solved.first()[solved.community]]
            left += solved.exits
        first, exits = found, left
        lengths.append(code_length(graph, np.unique(first, return_inverse=True)[1]))
    return first, exits, lengths


def test_cuts__lead_every_row_to_a_region_of_about_as_many(cloud):
    rows = cloud[0]
    cuts, n_patches = Cuts.of(rows, 4), patches_per_region(4)
    patches = cuts.route(rows)
    routed = [patch // n_patches for patch in patches]
    assert len(routed) == N_CUTS
    for region in routed:
        assert np.bincount(region, minlength=4).min() > 0.8 * len(rows) / 4
        assert region.max() == 3
    assert not np.array_equal(*routed)
    again = Cuts.from_arrays(cuts.to_arrays()).route(rows)
    assert all(map(np.array_equal, patches, again))


def test_dealt__large_regions_become_several_in_the_order_of_the_images():
    sizes = np.array([[10, 100], [10, 100], [10, 100], [10, 100]])
    number, n_regions = dealt(sizes, 100)
    assert n_regions == 5
    assert number.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4]]
    number, n_regions = dealt(sizes[:, :1], 20)
    assert n_regions == 1
    assert not number.any()


def test_add_weights__are_the_weights_of_the_graph_wherever_lists_and_sums_are_cut(cloud):
    _, _, index, distance = cloud
    scale, n = local_scales(distance), len(index)
    found = np.zeros(n)
    for first, stop in ((0, 1000), (1000, n)):
        for start in range(0, n, 700):
            rows = slice(start, start + 700)
            weight = edge_weights(index[rows], distance[rows], scale[rows], scale)
            add_weights(index[rows], weight, start, first, found[first:stop])
    assert np.array_equal(found, neighbor_graph(index, distance).weight_sums())


def test_map_communities__of_a_part_shorten_the_code_of_the_whole(cloud):
    rows, _, index, distance = cloud
    graph = neighbor_graph(index, distance)
    alone = code_length(graph, np.arange(len(rows)))
    _, exits, lengths = in_regions(rows, index, distance, 8)
    assert lengths[0] < 0.9 * alone
    assert lengths[1] < lengths[0]
    shortest = code_length(graph, map_communities(graph))
    assert lengths[1] < 1.05 * shortest
    assert 0 < exits < graph.weights.sum()


def test_map_communities__one_part_with_nothing_around_is_the_whole(cloud):
    _, _, index, distance = cloud
    graph = neighbor_graph(index, distance)
    around = Surroundings(graph.weight_sums(), map_communities(graph), 1.0)
    # Where no move of the whole is worth its while, none of the part is.
    again = moved_communities(graph, around)
    assert adjusted_rand_score(again, around.module) > 0.999


def test_solve_region__sources_are_those_of_the_whole(cloud):
    rows, source, index, distance = cloud
    whole = map_communities(neighbor_graph(index, distance))
    first, _, _ = in_regions(rows, index, distance, 8)
    real = source >= 0
    assert adjusted_rand_score(whole[real], first[real]) > 0.97
    assert adjusted_rand_score(source[real], first[real]) > 0.97


def test_table__says_of_communities_what_the_whole_graph_does(cloud):
    _, _, index, distance = cloud
    lists = lists_of(index, distance)
    solved = solve_region(lists, lists.strength.sum())
    size, conductance, inside, total = measure(neighbor_graph(index, distance), solved.community)
    assert np.array_equal(solved.inside, inside)
    assert np.array_equal(lists.strength, total)
    is_alone = np.arange(len(index)) % 5 == 0
    table = Table.of(lists, solved, is_alone)
    assert np.array_equal(table.size, size)
    assert np.array_equal(table.conductance, conductance)
    assert np.array_equal(table.conductance, conductances(solved.community, inside, total)[1])
    assert np.array_equal(table.left, np.bincount(solved.community[~is_alone], minlength=len(size)))
    assert np.array_equal(solved.community[table.first], np.arange(len(size)))
    member = np.where(is_alone, -1, solved.community)
    assert np.array_equal(table.exemplars, central(member, inside, len(size)))


def test_solve_region__without_images_or_ties():
    none = np.zeros(0, np.int64)
    empty = Lists(
        none, np.zeros((0, 15), np.int32), np.zeros((0, 15), np.float32), none * 0.0, none, none
    )
    assert len(solve_region(empty, 1.0).community) == 0
    lone = Lists(
        np.arange(3),
        np.full((3, 15), -1, np.int32),
        np.zeros((3, 15), np.float32),
        np.zeros(3),
        np.arange(3),
        np.zeros(3, np.uint16),
    )
    solved = solve_region(lone, 0.0)
    assert solved.community.tolist() == [0, 1, 2]
    assert Table.of(lone, solved, np.zeros(3, bool)).conductance.tolist() == [1, 1, 1]
