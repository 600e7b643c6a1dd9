"""The machine that figures are taken on: processor, rate of its float32 product, rate of its disk."""

from __future__ import annotations

import os
import platform
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.pages import markdown
from workflow.pca import product_kernel

#: Packages whose versions belong beside a time.
PACKAGES = ("numpy", "numba", "scipy", "scikit-learn", "hdbscan", "dask", "dask-ml", "zarr")
#: Instructions that matter here -> their flags in /proc/cpuinfo, one of which is enough.
INSTRUCTIONS = {"AVX2": ("avx2",), "AVX-512": ("avx512f",), "VNNI": ("avx512_vnni", "avx_vnni")}
#: Rows and columns of the product; bytes of the file; how often each is timed.
PRODUCT_SIZE, FILE_BYTES, REPEATS = 4_096, 1 << 30, 3
#: The same two for a rough measurement.
ROUGH = 512, 1 << 24
#: Bytes of one write or read.
PART_BYTES = 1 << 24
#: What a page says of figures that were taken before this module was there.
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Machine:
    """What ratios depend on."""

    processor: str
    n_cores: int
    #: Mean number of runnable processes during the minute before.
    load: float
    #: Name of a set of instructions -> whether the processor has it; empty where the system does not say.
    instructions: dict[str, bool]
    #: Processor that numba compiles for; sets of instructions that NumPy has code for and found here.
    compiled_for: str
    numpy_kernels: str
    #: BLAS of NumPy with its version and the kernel that it has chosen.
    blas: str
    #: Rate of a float32 product with one BLAS thread and with one for each core [GFLOP/s].
    product_1_gflops: float
    product_all_gflops: float
    #: Size of the file [bytes]; rates of writing it through to the disk, and of reading it back [MB/s].
    file_bytes: int
    write_mbps: float
    read_mbps: float

    @property
    def rows(self) -> dict[str, str]:
        """The machine in words: property -> value."""
        has = [name for name, there in self.instructions.items() if there]
        lacks = [name for name, there in self.instructions.items() if not there]
        known = ", ".join(has) or f"none of {', '.join(INSTRUCTIONS)}"
        if has and lacks:
            known += f"; without {', '.join(lacks)}"
        return {
            "processor": f"{self.processor}, {self.n_cores} cores, load {self.load:.1f} at the start",
            "instructions": known if self.instructions else NOT_RECORDED,
            "compiled for": f"numba: {self.compiled_for}; NumPy: {self.numpy_kernels}; moments: {product_kernel(np.uint8)}",
            "float32 product": f"{self.product_1_gflops:.0f} GFLOP/s with one thread, {self.product_all_gflops:.0f} GFLOP/s with {self.n_cores} threads; {self.blas}",
            "disk": f"{self.file_bytes / 2**20:,.0f} MiB written and synced at {self.write_mbps:,.0f} MB/s, read back at {self.read_mbps:,.0f} MB/s",
            "software": software(),
        }

    @property
    def table(self) -> str:
        """The machine as a Markdown table."""
        return markdown(("machine", ""), self.rows.items())


def measure_machine(folder: Path, *, is_rough: bool = False) -> Machine:
    """Look at the processor, and time a product and a file in a folder, which leaves nothing there.

    A rough measurement takes a small product and a small file, as for trying a page out.
    """
    load, n_cores = os.getloadavg()[0], os.cpu_count() or 1
    size, file_bytes = ROUGH if is_rough else (PRODUCT_SIZE, FILE_BYTES)
    write_mbps, read_mbps = disk_rates(folder, file_bytes)
    return Machine(
        processor=processor_name(),
        n_cores=n_cores,
        load=load,
        instructions=processor_instructions(),
        compiled_for=numba_target(),
        numpy_kernels=numpy_kernels(),
        blas=blas_kernel(),
        product_1_gflops=product_rate(1, size),
        product_all_gflops=product_rate(n_cores, size),
        file_bytes=file_bytes,
        write_mbps=write_mbps,
        read_mbps=read_mbps,
    )


def software() -> str:
    """Return the versions of Python and of the libraries."""
    libraries = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {libraries}"


def numba_target() -> str:
    """Return the processor that numba compiles for, and by which variable where it is not the one here."""
    told = os.environ.get("NUMBA_CPU_NAME")
    limited = os.environ.get("FAISS_OPT_LEVEL")
    target = f"{told} (by NUMBA_CPU_NAME)" if told else llvmlite.binding.get_host_cpu_name()
    return f"{target}; faiss: {limited} (by FAISS_OPT_LEVEL)" if limited else target


def _cpuinfo(key: str) -> str:
    """Return the first value of a key of /proc/cpuinfo; empty where there is none."""
    place = Path("/proc/cpuinfo")
    lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
    values = [
        value.strip()
        for name, _, value in (line.partition(":") for line in lines)
        if name.strip() == key
    ]
    return next(iter(values), "")


def processor_name() -> str:
    """Return the model of the processor, as far as the system says."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_instructions() -> dict[str, bool]:
    """Return which of the sets of instructions the processor has; empty where the system does not say."""
    flags = set(_cpuinfo("flags").split())
    if not flags:
        return {}
    return {name: any(flag in flags for flag in of) for name, of in INSTRUCTIONS.items()}


def numpy_kernels() -> str:
    """Return the sets of instructions, beyond its baseline, that NumPy has found."""
    found: dict[str, Any] = np.show_config(mode="dicts")["SIMD Extensions"]
    return ", ".join([*found.get("baseline", ()), *found.get("found", ())])


def blas_kernel() -> str:
    """Return NumPy's BLAS, its version and the kernel that it has chosen."""
    # Others, such as that of SciPy, may be loaded too: NumPy's lies beside it.
    loaded = [info for info in threadpool_info() if info["user_api"] == "blas"]
    loaded.sort(key=lambda info: "numpy" not in info["filepath"])
    if not loaded:
        return f"BLAS {NOT_RECORDED}"
    name = f"{loaded[0]['internal_api']} {loaded[0]['version']}"
    forced = " (by OPENBLAS_CORETYPE)" if os.environ.get("OPENBLAS_CORETYPE") else ""
    return f"{name}, kernel {loaded[0].get('architecture', NOT_RECORDED)}{forced}"


def product_rate(n_threads: int, size: int = PRODUCT_SIZE) -> float:
    """Return the rate of a float32 product of two square arrays [GFLOP/s]."""
    rng = np.random.default_rng(0)
    left, right = rng.random((2, size, size), dtype=np.float32)
    target = np.empty((size, size), np.float32)
    with threadpool_limits(n_threads, user_api="blas"):
        np.matmul(left, right, out=target)
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            np.matmul(left, right, out=target)
            seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds) / 1e9


def disk_rates(folder: Path, n_bytes: int = FILE_BYTES) -> tuple[float, float]:
    """Return the rates at which a file is written through to the disk and read back [MB/s].

    The file is random, for a disk may compress. Its pages are dropped before it is
    read; a cache outside of this system's control, as of a virtual disk, may remain.
    """
    part = np.random.default_rng(0).bytes(min(n_bytes, PART_BYTES))
    n_parts = max(1, n_bytes // len(part))
    place = folder / f".rate-{os.getpid()}"
    writing, reading = [], []
    try:
        for _ in range(REPEATS):
            started = time.perf_counter()
            with place.open("wb", buffering=0) as file:
                for _ in range(n_parts):
                    file.write(part)
                os.fsync(file.fileno())
                writing.append(time.perf_counter() - started)
                _drop_pages(file.fileno())
            buffer = bytearray(len(part))
            with place.open("rb", buffering=0) as file:
                started = time.perf_counter()
                while file.readinto(buffer):
                    pass
                reading.append(time.perf_counter() - started)
            place.unlink()
    finally:
        place.unlink(missing_ok=True)
    megabytes = n_parts * len(part) / 1e6
    return megabytes / statistics.median(writing), megabytes / statistics.median(reading)


def _drop_pages(descriptor: int) -> None:
    """Ask the system to forget what it holds of a file in memory, where it can be asked."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
