"""How well a run that is updated keeps, beside a run of all images and others' ways of taking a stream in.

``python -m benchmarks.updates [--data DIR] [--sets demo,blobs,mnist] [--images N]`` prints the table of
docs/new-images.md.  Half of the images are the first run, the rest come in ten parts; the images of one class come in the
last five only.  ``id kept``: share of the images of the first run whose cluster has the number that it had.
River's DBSTREAM is told the radius that answers best of three, MiniBatchKMeans the number of centroids; both get
the scores of the first run's components.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hdbscan
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import workflow
from benchmarks.pages import markdown, progress
from benchmarks.quality.sets import NOISE, labelled_sets, stored_sets
from workflow.rng import generator

#: Parts that come after the first run, those that hold the class that comes late, images of a set that is made.
N_PARTS, N_LATE, N_MADE = 10, 5, 8_000
#: Radii that DBSTREAM is tried with, in typical distances between an image and its nearest centroid.
RADII = (1.0, 2.0, 4.0)
#: Images of a centroid.
CENTROID_IMAGES = 30
#: Labels of all images after the last part, and those of the first ones before.
Answer = tuple[NDArray[Any], NDArray[Any] | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.updates", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of .npz files with images and labels")
    parser.add_argument("--sets", default="demo,blobs", help="sets, with commas between")
    parser.add_argument("--images", type=int, default=N_MADE, help="images of each set, at most")
    given = parser.parse_args(arguments)
    sets = labelled_sets() | (stored_sets(given.data, 1) if given.data else {})
    rows = []
    for name in given.sets.split(","):
        images, truth = sets[name].make(sets[name].size(given.images), 0)
        rows += compared(name, *stream(images[: given.images], truth[: given.images]))
    head = ("set", "way", "ARI", "clusters", "ARI with a run of all", "id kept", "seconds")
    print(markdown(head, rows))
    return 0


def stream(
    images: NDArray[Any], truth: NDArray[np.integer[Any]]
) -> tuple[list[NDArray[Any]], NDArray[np.integer[Any]]]:
    """Return the images in parts, the first one the largest, and the truth of all in their order."""
    rng = generator(0, "updates")
    order = rng.permutation(len(images))
    late = np.unique(truth[truth != NOISE])[-1]
    early, rest = order[truth[order] != late], order[truth[order] == late]
    n_first = len(early) // 2
    parts = [early[:n_first], *np.array_split(early[n_first:], N_PARTS)]
    for place, more in enumerate(np.array_split(rest, N_LATE), start=N_PARTS - N_LATE + 1):
        parts[place] = rng.permutation(np.concatenate([parts[place], more]))
    return [images[part] for part in parts], truth[np.concatenate(parts)]


def compared(
    name: str, parts: list[NDArray[Any]], truth: NDArray[np.integer[Any]]
) -> list[tuple[str, ...]]:
    """Return the rows of one set."""
    pca = PCA(min(50, parts[0][0].size), random_state=0).fit(parts[0].reshape(len(parts[0]), -1))
    scores = [pca.transform(part.reshape(len(part), -1)).astype(np.float32) for part in parts]
    n_centroids = max(20, len(truth) // CENTROID_IMAGES)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ways: dict[str, Callable[[], Answer]] = {
            "run of all": lambda: whole(parts, folder),
            "run, ten updates": lambda: updated(parts, folder),
            "the same, refitted": lambda: refitted(folder),
            "MiniBatchKMeans and HDBSCAN": lambda: mini_batches(scores, n_centroids),
            "DBSTREAM": lambda: dbstream(scores, n_centroids, truth),
        }
        rows, reference = [], None
        for way, work in ways.items():
            progress(f"{name}: {way}")
            started = time.perf_counter()
            labels, first = work()
            spent = time.perf_counter() - started
            reference = labels if reference is None else reference
            kept = None if first is None else np.mean(labels[: len(first)] == first)
            figures = (
                f"{adjusted_rand_score(truth, labels):.3f}",
                f"{len(np.unique(labels[labels >= 0]))} of {len(np.unique(truth[truth >= 0]))}",
                f"{adjusted_rand_score(reference, labels):.3f}",
                "-" if kept is None else f"{kept:.1%}",
                f"{spent:.1f}",
            )
            rows.append((name, way, *figures))
    return rows


def run(images: NDArray[Any], out: Path) -> workflow.Run:
    """Run the workflow."""
    return workflow.run(images, out, progress=False)


def labels_of(found: workflow.Run) -> NDArray[Any]:
    """Return the labels of a run."""
    return np.asarray(workflow.Run(found.path).dataset["label"])


def whole(parts: list[NDArray[Any]], folder: Path) -> Answer:
    """Run on all images."""
    return labels_of(run(np.concatenate(parts), folder / "whole")), None


def updated(parts: list[NDArray[Any]], folder: Path) -> Answer:
    """Run on the first images, and update with the others."""
    np.save(folder / "0.npy", parts[0])
    found = run(folder / "0.npy", folder / "run")
    first = labels_of(found)
    for number, part in enumerate(parts[1:], start=1):
        np.save(folder / f"{number}.npy", part)
        workflow.Run(found.path).update(folder / f"{number}.npy")
    return labels_of(found), first


def refitted(folder: Path) -> Answer:
    """Find all anew of an updated run."""
    found = workflow.Run(folder / "run")
    before = labels_of(found)
    found.update(refit_components=True)
    return labels_of(found), before


def mini_batches(scores: list[NDArray[np.float32]], n_centroids: int) -> Answer:
    """Take the stream in with scikit-learn's partial_fit, and find the clusters of the centroids."""
    fitted = MiniBatchKMeans(n_centroids, random_state=0, batch_size=1024)
    first = None
    for part in scores:
        fitted.partial_fit(part)
        found = hdbscan.HDBSCAN(min_cluster_size=5).fit(fitted.cluster_centers_.astype(float))
        first = found.labels_[fitted.predict(part)] if first is None else first
    return found.labels_[fitted.predict(np.concatenate(scores))], first


def dbstream(
    scores: list[NDArray[np.float32]], n_centroids: int, truth: NDArray[np.integer[Any]]
) -> Answer:
    """Take the stream in with River's DBSTREAM, with the radius that answers best."""
    from river.cluster import DBSTREAM

    fitted = MiniBatchKMeans(n_centroids, random_state=0).fit(scores[0])
    usual = float(np.median(fitted.transform(scores[0]).min(axis=1)))
    rows = [dict(enumerate(row)) for row in np.concatenate(scores).astype(float).tolist()]
    answers = []
    for radius in RADII:
        found = DBSTREAM(
            clustering_threshold=radius * usual, fading_factor=1e-6, cleanup_interval=1e6
        )
        for row in rows:
            found.learn_one(row)
        answers.append(np.array([found.predict_one(row) for row in rows]))
        progress(f"  radius {radius}: {adjusted_rand_score(truth, answers[-1]):.3f}")
    return max(answers, key=lambda labels: adjusted_rand_score(truth, labels)), None


if __name__ == "__main__":
    main()
