"""Threads give what a loop gives, in its order, and the error of the first item that fails."""

from __future__ import annotations

import threading
import time

import pytest

from workflow import threads


@pytest.mark.parametrize(
    ("n_processors", "n_expected"), [(1, 1), (2, 2), (64, threads.MAX_THREADS)]
)
def test_in_threads__as_many_as_there_are_processors(monkeypatch, n_processors, n_expected):
    monkeypatch.setattr(threads, "n_processors", lambda: n_processors)
    seen, lock, most = set(), threading.Lock(), []

    def square(item):
        with lock:
            seen.add(threading.get_ident())
            most.append(item)
        time.sleep(0.01 * (item % 3))
        return item * item

    assert threads.in_threads(square, range(40)) == [item * item for item in range(40)]
    assert sorted(most) == list(range(40))
    assert len(seen) == n_expected
    assert (threading.get_ident() in seen) == (n_expected == 1)


@pytest.mark.parametrize("n_processors", [1, 3])
def test_in_threads__raises_the_error_of_the_first_item_that_fails(monkeypatch, n_processors):
    monkeypatch.setattr(threads, "n_processors", lambda: n_processors)

    def fail(item):
        if item in (2, 5):
            raise LookupError(item)
        return item

    with pytest.raises(LookupError, match="2"):
        threads.in_threads(fail, range(8))
    assert threads.in_threads(fail, []) == []
