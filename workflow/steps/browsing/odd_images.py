"""Images that lie far out: at most one of each centroid, lone ones and those of small groups apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.numerics import ranks_in_groups
from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.members import READ_ROWS
from workflow.steps.overcluster import stored_duplicate_cells
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from workflow.runstore import RunStore

#: Outlier score of an image one radius from its centroid: those beyond may make up a group.
ONE_RADIUS = 0.5
#: Images of a centroid, the farthest out, that are compared with the one farthest out.
MAX_COMPARED = 8
#: What is read of each image.
NAMES = ("centroid", "outlier_score", "distance")


class Outlying(NamedTuple):
    """Images with what tells how far out they lie; arrays of shape (n,).

    Attributes
    ----------
    row : int64 array
        The images.
    centroid : int32 array
        Nearest centroid.
    outlier_score : float32 array
        From 0 to 1.
    distance : float32 array [score]
        Distance to the centroid.
    """

    row: NDArray[np.int64]
    centroid: NDArray[np.int32]
    outlier_score: NDArray[np.float32]
    distance: NDArray[np.float32]

    def pick(self, which: NDArray[Any]) -> Outlying:
        """Return some of the images."""
        return Outlying(*(values[which] for values in self))

    def strongest(self, n: int, per_centroid: int = 1) -> Outlying:
        """Return the `n` farthest out, strongest first, so many of each centroid at most."""
        order = np.lexsort((self.row, -self.outlier_score.astype(np.float64)))
        by_centroid = order[np.argsort(self.centroid[order], kind="stable")]
        rank = ranks_in_groups(self.centroid[by_centroid])
        kept = np.zeros(len(order), np.bool_)
        kept[by_centroid[rank < per_centroid]] = True
        return self.pick(order[kept[order]][:n])


class Outliers(NamedTuple):
    """The images that lie farthest out, strongest first, one of each centroid at most.

    Attributes
    ----------
    lone : Outlying
        Images that no other outlying one of their centroid is nearer to than the centroid.
    grouped : Outlying
        One image of each small group: others are near it.
    n_near : int64 array of shape (len(grouped.row),)
        How many others, of the `MAX_COMPARED` farthest out.
    """

    lone: Outlying
    grouped: Outlying
    n_near: NDArray[np.int64]


def strongest_outliers(store: RunStore, n: int, rows: NDArray[np.int64] | None = None) -> Outlying:
    """Return the images with the highest outlier scores, one of each centroid at most.

    Of all images, or of those at rising `rows` only.  Memory is that of a block.
    """
    best: Outlying | None = None
    for block in _outlying(store, rows):
        least = 0.0 if best is None or len(best.row) < n else best.outlier_score[-1]
        here = block.pick(block.outlier_score > least)
        best = (here if best is None else _joined(best, here)).strongest(n)
    assert best is not None
    return best


def find_outliers(store: RunStore, n: int, rows: NDArray[np.int64] | None = None) -> Outliers:
    """Return the strongest outliers, the lone ones and those of small groups apart."""
    best = strongest_outliers(store, n, rows)
    scores = stored_scores(store)
    wanted = np.zeros(int(best.centroid.max(initial=-1)) + 1, np.bool_)
    wanted[best.centroid] = True
    parts = []
    for block in _outlying(store, rows):
        near = block.pick(block.outlier_score > ONE_RADIUS)
        near = near.pick(near.centroid < len(wanted))
        parts.append(near.pick(wanted[near.centroid]))
    others = _joined(*parts)
    others = others.strongest(len(others.row), MAX_COMPARED + 1)

    def n_near(row: int, centroid: int, distance: float) -> int:
        own = scores.read(row, row + 1).astype(np.float64)
        same = others.row[(others.centroid == centroid) & (others.row != row)][:MAX_COMPARED]
        gaps = [np.linalg.norm(scores.read(r, r + 1) - own) for r in same.tolist()]
        return int(np.count_nonzero(np.array(gaps) < distance))

    found = np.array(
        [
            n_near(int(row), int(centroid), float(distance))
            for row, centroid, _, distance in zip(*best, strict=True)
        ],
        np.int64,
    )
    return Outliers(best.pick(found == 0), best.pick(found > 0), found[found > 0])


def near_copies(store: RunStore, n: int) -> list[list[int]]:
    """Return an image of each cell that holds nothing but near-copies, and how many images it has.

    The cells with the most images come first, `n` at most.
    """
    population, exemplar = store.read_model("population", "exemplar")
    found = np.flatnonzero(stored_duplicate_cells(store).is_near)
    found = found[np.argsort(-population[found], kind="stable")][:n]
    both: list[list[int]] = np.column_stack([exemplar[found, 0], population[found]]).tolist()
    return both


def _outlying(store: RunStore, rows: NDArray[np.int64] | None) -> Iterable[Outlying]:
    """Yield what is stored of the images, a block at a time."""
    labels = store.path / layout.LABELS
    for block in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
        wanted = np.arange(block.start, block.stop)
        if rows is not None:
            wanted = rows[slice(*np.searchsorted(rows, block))]
        read = (zarr_io.read_rows(labels, name, *block) for name in NAMES)
        yield Outlying(wanted, *(values[wanted - block.start] for values in read))


def _joined(*parts: Outlying) -> Outlying:
    """Return images of several blocks as one."""
    return Outlying(*(np.concatenate(values) for values in zip(*parts, strict=True)))
