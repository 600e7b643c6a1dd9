"""What a task frees is there for its next array, and goes back to the system at the end."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workflow.engine.executor import Executor
from workflow.engine.progress import Progress

pytestmark = pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="only glibc is told when to give memory back",
)

#: Prints the page faults of eight arrays of 3 MiB, made and dropped: outside, inside, in another
#: thread while still inside, inside again after an error, and outside again; then what is resident.
PROGRAM = """
import contextlib, resource, threading
import numpy as np
from workflow.engine.freed_memory import freed_memory_kept

def faults():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8):
            np.ones(3 * 2**20, np.uint8)
        found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(found)

def resident():
    status = open("/proc/self/status").read()
    print(int(status.split("VmRSS:")[1].split()[0]) * 1024)

resident()
faults()
with freed_memory_kept():
    faults()
    with contextlib.suppress(KeyError), freed_memory_kept():
        raise KeyError
    faults()
    thread = threading.Thread(target=faults)
    thread.start()
    thread.join()
faults()
with freed_memory_kept():
    # Freed below what stays: no heap gives that back by itself.
    parts = [np.ones(2**20, np.uint8) for _ in range(60)]
    kept = np.ones(2**16, np.uint8)
    del parts
resident()
"""


def faults_of(**environment):
    """Run the program; return page faults, and resident bytes before and after."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    before, *faults, after = map(int, found.stdout.split())
    return faults, before, after


def test_freed_memory_kept__within_tasks_and_no_longer():
    (before, inside, still, in_thread, after), resident, at_the_end = faults_of(
        MALLOC_TRIM_THRESHOLD_="65536"
    )
    pages = 8 * 3 * 2**20 // resource.getpagesize()
    # Huge pages would make them fewer, but not within what the heap keeps.
    assert before > 20
    assert max(inside, still, in_thread) < before / 10
    assert before / 2 < after <= pages + 100
    assert at_the_end - resident < 30 * 2**20


def test_freed_memory_kept__elsewhere_the_allocator_is_left_alone():
    program = (
        "from workflow.engine import freed_memory as f\n"
        "with f.freed_memory_kept(): print(f._libc())"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=clean
    )
    assert found.stdout.strip() == "None"


def arrays_and_faults(_):
    """Count the page faults of arrays, larger than what is free by chance, made and dropped in a task."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(3):
            np.ones(30 * 2**20, np.uint8)
        found = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    return found


def test_executor__tasks_of_workers_take_what_they_freed(client, tmp_path):
    outside = client.submit(arrays_and_faults, 0, pure=False).result()
    executor = Executor(client, Progress(enabled=False), Path(tmp_path))
    assert max(executor.map(arrays_and_faults, [0, 1, 2])) <= outside / 10
