"""Moments against the machine's own matrix product; components against scikit-learn and dask-ml."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import dask.array as da
import numpy as np
import sklearn.decomposition
from dask.config import set as dask_config
from dask_ml.decomposition import IncrementalPCA
from numpy.typing import NDArray

from benchmarks.data import N_COMPONENTS, Data
from benchmarks.measure import Result, alternate
from workflow.chunks import choose_block_rows, row_ranges
from workflow.ingest import ingest
from workflow.pca import (
    PCA,
    block_moments,
    feature_shift,
    mean_and_scatter,
    merge_moments,
    principal_components,
)
from workflow.runstore.zarr_io import open_images
from workflow.threads import one_blas_thread

#: Rows of a product of the peer, long enough for its full rate; rows whose moments are compared with
#: a product of whole numbers in float64.
PRODUCT_ROWS = CHECKED_ROWS = 4_096


def moments(data: Data) -> Iterator[Result]:
    """Time exact moments against float32 `X.T @ X` of the same rows, with one BLAS thread both."""
    images = data.images
    n_rows, n_features = images.shape
    shift = feature_shift(images[: choose_block_rows(n_features)])
    blocks = [images[slice(*rows)] for rows in row_ranges(n_rows, choose_block_rows(n_features))]
    # The same rows again and again: the rate of the product alone, without reading or converting.
    batch = np.ascontiguousarray(images[:PRODUCT_ROWS], dtype=np.float32)

    def ours():
        return reduce(
            merge_moments, (block_moments(b, kind="integer", shift=shift) for b in blocks)
        )

    def peer():
        with one_blas_thread():
            for _ in range(-(-n_rows // len(batch))):
                batch.T @ batch

    ours_s, state, peer_s, _ = alternate(ours, peer, data.scale.repeats)
    # The peer has multiplied whole batches: the time for as many rows as ours had.
    peer_s *= n_rows / (-(-n_rows // len(batch)) * len(batch))
    # Whole numbers in float64: exact, for every sum stays below 2**53.
    checked = images[:CHECKED_ROWS].astype(np.float64) - shift
    small = block_moments(images[:CHECKED_ROWS], kind="integer", shift=shift)
    is_exact = bool((small.second == checked.T @ checked).all())
    rate = 2 * n_rows * n_features**2 / ours_s / 1e9
    yield Result(
        f"moments of {n_rows:,} x {n_features} uint8 ({rate:.0f} GFLOP/s)", ours_s,
        "float32 X.T @ X of NumPy", peer_s,
        "equal to the exact sums" if is_exact else "NOT equal to the exact sums",
        {"is_exact": float(is_exact), "n_samples": state.n_samples}, wanted=1.0,
    )  # fmt: skip
    yield from _from_zarr(data, peer_s)


def _from_zarr(data: Data, peer_s: float) -> Iterator[Result]:
    """Time the same from a compressed Zarr store to components, as the first step of a run does."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "images.zarr"
        ingest(data.source, place)
        images = open_images(place)
        ranges = row_ranges(images.n_samples, choose_block_rows(images.n_features))
        shift = feature_shift(images.read(*ranges[0]))

        def ours():
            parts = (
                block_moments(images.read(*rows), kind="integer", shift=shift) for rows in ranges
            )
            return principal_components(reduce(merge_moments, parts), N_COMPONENTS)

        ours_s, found, _, _ = alternate(ours, lambda: None, data.scale.repeats)
    kept = float(found.explained_variance_ratio.sum())
    yield Result(
        f"the same from Zarr, decompressed and checked, to {N_COMPONENTS} components", ours_s,
        "float32 X.T @ X of NumPy", peer_s, f"variance kept {kept:.5f}", {"kept": kept}, wanted=0.6,
    )  # fmt: skip


def components(data: Data) -> Iterator[Result]:
    """Time the components of images in memory against two peers."""
    images = data.images
    n_rows, n_features = images.shape

    def ours():
        return PCA(n_components=N_COMPONENTS).fit(images)

    def covariance():
        return sklearn.decomposition.PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(
            images.astype(np.float32)
        )

    def dask_ml():
        rows = da.from_array(images, chunks=(choose_block_rows(n_features), n_features))
        # dask-ml divides by the number of rows seen before the first one.
        with dask_config(scheduler="synchronous"), np.errstate(invalid="ignore"):
            return IncrementalPCA(N_COMPONENTS, batch_size=choose_block_rows(n_features)).fit(
                rows.astype(np.float64)
            )

    for name, peer in (
        ("scikit-learn PCA, covariance_eigh, float32", covariance),
        ("dask-ml IncrementalPCA", dask_ml),
    ):
        ours_s, mine, peer_s, theirs = alternate(ours, peer, data.scale.repeats)
        kept, other = (variance_kept(mine, found.components_) for found in (mine, theirs))
        yield Result(
            f"{N_COMPONENTS} components of {n_rows:,} x {n_features} uint8", ours_s, name, peer_s,
            f"variance kept {kept:.5f} and {other:.5f}", {"kept": kept, "peer_kept": other},
        )  # fmt: skip


def variance_kept(fitted: PCA, components: NDArray[np.floating]) -> float:
    """Return the share of the variance of the fitted rows that components keep."""
    _, scatter = mean_and_scatter(fitted.moments_)
    basis = np.linalg.qr(components.T.astype(np.float64))[0]
    return float(np.einsum("ij,ij->", basis, scatter @ basis) / np.trace(scatter))
