"""What stands beside figures: the machine, as the system and the libraries describe it."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from benchmarks import machine
from benchmarks.machine import disk_rates, measure_machine, processor_instructions, product_rate


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    found = measure_machine(folder, is_rough=True)
    assert list(folder.iterdir()) == []
    return found


def test_machine__has_positive_rates_and_the_cores_of_the_system(measured):
    assert measured.n_cores == os.cpu_count()
    rates = (measured.product_1_gflops, measured.product_all_gflops, measured.write_mbps, measured.read_mbps)  # fmt: skip
    assert min(rates) > 0


def test_table__has_a_line_for_each_property(measured):
    lines = measured.table.splitlines()
    names = [line.split("|")[1].strip() for line in lines]
    assert names[0] == "machine"
    assert names[2:] == ["processor", "instructions", "compiled for", "float32 product", "disk", "software"]  # fmt: skip
    assert f"{measured.processor}, {measured.n_cores} cores" in lines[2]
    (kernel,) = {i["architecture"] for i in threadpool_info() if "numpy" in i["filepath"]}
    assert f"kernel {kernel}" in lines[5]
    assert f"numpy {np.__version__}" in lines[7]


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"AVX2": True, "AVX-512": True, "VNNI": True}, "AVX2, AVX-512, VNNI"),
        ({"AVX2": True, "AVX-512": False, "VNNI": False}, "AVX2; without AVX-512, VNNI"),
        ({"AVX2": False, "AVX-512": False, "VNNI": False}, "none of AVX2, AVX-512, VNNI"),
        ({}, "not recorded"),
    ],
)
def test_table__says_which_instructions_there_are(measured, has, expected):
    line = replace(measured, instructions=has).table.splitlines()[3]
    assert line.split("|")[2].strip() == expected


def test_instructions__are_those_that_numpy_sees():
    found = processor_instructions()
    if not found:
        pytest.skip("this system has no /proc/cpuinfo with flags")
    seen = set(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
    if seen & {"AVX2", "X86_V3", "AVX512F", "X86_V4"}:
        assert found["AVX2"]
    assert found["AVX-512"] == bool(seen & {"AVX512F", "X86_V4", "AVX512_SKX"})


def test_product_rate__counts_two_operations_for_each_pair():
    started = time.perf_counter()
    rate = product_rate(1, 512)
    seconds = time.perf_counter() - started
    # One product for warmth and three that are timed cannot be faster than their median says.
    assert rate > 2 * 512**3 / seconds / 1e9


def test_product_rate__leaves_the_number_of_threads_as_it_was():
    before = [info["num_threads"] for info in threadpool_info()]
    product_rate(1, 64)
    assert [info["num_threads"] for info in threadpool_info()] == before


def test_disk_rates__remove_their_file_when_the_disk_is_full(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        disk_rates(tmp_path, 1 << 16)
    assert list(tmp_path.iterdir()) == []
