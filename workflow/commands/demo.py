"""demo: the main job on images that are made here, held against the truth that is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import settings_for
from workflow.commands.report import report
from workflow.commands.run import run_workflow
from workflow.engine.summary import read_summary
from workflow.formatting import format_count
from workflow.ingest import DemoSource
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import write_json
from workflow.steps.families import families_of
from workflow.steps.parts.clusters.counts import stored_counts
from workflow.steps.report import TRUTH

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.config import LoadedConfig
    from workflow.runstore import RunStore

#: Images whose truth is made and compared at a time.
TRUTH_ROWS = 262_144


def run_demo(out: Path, n_images: int, loaded: LoadedConfig) -> dict[str, Any]:
    """Make images, run the workflow on them, and compare.

    Returns
    -------
    dict
        The summary of the run, and under ``truth`` what the comparison says.
    """
    loaded = settings_for(out, loaded)
    source = DemoSource(n_images=n_images, seed=loaded.config.seed)
    truth: dict[str, Any] = {}

    def find_truth(store: RunStore) -> None:
        truth.update(compare(store, source))
        write_json(store.path / TRUTH, truth)

    store = run_workflow(source, out, loaded, before_page=find_truth)
    if not truth:  # the page was there, maybe of other labels
        with store.lock():
            find_truth(store)
        report(store.path)
    return {**read_summary(store), "truth": truth}


def compare(store: RunStore, source: DemoSource) -> dict[str, Any]:
    """Count how the labels of a run agree with the sources of its images."""
    labels = store.path / layout.LABELS
    n_samples = source.n_samples
    n_labels = len(stored_counts(store).sizes)
    # Rows: noise, then clusters; columns: clutter, then sources, then frames of films.
    table = np.zeros((n_labels + 1, source.n_sources + 2), np.int64)
    for rows in row_ranges(n_samples, TRUTH_ROWS):
        label = zarr_io.read_rows(labels, "label", *rows).astype(np.int64) + 1
        made = source.truth(*rows).astype(np.int64) + 1
        made[source.film(*rows) >= 0] = source.n_sources + 1
        cells = np.bincount(label * table.shape[1] + made, minlength=table.size)
        table += cells.reshape(table.shape)
    # Frames are of no source and no clutter; the larger ones of the films may be clusters of their own.
    frames, table = table[1:, -1], table[:, :-1]
    others = table[1:].sum(axis=1)
    n_clutter, n_noise = int(table[:, 0].sum()), int(table[0].sum())
    films = {} if families_of(store) is None else compare_films(store, source)
    return {
        "n_sources": source.n_sources,
        "n_clusters": int(np.count_nonzero(others > frames)),
        "n_film_clusters": int(np.count_nonzero(frames > others)),
        "ari": adjusted_rand_index(table[:, 1:]),
        "n_clutter": n_clutter,
        "n_noise": n_noise,
        "n_clutter_found": int(table[0, 0]),
        "noise_precision": float(table[0, 0] / n_noise) if n_noise else 0.0,
        "noise_recall": float(table[0, 0] / n_clutter) if n_clutter else 0.0,
        "n_films": source.n_films,
        **films,
    }


def compare_films(store: RunStore, source: DemoSource) -> dict[str, Any]:
    """Count how many films the families of a run have found, and how many families are right.

    A film is found if at least half of its frames lie in families that are
    made of its frames for the most part.  A family is right if most of its
    images are frames of one film, or if it holds most images of one source:
    small sources are families, too.
    """
    (size,) = store.read_model("family_size")
    n_films, n_families, place = source.n_films, len(size), store.path / layout.FAMILIES
    n_there = int(np.count_nonzero(size))
    # Films first, sources after them; neither stands for clutter.
    n_made = np.zeros(n_films + source.n_sources, np.int64)
    pairs = np.zeros(0, np.int64)
    for rows in row_ranges(source.n_samples, TRUTH_ROWS):
        film, of = source.film(*rows), source.truth(*rows).astype(np.int64)
        kind = np.where(film >= 0, film, np.where(of >= 0, n_films + of, -1))
        n_made += np.bincount(kind[kind >= 0], minlength=len(n_made))
        family = zarr_io.read_rows(place, "family", *rows).astype(np.int64)
        both = (kind >= 0) & (family >= 0)
        pairs = np.append(pairs, kind[both] * n_families + family[both])
    pair, count = np.unique(pairs, return_counts=True)
    kind, family = np.divmod(pair, max(n_families, 1))
    is_most = 2 * count > size[family]
    is_of_film = is_most & (kind < n_films)
    is_source = is_most & (kind >= n_films) & (2 * count > n_made[kind])
    found = np.bincount(kind[is_of_film], count[is_of_film], minlength=len(n_made))[:n_films]
    n_found = int((2 * found >= n_made[:n_films]).sum())
    n_right = int((is_of_film | is_source).sum())
    return {
        "n_films_found": n_found,
        "film_recall": n_found / n_films if n_films else 0.0,
        "n_families": n_there,
        "family_precision": n_right / n_there if n_there else 0.0,
    }


def adjusted_rand_index(table: NDArray[np.int64]) -> float:
    """Return the adjusted Rand index of a contingency table.

    Parameters
    ----------
    table : int64 array of shape (n_labels, n_classes)
        Counts; they may come from any number of blocks, which is why this is
        not `sklearn.metrics.adjusted_rand_score`: that wants all labels at once.

    Returns
    -------
    float
        1 when the partitions agree, about 0 when they have nothing in common
        (Hubert and Arabie, "Comparing partitions", J. Classification 2, 1985).
    """

    def pairs(counts: NDArray[np.int64]) -> float:
        exact = counts.astype(np.float64)
        return float((exact * (exact - 1) / 2).sum())

    total = pairs(table.sum(keepdims=True))
    together = pairs(table)
    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / total if total else 0.0
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def describe(found: dict[str, Any]) -> str:
    """Return what the demo prints."""
    truth = found["truth"]
    films = _of_films(truth["n_film_clusters"])
    seconds = ", ".join(
        f"{name} {s:.1f}" for name, s in found["seconds"].items() if name != "total"
    )
    return "\n".join(
        [
            f"images     {found['n_samples']:,} of 16x16x3, made",
            f"sources    {truth['n_sources']} made, {format_count(truth['n_clusters'], 'cluster')} found{films}",
            f"ARI        {truth['ari']:.3f} over the images that have a source",
            f"noise      {truth['n_noise']:,} images found, frames of films left aside, {truth['n_clutter']:,} clutter made ({truth['noise_precision']:.0%} of what was found is clutter, {truth['noise_recall']:.0%} of the clutter was found)",
            _describe_films(truth),
            f"centroids  {found['n_centroids']:,}, on {found['n_components']} components",
            f"seconds    {found['seconds']['total']:.0f}: {seconds}",
            f"memory     {found['peak_rss_bytes'] / 2**30:.2f} GiB in the largest process",
            f"report     {found['report']}",
        ]
    )


def _describe_films(truth: dict[str, Any]) -> str:
    """Return the line about films."""
    made = f"films      {truth['n_films']} made"
    if "n_films_found" not in truth:
        return f"{made}, families not looked for"
    return (
        f"{made}, {truth['n_films_found']} found ({truth['film_recall']:.0%}); "
        f"{format_count(truth['n_families'], 'family')}, {truth['family_precision']:.0%} of them of one film or source"
    )


def _of_films(n_clusters: int) -> str:
    """Return what is said of clusters of frames."""
    return f", and {format_count(n_clusters, 'cluster')} of films" if n_clusters else ""
