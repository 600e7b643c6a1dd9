"""Images of a cluster or a family in order of their strength, and what is stored of any images; out of core."""

from __future__ import annotations

import math
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import MAX_BLOCK_ROWS, row_ranges
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, StoreError
from workflow.numerics import ranks_in_groups
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.runstore import RunStore

#: Rows of labels that are read at once.
READ_ROWS = 2**20


#: Left, bottom, right and top of a rectangle of the map, which its edges belong to.
Region = tuple[float, float, float, float]


def region_of(store: RunStore, given: Sequence[float] | str) -> Region:
    """Return a rectangle of the map of a run, as a user gives it; refuse what is none."""
    if "x" not in zarr_io.array_names(store.path / layout.LABELS):
        msg = f"a region must be of a map; {store.path} has none. Run it again with --set map.enabled=true."
        raise ConfigError(msg)
    try:
        left, bottom, right, top = map(float, given.split(",") if isinstance(given, str) else given)
    except (TypeError, ValueError):
        left, bottom, right, top = (math.nan,) * 4
    if not (left <= right and bottom <= top):
        msg = f"a region must be left, bottom, right and top of a rectangle, as `x` and `y` have them; got {given}. The page tells that of what is selected on it."
        raise ConfigError(msg)
    return left, bottom, right, top


def inside(store: RunStore, block: RowRange, region: Region) -> NDArray[np.intp]:
    """Return the places in a block of the images that lie in a rectangle of the map."""
    x, y = (zarr_io.read_rows(store.path / layout.LABELS, axis, *block) for axis in ("x", "y"))
    left, bottom, right, top = region
    return np.flatnonzero((x >= left) & (x <= right) & (y >= bottom) & (y <= top))


class Ranking(NamedTuple):
    """Which images, and what they are ranked by.

    Of equal images the less outlying comes first, then the lower row.  Noise
    has no strength, so that its first images are the least outlying.

    Attributes
    ----------
    by : str
        Array of ``labels.zarr``, 0 to 1; the highest come first.
    array : str or None
        Array that chooses the images; None takes all of them.
    value : int
        What it must hold.
    region : tuple of float or None
        Rectangle of the map that chooses the images instead.
    """

    by: str
    array: str | None = None
    value: int = -1
    region: Region | None = None

    @classmethod
    def of_cluster(cls, label: int) -> Ranking:
        """Return the images of a cluster, or of noise, the strongest first."""
        return cls("strength", "label", label)

    @classmethod
    def of_family(cls, family: int) -> Ranking:
        """Return the images of a family, the strongest first."""
        return cls("family_strength", "family", family)

    @classmethod
    def of_region(cls, region: Region) -> Ranking:
        """Return the images in a rectangle of the map, the strongest first."""
        return cls("strength", region=region)

    def read(self, store: RunStore, block: RowRange) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the images of a block and their keys: the lower, the earlier."""
        labels = store.path / layout.LABELS
        here = np.arange(block.n_rows)
        if self.array is not None:
            here = np.flatnonzero(zarr_io.read_rows(labels, self.array, *block) == self.value)
        elif self.region is not None:
            here = inside(store, block, self.region)
        if not len(here):
            return here, np.empty(0, np.uint64)
        by, outlying = (
            zarr_io.read_rows(labels, name, *block)[here] for name in (self.by, "outlier_score")
        )
        return here + block.start, sort_keys(by, outlying)


def sort_keys(by: NDArray[np.float32], outlying: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return numbers that rise as `by` falls, and of equal ones as `outlying` rises.

    The bits of floating-point numbers that are not negative rise with them.

    Examples
    --------
    >>> by, outlying = np.float32([[0.5, 1.0, 0.5], [0.25, 0.75, 0.0]])
    >>> np.argsort(sort_keys(by, outlying)).tolist()
    [1, 2, 0]
    """
    high = ~np.ascontiguousarray(by).view(np.uint32)
    low = np.ascontiguousarray(outlying).view(np.uint32)
    return (high.astype(np.uint64) << np.uint64(32)) | low


def ends(n: int, *, weakest: bool) -> slice:
    """Return what `Ranked` must keep for its first `n` images, or for its last ones."""
    return slice(-n, None) if weakest else slice(n)


class Ranked:
    """Images in order, in a file that vanishes with this object; memory is that of a block.

    Each block of images is sorted by itself, in one pass.  Any stretch of the
    order of all is then found by bisection in the sorted pieces, in milliseconds.

    Parameters
    ----------
    store : RunStore
        A run whose labels are there.
    ranking : Ranking
        Which images, in which order.
    keep : slice
        What can be asked for: ``slice(0, 100)`` is enough for the first hundred,
        ``slice(-100, None)`` for the last; all by default.

    Attributes
    ----------
    n_images : int
        How many there are, whether wanted or not.

    Raises
    ------
    StoreError
        If the disk for temporary files does not take 16 bytes for each.
    """

    def __init__(self, store: RunStore, ranking: Ranking, *, keep: slice = slice(None)) -> None:
        self.n_images = 0
        sizes: list[int] = []
        try:
            with tempfile.TemporaryFile() as file:
                for block in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
                    rows, keys = ranking.read(store, block)
                    order = np.argsort(keys, kind="stable")[keep]
                    self.n_images += len(rows)
                    if len(order):
                        sizes.append(len(order))
                        keys[order].tofile(file)
                        rows[order].tofile(file)
                file.flush()
                stored = np.memmap(file, np.uint64, "r") if sizes else np.empty(0, np.uint64)
        except OSError as err:
            msg = f"{tempfile.gettempdir()} must take 16 bytes for each image of a cluster; the disk refused ({err.strerror or err}). Make room, or set TMPDIR."
            raise StoreError(msg) from None
        pieces = np.split(stored, np.cumsum(np.repeat(sizes, 2))[:-1])
        self._keys = pieces[0 : 2 * len(sizes) : 2]
        self._rows = [piece.view(np.int64) for piece in pieces[1 : 2 * len(sizes) : 2]]
        self._n_kept = sum(sizes)

    def page(self, offset: int, limit: int, *, weakest: bool = False) -> NDArray[np.int64]:
        """Return the rows of some images in their order, or from its end; fewer at the end, none beyond it."""
        start, stop = min(offset, self._n_kept), min(offset + limit, self._n_kept)
        if not weakest:
            return self._between(start, stop)
        return self._between(self._n_kept - stop, self._n_kept - start)[::-1]

    def _between(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows from one place of the order to another."""
        cuts = list(zip(self._first(start), self._first(stop), strict=True))
        keys = [piece[a:b] for piece, (a, b) in zip(self._keys, cuts, strict=True)]
        rows = [piece[a:b] for piece, (a, b) in zip(self._rows, cuts, strict=True)]
        order = np.argsort(np.concatenate([np.empty(0, np.uint64), *keys]), kind="stable")
        found: NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *rows])[order]
        return found

    def _first(self, n: int) -> list[int]:
        """Return how many images of each piece are among the first `n` of all."""
        low, high = 0, 2**64 - 1
        while low < high:
            middle = (low + high) // 2
            if sum(self._up_to(middle, "right")) >= n:
                high = middle
            else:
                low = middle + 1
        counts, ends = self._up_to(low, "left"), self._up_to(low, "right")
        left = n - sum(counts)
        # Of equal keys the lower rows come first, which are those of the earlier pieces.
        for piece, (count, end) in enumerate(zip(counts, ends, strict=True)):
            taken = min(left, end - count)
            counts[piece], left = count + taken, left - taken
        return counts

    def _up_to(self, key: int, side: Any) -> list[int]:
        """Return how many keys of each piece are below a key, or up to it."""
        return [int(np.searchsorted(piece, np.uint64(key), side)) for piece in self._keys]


def strongest_of_each(
    store: RunStore, n: int, clusters: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Return the rising rows of the `n` strongest images of each cluster, and of noise.

    Of all clusters or of some.  One pass; memory is that of a block and of what is returned.
    """
    label, key, row = np.empty(0, np.int32), np.empty(0, np.uint64), np.empty(0, np.int64)
    labels = store.path / layout.LABELS
    for block in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
        rows, keys = Ranking("strength").read(store, block)
        own = zarr_io.read_rows(labels, "label", *block)
        if clusters is not None:
            wanted = np.isin(own, clusters)
            own, rows, keys = own[wanted], rows[wanted], keys[wanted]
        label, key, row = (
            np.concatenate(both) for both in ((label, own), (key, keys), (row, rows))
        )
        order = np.lexsort((row, key, label))
        best = order[ranks_in_groups(label[order]) < n]
        label, key, row = label[best], key[best], row[best]
    return np.sort(row)


def values_at(
    store: RunStore, names: Iterable[str], rows: NDArray[np.int64], *, group: Path | None = None
) -> dict[str, NDArray[Any]]:
    """Return what ``labels.zarr``, or another group with a row for each image, holds of some images, in their order.

    Every block that holds one of them is read once, in order.

    Parameters
    ----------
    store : RunStore
        A run whose labels are there.
    names : iterable of str
        Arrays; those that the run does not have are left out.
    rows : int64 array of shape (n,)
        The images, in any order.
    group : Path, optional
        The other group.

    Returns
    -------
    dict of str to array of shape (n, ...)
        Name -> values; text as ``StringDType``.
    """
    labels = group or store.path / layout.LABELS
    n_samples, block_rows = rows_and_blocks(store)
    order = np.argsort(rows, kind="stable")
    rising, back = rows[order], np.argsort(order, kind="stable")
    # Where most blocks hold some of them, several are read at once: each has its price.
    if len(rows) * block_rows > n_samples:
        block_rows *= max(1, MAX_BLOCK_ROWS // block_rows)
    found = {}
    for name in sorted(set(zarr_io.array_names(labels)) & set(names)):
        parts = [zarr_io.read_rows(labels, name, 0, 0)]
        for first in (np.unique(rising // block_rows) * block_rows).tolist():
            stop = min(first + block_rows, n_samples)
            here = rising[slice(*np.searchsorted(rising, (first, stop)))]
            parts.append(zarr_io.read_rows(labels, name, first, stop)[here - first])
        found[name] = np.concatenate(parts)[back]
    return found


#: What a list of images tells of each: the word for it -> the array of ``labels.zarr``.
TOLD = {
    "path": "path",
    "cluster": "label",
    "family": "family",
    "strength": "strength",
    "outlier_score": "outlier_score",
    "family_strength": "family_strength",
}


def described_rows(store: RunStore, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return what a list of images tells of each, JSON-able: ``sample`` and, where there is one, ``path`` first."""
    found = values_at(store, TOLD.values(), rows)
    columns: Mapping[str, list[Any]] = {"sample": rows.tolist()} | {
        word: found[name].tolist() for word, name in TOLD.items() if name in found
    }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
