"""The pictures that a person is shown: which ones, and each sheet of them read when it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from workflow.chunks import choose_block_rows, row_ranges
from workflow.pipeline.tasks import left_parts, part_path
from workflow.report import Sheet, cluster_sheet, noise_sheet, outlier_sheet
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import ArrayPlace, read_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.pipeline.tasks import LeftPart
    from workflow.report.data import SheetKind
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore

#: Pictures on the sheets of noise and of outliers.
N_ODD = 48
#: Most pictures fetched one by one from the images, for clusters too small to be among the kept ones.
MAX_FETCHED = 600


class Shown(NamedTuple):
    """What a sheet shows.

    Attributes
    ----------
    kind : {"cluster", "noise", "outliers"}
        Of what.
    kept : int64 array
        Numbers of pictures among the kept ones.
    fetched : int64 array
        Rows of images to fetch beside them.
    cluster, size : int
        The cluster, and images that it has; of noise only the images.
    score : float32 array
        Outlier scores of the pictures, of outliers only.
    """

    kind: SheetKind
    kept: NDArray[np.int64]
    fetched: NDArray[np.int64] = np.empty(0, np.int64)
    cluster: int = -1
    size: int = 0
    score: NDArray[np.float32] = np.empty(0, np.float32)


class Sheets(Sequence[Sheet]):
    """Contact sheets: the largest clusters, noise, the strongest outliers.

    Empty where the images are vectors.  Pictures are read, those of one sheet,
    whenever it is asked for: from the files of those kept while the run read
    its images, and from the images themselves where a cluster has too few.

    Parameters
    ----------
    store : RunStore
        A run whose labels are complete.
    images : ImageStore or None
        Where pictures of small clusters are fetched; None shows kept ones only.
    summary : mapping
        Summary of the run.
    n_clusters, n_images : int
        Clusters shown at most, and images of each.
    """

    def __init__(
        self,
        store: RunStore,
        images: ImageStore | None,
        summary: Mapping[str, Any],
        *,
        n_clusters: int,
        n_images: int,
    ) -> None:
        self._image_shape = tuple(store.manifest.images["shape"][1:])
        self._n_samples, self._images = summary["n_samples"], images
        self._shown: list[Shown] = []
        if not is_picture(self._image_shape):
            return
        self._kept = KeptPictures(store)
        labels = _labels_at(store, self._kept.rows)
        # Few clusters of very many are shown, and so are few of their pictures.
        n_shown = min(summary["n_clusters"], n_clusters)
        fetch = _Fetcher(images, *store.read_model("exemplar", "centroid_label"))
        for cluster, size in enumerate(summary["cluster_sizes"][:n_shown]):
            kept = _spread(np.flatnonzero(labels["label"] == cluster), labels, n_images)
            fetched = fetch.rows_of(cluster, min(n_images, size) - len(kept))
            self._shown.append(Shown("cluster", kept, fetched, cluster, size))
        noise = np.flatnonzero(labels["label"] < 0)
        if len(noise):
            n_noise = round(summary["noise_fraction"] * self._n_samples)
            self._shown.append(Shown("noise", _spread(noise, labels, N_ODD), size=n_noise))
        odd = np.argsort(-labels["outlier_score"], kind="stable")[:N_ODD]
        self._shown.append(Shown("outliers", odd, score=labels["outlier_score"][odd]))

    def __len__(self) -> int:
        """Return how many sheets there are."""
        return len(self._shown)

    @overload
    def __getitem__(self, index: int) -> Sheet: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sheet]: ...
    def __getitem__(self, index: int | slice) -> Sheet | list[Sheet]:
        """Return a sheet with its pictures."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        shown = self._shown[index]
        pictures = self._kept.pictures(shown.kept)
        if len(shown.fetched):
            assert self._images is not None
            read = [self._images.read(int(row), int(row) + 1) for row in shown.fetched]
            pictures = np.concatenate([pictures, *read])
        pictures = pictures.reshape(-1, *self._image_shape)
        if shown.kind == "cluster":
            return cluster_sheet(shown.cluster, shown.size, self._n_samples, pictures)
        if shown.kind == "noise":
            return noise_sheet(shown.size, self._n_samples, pictures)
        return outlier_sheet(pictures, shown.score)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape can be looked at."""
    return len(shape) in (2, 3) and min(shape[:2]) > 1


class KeptPictures:
    """The pictures that were kept while images were read, in the files that tasks left.

    Attributes
    ----------
    rows : int64 array of shape (n_kept,)
        Rising rows of their images.
    """

    def __init__(self, store: RunStore) -> None:
        self._folder = layout.kept_images(store.path)
        self._parts = left_parts(store.journal("projection", "blocks").entries)
        self._places: dict[int, ArrayPlace] = {}
        rows = [self._rows_of(part) for part in self._parts]
        self._first = np.cumsum([0] + [len(some) for some in rows])
        self.rows: NDArray[np.int64] = np.concatenate(rows)

    def _rows_of(self, part: LeftPart) -> NDArray[np.int64]:
        """Return the rows of the pictures of a partition, whose file is compared with its checksum."""
        path = part_path(self._folder, part.partition)
        return read_arrays(path, part.file_crc, ["row"])["row"]

    def pictures(self, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Return pictures by their numbers, in this order; nothing else is read."""
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        place = np.searchsorted(self._first, ordered, side="right") - 1
        found = []
        # One file at least, for the shape and the type of pictures of which there is none.
        for number in np.unique(place).tolist() if len(place) else [0]:
            if number not in self._places:
                path = part_path(self._folder, self._parts[number].partition)
                self._places[number] = ArrayPlace.find(path, "images")
            here = ordered[place == number] - self._first[number]
            found.append(self._places[number].read(here))
        read = np.concatenate(found)
        pictures = np.empty_like(read)
        pictures[order] = read
        return pictures


def _spread(
    members: NDArray[np.int64], labels: Mapping[str, NDArray[Any]], n: int
) -> NDArray[np.int64]:
    """Return some of the kept pictures from the middle of a cell outwards, evenly spread."""
    ranked = members[np.argsort(labels["distance"][members], kind="stable")]
    picked: NDArray[np.int64] = ranked[
        np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(int)
    ]
    return picked


def _labels_at(store: RunStore, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return label, distance and outlier score at rising rows, a block at a time."""
    labels = store.path / layout.LABELS
    names = ("label", "distance", "outlier_score")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for block in row_ranges(store.manifest.images["shape"][0], choose_block_rows(1)):
        here = rows[slice(*np.searchsorted(rows, block))]
        if not len(here):
            continue
        for name in names:
            parts[name].append(zarr_io.read_rows(labels, name, *block)[here - block.start])
    return {name: np.concatenate(values) for name, values in parts.items()}


class _Fetcher:
    """Chooses single images of small clusters: those nearest to their centroids."""

    def __init__(
        self, images: ImageStore | None, exemplar: NDArray[np.int64], label: NDArray[np.int32]
    ) -> None:
        self.exemplar, self.label = exemplar, label
        self.left = MAX_FETCHED if images is not None else 0

    def rows_of(self, cluster: int, n: int) -> NDArray[np.int64]:
        """Return up to `n` rows of a cluster, as long as there are some left to fetch."""
        rows = self.exemplar[self.label == cluster].ravel()
        rows = np.unique(rows[rows >= 0])[: max(0, min(n, self.left))]
        self.left -= len(rows)
        return rows
