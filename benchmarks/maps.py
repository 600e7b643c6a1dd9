"""How good the map is, beside UMAP, openTSNE and PaCMAP where they are installed: docs/map.md.

``python -m benchmarks.maps [--data DIR] [--sets digits,mnist] [--pictures]`` prints the table: shares of the
10 nearest on the map that are the true 10 nearest (recall) and whose label is the image's (purity), images whose
label most of them have (accuracy), triplets of images that are ordered as by their scores, silhouette of the labels, CPU seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

import workflow
from benchmarks.pages import DOCS, new_figure, save
from benchmarks.quality.sets import labelled_sets, stored_sets
from workflow.map import lay_out, neighbor_affinities
from workflow.report import MapData
from workflow.report.map_plot import plot_map
from workflow.rng import generator
from workflow.runstore import RunStore
from workflow.steps.map import N_NEIGHBORS, all_rows
from workflow.steps.projection import stored_scores

#: Images whose neighbours are looked at, triplets, images for the silhouette, images of a set that is made.
N_QUERIES, N_TRIPLETS, N_SILHOUETTE, N_MADE = 5_000, 100_000, 5_000, 20_000
NAMES = {"umap": "UMAP", "openTSNE": "openTSNE", "pacmap": "PaCMAP"}


def main() -> None:
    """Print the table, and draw the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of .npz files with images and labels")
    parser.add_argument("--sets", default="digits,demo", help="sets, with commas between")
    parser.add_argument("--pictures", action="store_true", help="draw docs/img/map-SET.png, too")
    given = parser.parse_args()
    sets = labelled_sets() | (stored_sets(given.data, 1) if given.data else {})
    print("| set | map | accuracy | recall | purity | triplets | silhouette | CPU [s] |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in given.sets.split(","):
        images, truth = sets[name].make(sets[name].max_images or N_MADE, 0)
        with tempfile.TemporaryDirectory() as folder:
            maps(name, images, truth, Path(folder), pictures=given.pictures)


def maps(
    name: str, images: NDArray, truth: NDArray[np.integer], folder: Path, *, pictures: bool
) -> None:
    """Print the rows of one set: of the scores, of our maps of images and of centroids, and of others."""
    np.save(folder / "images.npy", images)
    drawn = {}
    for kind, settings in (("centroids", {"map.images_up_to": 0}), ("images", {})):
        # Else the run would keep the settings of the first map.
        run = workflow.run(
            folder / "images.npy", folder / "run", settings=settings, fresh_settings=True
        )
        scores = all_rows(stored_scores(RunStore.open(run.path)))
        drawn[f"ours, {kind}"] = np.column_stack([run.dataset[axis].values for axis in "xy"]), None
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(scores)
    index = near.kneighbors(scores, return_distance=False)[:, 1:]
    start = time.process_time()
    lay_out(neighbor_affinities(index.astype(np.int32)), scores, generator(0, "map"))
    drawn["ours, images"] = drawn["ours, images"][0], time.process_time() - start
    drawn |= {NAMES[peer]: made for peer, made in others(scores)}
    print(
        f"| {name} | {row(scores, scores, truth, index)} |".replace("| ", "| scores | ", 2),
        flush=True,
    )
    for what, (places, seconds) in drawn.items():
        took = "" if seconds is None else f"{seconds:.1f}"
        print(f"| {name} | {what} | {row(places, scores, truth, index)} | {took} |", flush=True)
    if pictures:
        picture(name, {what: places for what, (places, _) in drawn.items()}, truth)


def others(scores: NDArray[np.float32]) -> Iterator[tuple[str, tuple[NDArray, float]]]:
    """Yield what others make of scores with their defaults, and their CPU seconds."""
    for peer in NAMES:
        start = time.process_time()
        try:
            if peer == "umap":
                import umap

                found = umap.UMAP(random_state=0, n_jobs=1).fit_transform(scores)
            elif peer == "openTSNE":
                import openTSNE

                found = openTSNE.TSNE(random_state=0).fit(scores)
            else:
                import pacmap

                found = pacmap.PaCMAP(random_state=0).fit_transform(scores)
        except ImportError:
            continue
        yield peer, (np.asarray(found, np.float32), time.process_time() - start)


def row(
    places: NDArray, scores: NDArray[np.float32], truth: NDArray[np.integer], index: NDArray
) -> str:
    """Return the figures of one map; images without a label count for recall and triplets only."""
    rng, n = np.random.default_rng(0), len(places)
    queries = rng.choice(n, min(N_QUERIES, n), replace=False)
    near = NearestNeighbors(n_neighbors=11).fit(places)
    found = near.kneighbors(places[queries], return_distance=False)
    # Without the image itself, which copies may come before.
    found = np.array([[j for j in js if j != i][:10] for js, i in zip(found, queries, strict=True)])
    pairs = zip(found, index[queries, :10], strict=True)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])
    real = truth[queries] >= 0
    own, around = truth[queries][real], truth[found][real]
    voted = np.array([np.bincount(labels + 1).argmax() - 1 for labels in around])
    a, b, c = rng.integers(0, n, (3, N_TRIPLETS))

    def nearer(rows: NDArray) -> NDArray[np.bool_]:
        return np.square(rows[a] - rows[b]).sum(1) < np.square(rows[a] - rows[c]).sum(1)

    triplets = np.mean(nearer(places) == nearer(scores))
    some = rng.permutation(np.flatnonzero(truth >= 0))[:N_SILHOUETTE]
    figures = (np.mean(voted == own), recall, np.mean(around == own[:, None]), triplets)
    return " | ".join(f"{x:.3f}" for x in (*figures, silhouette_score(places[some], truth[some])))


def picture(name: str, drawn: dict[str, NDArray], truth: NDArray[np.integer]) -> None:
    """Draw the maps of a set beside each other, coloured by its labels."""
    figure = new_figure(3.6 * len(drawn), 3.9)
    for axes, (what, places) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
        plot_map(axes, MapData(places.astype(np.float32), truth, len(places)))
        for text in [*axes.texts]:
            text.remove()
        axes.set_title(what, loc="left")
    save(figure, DOCS / "img" / f"map-{name}.png")


if __name__ == "__main__":
    main()
