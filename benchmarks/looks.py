"""Planted dark, bright, flat and blurred images: how many are listed, and how many others.

``python -m benchmarks.looks [--data FOLDER]`` prints the table of docs/galleries.md; FOLDER holds mnist.npz.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_images

from workflow.ingest import DemoSource
from workflow.pca import image_statistics
from workflow.runstore import zarr_io
from workflow.steps.browsing.galleries import LOOKS, find, look_gallery, usual_looks
from workflow.steps.parts.notes import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Images of a set, and share of them that is planted with each look.
N_IMAGES, SHARE = 20_000, 0.005
#: Width of the blur [pixel].
BLUR = 2.0
#: Windows with contrast have at least this standard deviation, and are neither dark nor bright as a whole.
LEAST_CONTRAST, BRIGHTNESS = 25, (60, 195)


def windows(rng: np.random.Generator, scale: int) -> NDArray[np.uint8]:
    """Return windows of 16 x 16 of scikit-learn's photographs, made smaller by a whole number."""
    found = []
    photographs = load_sample_images().images
    for photograph in photographs:
        height, width = (side // scale * scale for side in photograph.shape[:2])
        small = photograph[:height, :width].reshape(
            height // scale, scale, width // scale, scale, 3
        )
        small = small.mean(axis=(1, 3)).round().astype(np.uint8)
        for _ in range(N_IMAGES // len(photographs)):
            y, x = (rng.integers(side - 15) for side in small.shape[:2])
            found.append(small[y : y + 16, x : x + 16])
    return np.stack(found)


def with_contrast(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images that have contrast and are neither dark nor bright as a whole."""
    grey = images.mean(axis=3)
    mean = grey.mean(axis=(1, 2))
    low, high = BRIGHTNESS
    return images[(grey.std(axis=(1, 2)) >= LEAST_CONTRAST) & (mean > low) & (mean < high)]


def sets(data: Path | None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the sets and their names."""
    rng = np.random.default_rng(0)
    yield "demo", DemoSource(N_IMAGES, seed=0).read(0, N_IMAGES).reshape(-1, 16, 16, 3)
    for scale, words in ((1, "photographs"), (4, "photographs a quarter the size")):
        every = windows(rng, scale)
        yield f"all windows of {words}", every
        yield f"windows with contrast of {words}", with_contrast(every)
    yield "digits", (load_digits().images * 15.9).astype(np.uint8)
    if data is not None:
        with np.load(data / "mnist.npz") as stored:
            name = max(stored.files, key=lambda one: stored[one].size)
            yield "mnist", stored[name][:N_IMAGES].reshape(-1, 28, 28)
    smooth = gaussian_filter(rng.normal(size=(N_IMAGES, 16, 16)), (0, 4, 4))
    smooth *= 45 / smooth.std(axis=(1, 2), keepdims=True)
    yield "clouds", (smooth + 128).clip(0, 255).astype(np.uint8)


def with_look(images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Return images with a look."""
    values = images.astype(np.float64)
    if name == "dark":
        values *= 0.15
    elif name == "bright":
        values = 255 - 0.15 * (255 - values)
    elif name == "low_contrast":
        mean = values.mean(axis=(1, 2), keepdims=True)
        values = mean + 0.06 * (values - mean)
    else:
        sigma = (0, BLUR, BLUR) + (0,) * (values.ndim - 3)
        values = gaussian_filter(values, sigma, mode="nearest")
    return values.round().clip(0, 255).astype(np.uint8)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    print("| set | look | usual | listed below | recall | precision | listed without planting |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, images in sets(data):
        rng = np.random.default_rng(1)
        n = max(20, round(SHARE * len(images)))
        rows = rng.permutation(len(images))[: n * len(LOOKS)].reshape(len(LOOKS), n)
        before, _ = listed(images)
        planted = images.copy()
        for look, of_look in zip(LOOKS, rows, strict=True):
            planted[of_look] = with_look(images[of_look], look)
        found, usual = listed(planted)
        for look, of_look in zip(LOOKS, rows, strict=True):
            # What is planted with another look may have this one, too: white paper is bright and flat.
            others = set(rows.ravel().tolist()) - set(of_look.tolist())
            hits = len(set(of_look.tolist()) & set(found[look]))
            n_listed = len(set(found[look]) - others)
            precision = f"{hits / n_listed:.2f}" if n_listed else "-"
            print(
                f"| {name} | {look} | {usual[look].median:.2f} | {usual[look].below:.3g} "
                f"| {hits / n:.2f} | {precision} | {len(before[look]) / len(images):.2%} |"
            )


def listed(images: NDArray[np.uint8]) -> tuple[dict[str, list[int]], dict]:
    """Return the images of every look, and what is usual."""
    statistics = image_statistics(images.reshape(len(images), -1), images.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "statistics.zarr"
        stored = np.column_stack(statistics)
        zarr_io.create_rows_array(
            place, STATISTICS, n_rows=len(stored), tail_shape=(3,), dtype="float32",
            shard_rows=len(stored), dims=("sample", "statistic"), compressor=None,
        )  # fmt: skip
        zarr_io.write_rows(place, STATISTICS, 0, stored)
        usual = usual_looks(place, len(images), (0.0, 255.0))
        looks = {n: look_gallery(place, n, (0.0, 255.0), usual[n].below) for n in LOOKS}
        found = find(looks, len(images), len(images))
    return {name: one.rows.tolist() for name, one in found.items()}, usual


if __name__ == "__main__":
    main()
