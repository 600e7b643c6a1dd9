"""One BLAS thread while any thread of the process computes, the old number afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from workflow.pca import block_moments
from workflow.threads import one_blas_thread


def blas_threads():
    """Threads of each BLAS library."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    """A process that would compute with two."""
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_one_blas_thread__the_first_to_leave_restores_nothing():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    with one_blas_thread():
        leave.set()
        thread.join()
        assert blas_threads() == {1}
    assert blas_threads() == {2}


#: Prints the threads of each BLAS library inside, before and after SciPy brings its own, and afterwards.
LATER = """
import numpy
from threadpoolctl import threadpool_info
from workflow.threads import one_blas_thread

def numbers():
    print(*(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"))

with one_blas_thread():
    numbers()
    import scipy.linalg
    with one_blas_thread():
        numbers()
numbers()
"""


def test_one_blas_thread__holds_for_libraries_that_come_later():
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    found = subprocess.run(
        [sys.executable, "-c", LATER], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.splitlines() == ["1", "1 1", "2 2"]


@pytest.mark.usefixtures("two_threads")
def test_one_blas_thread__restored_after_an_error():
    with pytest.raises(ValueError, match="finite"):
        block_moments(np.full((2, 2), np.nan), kind="float")
    assert blas_threads() == {2}


def test_block_moments__bits_do_not_depend_on_the_number_of_threads():
    rows = np.random.default_rng(0).normal(size=(3000, 130))
    found = []
    for limit in (1, 2):
        with threadpool_limits(limit, user_api="blas"):
            found.append(block_moments(rows, kind="float").scatter)
    np.testing.assert_array_equal(*found)
