"""A whole run, from Zarr to labels, against the reference profile on the same images and workers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import adjusted_rand_score

import workflow
from benchmarks.measure import Result, alternate
from workflow.ingest import ingest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from benchmarks.data import Data


def whole_run(data: Data, client: Client) -> Iterator[Result]:
    """Time both profiles once each; a second run in the same folder would find its steps done."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ingest(data.source, place / "images.zarr")

        def labels_of(profile: str):
            run = workflow.run(
                place / "images.zarr",
                place / profile,
                client=client,
                settings={
                    "profile": profile,
                    "pca.n_components": 50,
                    "overcluster.n_centroids": data.scale.n_centroids,
                },
                progress=False,
            )
            return np.asarray(run.labels.compute()), run.n_clusters

        ours_s, (mine, n_mine), peer_s, (theirs, n_theirs) = alternate(
            lambda: labels_of("default"), lambda: labels_of("reference"), 1
        )
    known = data.truth >= 0
    scores = [float(adjusted_rand_score(data.truth[known], x[known])) for x in (mine, theirs)]
    yield Result(
        f"a whole run on {data.scale.n_images:,} images",
        ours_s,
        "profile reference: dask-ml, scikit-learn, hdbscan",
        peer_s,
        f"{n_mine} and {n_theirs} clusters of {data.source.n_sources}; "
        f"ARI {scores[0]:.3f} and {scores[1]:.3f}",
        {"ari": scores[0], "peer_ari": scores[1]},
    )
