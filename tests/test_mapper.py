"""Mappers give the same results, merged in the same order, whoever computes them."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.errors import ImagesError
from workflow.mapper import SerialMapper, merge_groups, pairwise


def level_by_level(results, merge):
    """Merge neighbours, then neighbours of those; the last one of an odd number waits."""
    while len(results) > 1:
        merged = [merge(*results[i : i + 2]) for i in range(0, len(results) - 1, 2)]
        results = merged + results[len(merged) * 2 :]
    return results[0]


def joined(left, right):
    return f"({left}{right})"


def double(item):
    return str(2 * item)


def refuse(item):
    if item >= 3:
        msg = f"not {item}"
        raise ImagesError(msg)
    return str(item)


@given(st.integers(1, 200))
def test_pairwise__merges_level_by_level(n):
    results = [str(i) for i in range(n)]
    assert pairwise(iter(results), joined) == level_by_level(results, joined)


def test_pairwise__wants_a_result():
    with pytest.raises(ValueError, match="at least one"):
        pairwise([], joined)


def test_pairwise__holds_few_results():
    alive, most = 0, 0

    def results():
        nonlocal alive, most
        for _ in range(1000):
            alive += 1
            most = max(most, alive)
            yield 1

    def merge(left, right):
        nonlocal alive
        alive -= 1
        return left + right

    assert pairwise(results(), merge) == 1000
    assert most <= 1 + np.log2(1000) + 1


@pytest.fixture
def here(tmp_path):
    return Executor(None, Progress(enabled=False), tmp_path / "shared")


@pytest.fixture
def there(client, tmp_path):
    return Executor(client, Progress(enabled=False), tmp_path / "shared")


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_reduce__is_the_same_everywhere(n, here, there):
    expected = level_by_level([double(item) for item in range(n)], joined)
    assert SerialMapper().reduce(double, range(n), joined) == expected
    for executor in (here, there):
        assert executor.reduce(double, range(n), joined) == expected
        assert executor.peak_rss_bytes > 2**20


def test_reduce__raises_the_first_error_of_the_items(here, there):
    logging.getLogger("distributed").setLevel(logging.ERROR)
    for executor in (here, there):
        with pytest.raises(ImagesError, match="not 3"):
            executor.reduce(refuse, range(9), joined)


@given(st.integers(1, 300), st.integers(1, 80))
def test_merge_groups__merge_as_their_items_do(n_items, min_groups):
    items = [str(i) for i in range(n_items)]
    found = merge_groups(items, min_groups)
    assert [item for group in found for item in group] == items
    assert len(found) >= min(min_groups, n_items)
    assert pairwise([pairwise(group, joined) for group in found], joined) == pairwise(items, joined)
