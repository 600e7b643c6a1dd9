"""Whole runs: against faiss doing three of their steps in memory, and against the reference profile."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

import workflow
from benchmarks.data import MADE, N_COMPONENTS, Data
from benchmarks.measure import Result, alternate
from workflow.ingest import ingest

try:
    import faiss
except ImportError:
    faiss = None

#: Maximum of centroids of a whole run.
MAX_CENTROIDS = 4_096
#: Images of a run that is not timed.
N_WARM = 6_000
#: Seconds that the command may take before and after its steps.
MAX_AROUND_S = 8.0
#: What lets compiled loops, NumPy and faiss use no more than AVX2.
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_OPT_LEVEL": "AVX2",
}


def command(data: Data, features: Mapping[str, str] | None = None) -> Iterator[Result]:
    """Time the command from a .npy file to labels against three steps of it by faiss, all cores both.

    `features` are variables that say what instructions both may use.
    """
    if faiss is None:
        return
    env, n_sources = {**os.environ, **(features or {})}, data.source.n_sources
    yield _command_on(data, "images", data.images, f" of {n_sources}", 1 / 0.5, env)
    for name, make in MADE.items():
        yield _command_on(data, name, make(data.scale.n_images), "", 1 / 0.7, env)


def command_avx2(data: Data) -> Iterator[Result]:
    """Time the same with no more than AVX2."""
    for result in command(data, AVX2):
        yield dataclasses.replace(result, problem=f"AVX2 alone: {result.problem}")


def _command_on(
    data: Data,
    name: str,
    rows: NDArray[np.uint8],
    of_truth: str,
    wanted: float,
    env: Mapping[str, str],
) -> Result:
    """Time the command on one set of images."""
    n_centroids = min(data.scale.n_centroids, MAX_CENTROIDS)
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder) / "images.npy", Path(folder) / "run"
        np.save(images, rows.reshape(-1, *data.source.image_shape))

        def ours():
            # A second run in the same folder would find its steps done.
            shutil.rmtree(out, ignore_errors=True)
            started = time.perf_counter()
            words = ["run", str(images), "--out", str(out), "--json"]
            words += ["--set", f"overcluster.n_centroids={n_centroids}"]
            words += ["--set", f"pca.n_components={N_COMPONENTS}"]
            # What faiss does not do costs what docs/sizes.md says.
            for step in ("neighbors", "families", "map"):
                words += ["--set", f"{step}.enabled=false"]
            done = subprocess.run(
                [sys.executable, "-m", "workflow", *words],
                check=True,
                capture_output=True,
                text=True,
                env=env,
            )
            summary = json.loads(done.stdout)
            steps.append(float(summary["seconds"]["total"] - summary["seconds"]["start"]))
            around.append(time.perf_counter() - started - steps[-1])
            return summary

        def theirs():
            words = [sys.executable, "-m", __name__, str(images), str(n_centroids)]
            done = subprocess.run(words, check=True, capture_output=True, text=True, env=env)
            peer.append(float(done.stdout))

        steps: list[float] = []
        around: list[float] = []
        peer: list[float] = []
        _, summary, _, _ = alternate(ours, theirs, data.scale.repeats)
    return Result(
        f"{data.scale.n_images:,} {name} from .npy to labels and page, {n_centroids:,} centroids, without neighbours, families, map",
        statistics.median(steps),
        f"faiss: PCA, k-means, two nearest; in memory, {os.cpu_count()} threads", statistics.median(peer),
        f"{summary['n_clusters']} clusters{of_truth}; start and end of the "
        f"command {max(around):.1f} s more (at most {MAX_AROUND_S:g})",
        {"around_s": max(around), "n_clusters": summary["n_clusters"]}, wanted,
    )  # fmt: skip


def _three_steps(place: Path, n_centroids: int) -> float:
    """Do what faiss can do of a run: components, centroids, the nearest two of every image; return the seconds."""
    started = time.perf_counter()
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    images = np.load(place)
    rows = images.reshape(len(images), -1).astype(np.float32)
    components = faiss.PCAMatrix(rows.shape[1], N_COMPONENTS)
    components.train(rows)
    scores = components.apply(rows)
    model = faiss.Kmeans(N_COMPONENTS, n_centroids, niter=10, seed=1)
    model.train(scores)
    faiss.knn(scores, model.centroids, 2)
    return time.perf_counter() - started


def whole_run(data: Data, client: Client) -> Iterator[Result]:
    """Time both profiles once each; a second run in the same folder would find its steps done."""
    n_images = data.scale.n_images
    n_centroids = min(data.scale.n_centroids, MAX_CENTROIDS)
    source = type(data.source)(n_images, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ingest(source, place / "images.zarr")

        settings = {"pca.n_components": N_COMPONENTS, "overcluster.n_centroids": n_centroids}

        def labels_of(profile: str):
            run = workflow.run(
                place / "images.zarr",
                place / profile,
                client=client,
                settings=settings | {"profile": profile},
                progress=False,
            )
            return np.asarray(run.labels.compute()), run.n_clusters

        # Loops are compiled when they are first called: not a part of what is timed.
        ingest(type(data.source)(N_WARM, seed=0), place / "few.zarr")
        workflow.run(place / "few.zarr", place / "few", client=client, progress=False)
        ours_s, (mine, n_mine), peer_s, (theirs, n_theirs) = alternate(
            lambda: labels_of("default"), lambda: labels_of("reference"), 1
        )
    truth = source.truth(0, n_images)
    known = truth >= 0
    scores = [float(adjusted_rand_score(truth[known], x[known])) for x in (mine, theirs)]
    yield Result(
        f"a whole run on {n_images:,} images, {n_centroids:,} centroids, all steps", ours_s,
        "profile reference: dask-ml, scikit-learn, hdbscan", peer_s,
        f"{n_mine} and {n_theirs} clusters of {source.n_sources}; "
        f"ARI {scores[0]:.3f} and {scores[1]:.3f}", {"ari": scores[0], "peer_ari": scores[1]},
    )  # fmt: skip


if __name__ == "__main__":
    print(_three_steps(Path(sys.argv[1]), int(sys.argv[2])))
