"""How fast this machine does the pieces of a run: what a calibration measures, and what lies between."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Centroids and components at which searches are measured.
SEARCH_CENTROIDS, SEARCH_COMPONENTS = (1_024, 8_192), (12, 50)
#: Centroids of the graph and the tree that are measured, and the powers by which a graph, a tree
#: and its redrawn copies grow with their number: between 1,000 and 16,384 centroids of the demo.
TREE_CENTROIDS, GRAPH_POWER, TREE_POWER, REDRAWN_POWER = 2_048, 1.0, 0.9, 1.5
#: The more images a centroid has, the more neighbours: 30 images are the usual number, and by this
#: share more take ten times as many, between 30 and 3,000 images of the demo.
USUAL_IMAGES, EDGE_GROWTH = 30, 0.45


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of the pieces of a run, all [s] unless they say otherwise.

    Those of workers were measured in all workers at once, so that what they
    share, such as memory and a processor's two threads, is in them.

    Attributes
    ----------
    once : dict of str to float
        Step -> what it takes however few the images are; ``start`` for what a
        run takes before and after its steps.
    library : float
        Part of the tree's that trees of many centroids do not have.
    task : float
        A task without work, sent and collected.
    result_byte : float
        A byte that a task returns, merged into a sum [s/byte].
    read_byte, write_byte, sync_byte, pack_byte, unpack_byte : float
        A byte of a stored array: read with its checksum, written, written and
        synchronized, compressed and written, read and decompressed [s/byte].
    file, file_byte, file_read_byte : float
        A small file of arrays, synchronized: each, and each byte; a byte of
        one read back [s, s/byte, s/byte].
    moments : dict of str to list of float
        Kind and item size, as ``integer-1`` -> seconds per row and squared
        feature, and per row and feature.
    projection : list of float
        Seconds per row, feature and component, and per row and feature.
    eigen : float
        Components of a scatter matrix, per cubed feature.
    search : dict of str to list of list of float
        Pass, ``round`` or ``assign`` -> for each of `SEARCH_CENTROIDS` the
        seconds per row at each of `SEARCH_COMPONENTS`.
    build : list of list of float
        Seconds to prepare a search, for the same numbers.
    seed : list of float
        k-means++: seconds per row, seed and component, and per row and seed.
    labels : float
        Labels, per row.
    dimension : float
        Intrinsic dimension, per pair of rows and component.
    graph : float
        Graph of `TREE_CENTROIDS` centroids.
    tree : list of float
        Tree of as many, and one of its redrawn copies.
    worker_bytes, leader_bytes : int
        Peak of a worker, and of the leading process, before any work [bytes].
    """

    once: dict[str, float]
    library: float
    task: float
    result_byte: float
    read_byte: float
    write_byte: float
    sync_byte: float
    pack_byte: float
    unpack_byte: float
    file: float
    file_byte: float
    file_read_byte: float
    moments: dict[str, list[float]]
    projection: list[float]
    eigen: float
    search: dict[str, list[list[float]]]
    build: list[list[float]]
    seed: list[float]
    labels: float
    dimension: float
    graph: float
    tree: list[float]
    worker_bytes: int
    leader_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the rates as JSON-able content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Rates:
        """Return the rates that `to_json` gave.

        Raises
        ------
        ValueError
            If a rate is missing, unknown or no finite number.
        """
        names = {field.name for field in fields(cls)}
        if set(content) != names or not all(_is_sound(value) for value in content.values()):
            msg = f"rates must be those of this version; {sorted(names ^ set(content)) or 'some'} are not."
            raise ValueError(msg)
        return cls(**content)

    def per_row(self, what: str, n_centroids: int, n_components: int) -> float:
        """Return the seconds of a row in a pass of a search, ``round`` or ``assign``."""
        return between(self.search[what], n_centroids, n_components)

    def to_build(self, n_centroids: int, n_components: int) -> float:
        """Return the seconds it takes to prepare a search."""
        return between(self.build, n_centroids, n_components)

    def graph_seconds(self, n_centroids: int, n_images: int) -> float:
        """Return the seconds of a graph of so many centroids of so many images."""
        alone = self.graph * math.pow(n_centroids / TREE_CENTROIDS, GRAPH_POWER)
        return alone * neighbours(n_images / n_centroids)

    def tree_seconds(self, n_centroids: int, n_images: int, n_resamples: int) -> float:
        """Return the seconds of a tree of so many centroids and of its redrawn copies."""
        alone, redrawn = self.tree
        ratio = n_centroids / TREE_CENTROIDS
        copies = n_resamples * redrawn * math.pow(ratio, REDRAWN_POWER)
        return (alone * math.pow(ratio, TREE_POWER) + copies) * neighbours(n_images / n_centroids)


def neighbours(images_per_centroid: float) -> float:
    """Return how many neighbours a centroid of so many images has, against the usual number.

    Examples
    --------
    >>> neighbours(30), neighbours(3_000)
    (1.0, 1.9)
    """
    return 1 + EDGE_GROWTH * max(0.0, math.log10(images_per_centroid / USUAL_IMAGES))


def _is_sound(value: Any) -> bool:
    """Whether a stored value is made of finite numbers, none negative."""
    if isinstance(value, dict):
        return all(_is_sound(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_is_sound(inner) for inner in value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def power_law(at: tuple[float, float], measured: tuple[float, float], x: float) -> float:
    """Return a value between or beyond two measurements, on the line through their logarithms.

    The exponent is kept between 0 and 2: more work never takes less time, and
    a disturbed measurement must not run away with what lies far beyond it.

    Examples
    --------
    >>> power_law((10, 1000), (1.0, 100.0), 100)
    10.0
    """
    first, second = (max(value, 1e-12) for value in measured)
    slope = math.log(second / first) / math.log(at[1] / at[0])
    slope = min(max(slope, 0.0), 2.0)
    # Through the larger measurement, which noise disturbs less.
    return float(f"{second * (x / at[1]) ** slope:.12g}")


def between(table: list[list[float]], n_centroids: int, n_components: int) -> float:
    """Return what a table of `SEARCH_CENTROIDS` x `SEARCH_COMPONENTS` says of other numbers."""
    along = [power_law(SEARCH_COMPONENTS, (row[0], row[1]), max(1, n_components)) for row in table]
    return power_law(SEARCH_CENTROIDS, (along[0], along[1]), max(1, n_centroids))


def plane(sizes: tuple[tuple[float, float], ...], seconds: tuple[float, float]) -> list[float]:
    """Return the two coefficients that explain two measurements as a x + b y, none negative.

    Examples
    --------
    >>> plane(((1.0, 1.0), (4.0, 2.0)), (3.0, 8.0))
    [1.0, 2.0]
    """
    (x1, y1), (x2, y2) = sizes
    first, second = seconds
    determinant = x1 * y2 - x2 * y1
    a = (first * y2 - second * y1) / determinant
    b = (x1 * second - x2 * first) / determinant
    if a < 0:
        return [0.0, second / y2]
    return [second / x2, 0.0] if b < 0 else [a, b]
