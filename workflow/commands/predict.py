"""predict: labels for new images, by the code that labelled the old ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtrc

from workflow.chunks import choose_block_rows
from workflow.commands.base import (
    client_for,
    clusters_back,
    executor_for_bytes,
    open_new,
    readable_images,
    require_labels,
    stored_config,
)
from workflow.engine.context import named_group
from workflow.engine.partitions import partitions
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.formatting import format_count
from workflow.labels import label_rows
from workflow.mapper import SerialMapper
from workflow.overcluster import NearestCentroids
from workflow.runstore import RunStore, paths, zarr_io
from workflow.runstore.files import discard
from workflow.runstore.journal import Journal
from workflow.runstore.manifest import digest
from workflow.steps.base import read_ahead
from workflow.steps.labels import (
    LABELS,
    Chosen,
    FoundBlock,
    Labeller,
    LabelsSettings,
    LabelsStep,
    labels_are_families,
    stored_labels,
    write_labels,
)
from workflow.steps.map import ROWS as MAP_ROWS
from workflow.steps.map import Placer, place_images, places_of, stored_points
from workflow.steps.overcluster import N_NEAREST, stored_search
from workflow.steps.parts.cluster_names import KEY
from workflow.steps.parts.clusters.counts import reported_counts
from workflow.steps.parts.far_out import stored_usual_distance
from workflow.steps.parts.features import Features
from workflow.steps.projection import Basis, stored_transform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    import xarray as xr
    from distributed import Client
    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.engine.executor import Executor, StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.engine.progress import Progress
    from workflow.mapper import Mapper, Rows
    from workflow.runstore.zarr_io import ImageStore

#: Share of new images that lie far out although they are like the run's.  More than the 1 % of those:
#: no centroid was placed by them.  1.2 to 3 % of other images of the demo, some 5 % of pure noise
#: in 50 components.
LIKE_SHARE = 0.05
#: From so large a share on new images are unlike the run's, where that is not by chance.
UNLIKE_SHARE, CHANCE = 0.1, 0.051


def predict(
    run: Path | str,
    images: Any,
    out: Path | str,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write labels for images that the run has not seen.

    Parameters
    ----------
    run : path
        A run with labels.
    images : path or array
        New images, of the shape and dtype of the run's.
    out : path
        Where the labels are written: a Zarr group like ``labels.zarr``.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        Number of images, noise share, number of clusters met, where the labels are; the names
        of the run's clusters, where some have one (``cluster_names``); and
        ``n_far_out``, how many lie farther from their centroid than ``usual_distance``, which
        99 % of the run's images do not exceed (None where the run tells no more).

    Raises
    ------
    StoreError
        If the run has no labels, or `out` is something else than a labels store.
    ImagesError
        If the images are not like those of the run.
    """
    store, config = _open_labelled(run, overrides)
    paths.require_local("`--out`", out)
    target = Path(out).absolute()
    given = open_new(store, images, config)
    client = client_for(given, client)
    _require_place_for_labels(target)
    work = target.with_name(f"{target.name}.{given.digest}.work")
    with executor_for_bytes(work / "shared", config, client, given.n_bytes, progress) as executor:
        opened = readable_images(store, given, work, executor)
        found = _predict(store, config, executor, opened, target)
    discard(work)
    return found


def _open_labelled(
    run: Path | str, overrides: Mapping[str, Any] | None = None
) -> tuple[RunStore, Config]:
    """Open a run that has clusters as labels, with its settings."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    require_labels(store)
    if labels_are_families(store):
        msg = f"`predict` must have clusters as labels; those of {store.path} are families, which are found among the images of the run alone. Bring clusters back: {clusters_back(config)}."
        raise ConfigError(msg)
    return store, config


def _require_place_for_labels(target: Path) -> None:
    """Refuse to overwrite what is not a labels store."""
    if target.suffix != ".zarr":
        msg = f"`--out` must name a Zarr store, LABELS.zarr; got {target.name}. Add .zarr."
        raise StoreError(msg)
    if target.exists() and (not target.is_dir() or "label" not in zarr_io.array_names(target)):
        msg = (
            f"`--out` must be new or a labels store; {target} is something else. Give another path."
        )
        raise StoreError(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        msg = f"`--out` must lie where it can be written; {target.parent} cannot ({err.strerror}). Give another path."
        raise StoreError(msg) from None


def _predict(
    store: RunStore, config: Config, executor: Executor, images: ImageStore, target: Path
) -> dict[str, Any]:
    """Label the images; the labels are moved to their place when they are whole."""
    (centroids,) = store.read_model("centroids")
    usual_distance, points = stored_usual_distance(store), stored_points(store)
    attrs, settings = store.model_attrs("projection"), config.section(LabelsSettings)
    partial = target.with_name(f"{target.name}.partial")
    journal_file = partial.with_name(f"{partial.name}.jsonl")
    if not partial.is_dir():
        # The labels that it tells of were moved to their place already, or never were.
        journal_file.unlink(missing_ok=True)
    key = digest(
        {
            "images": images.fingerprint(),
            "model": store.step("labels").key,
            "cut": store.manifest.cut,
            "labels": settings.model_dump(mode="json"),
            "version": LabelsStep.version,
            # What another version began lacks arrays of this one.
            "arrays": list(LABELS | (MAP_ROWS if points else {})),
            "map": store.step("map").key,
            "usual_distance": usual_distance,
        }
    )
    journal = Journal(journal_file, key)
    if not journal.entries:
        discard(partial)
    names = named_group(images)
    shared = executor.share({"centroids": centroids, **points})
    task = PredictTask(
        images=images,
        basis=stored_basis(store, executor),
        dtype=attrs["dtype"],
        centroids=shared,
        labeller=Labeller.of(
            executor,
            Chosen(stored_labels(store)),
            settings.rule,
            partial,
            names,
            usual_distance=usual_distance,
            placer=Placer(shared) if points else None,
        ),
    )
    block_rows = choose_block_rows(images.n_features, images.stored_rows)
    parts = partitions(images.n_samples, block_rows)
    reports = write_labels(executor, "predict", task, parts, journal)
    counts, far_out = (
        reported_counts(reports),
        {"n_far_out": None, "usual_distance": usual_distance},
    )
    if usual_distance is not None:
        far_out["n_far_out"] = sum(report["n_far_out"] for report in reports.values())
        zarr_io.write_attrs(partial, far_out)
        zarr_io.consolidate(partial)
    discard(target)
    partial.replace(target)
    journal_file.unlink()
    return {
        "n_samples": images.n_samples,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / images.n_samples,
        "labels": str(target),
        **far_out,
        **({KEY: names} if (names := store.step("labels").details.get(KEY)) else {}),
    }


def stored_basis(store: RunStore, mapper: Mapper, *, transforms: bool = True) -> Basis:
    """Return what scores of new images are made with, as they are read, or as they are stored; tasks share it."""
    names = ("mean", "components", "variance")
    arrays = store.read_model(*(f"projection_{name}" for name in names))
    basis = dict(zip(names, arrays, strict=True))
    transform = stored_transform(store) if transforms else None
    if transform is not None:
        basis["transform"] = transform
    attrs = store.model_attrs("projection")
    # Runs of earlier versions do not say.
    features = Features(attrs.get("normalize", False))
    image_shape = tuple(store.manifest.images["shape"][1:])
    return Basis(mapper.share(basis), attrs["whiten"], image_shape, features)


class Model:
    """The model of a run, held in memory: labels one image or many at once, without Dask or a disk.

    Parameters
    ----------
    run : path
        A run with labels.  What becomes of it later does not matter.

    Attributes
    ----------
    image_shape : tuple of int
        Shape of one image.
    dtype : numpy.dtype
        Type of its values.
    n_clusters : int
        Number of clusters, noise not counted.
    usual_distance : float or None
        Distance to the nearest centroid that 99 % of the run's images do not exceed [score];
        None where the run does not tell.

    Raises
    ------
    StoreError
        If the run has no labels.
    ConfigError
        If its labels are families.
    """

    def __init__(self, run: Path | str) -> None:
        store, config = _open_labelled(run)
        (centroids,) = store.read_model("centroids")
        known, points = store.manifest.images, stored_points(store)
        self.image_shape: tuple[int, ...] = tuple(known["shape"][1:])
        self.dtype = np.dtype(known["dtype"])
        self.usual_distance = stored_usual_distance(store)
        self._basis = stored_basis(store, SerialMapper())
        self._score_dtype = store.model_attrs("projection")["dtype"]
        self._search = NearestCentroids.build(centroids)
        self._labels = stored_labels(store)
        self._rule = config.section(LabelsSettings).rule
        self._places = places_of({"centroids": centroids, **points}) if points else None
        has_landmarks = "landmarks" in points
        self._landmarks = NearestCentroids.build(points["landmarks"]) if has_landmarks else None
        self.n_clusters = int(self._labels.label_resolved.max(initial=-1)) + 1

    def predict(self, images: Any) -> xr.Dataset:
        """Label images.

        Parameters
        ----------
        images : array of shape image_shape, or (n_samples, ...)
            One image or many, of the run's type.

        Returns
        -------
        xarray.Dataset
            One row for each image, with the arrays that the command ``predict`` writes, in memory, and the
            same to the last bit.

        Raises
        ------
        ImagesError
            If the images are of another shape or type, or a value is NaN or infinite.
        """
        import xarray as xr

        block = self._block(images)
        scores = self._basis.project(block, 0, self._score_dtype).astype(np.float32, copy=False)
        nearest, sq_distance = self._search.query(scores, k=N_NEAREST)
        found = label_rows(nearest, sq_distance, self._labels, **self._rule._asdict())
        arrays = {name: (spec, getattr(found, name)) for name, spec in LABELS.items()}
        if self._places is not None:
            placed = place_images(self._places, self._landmarks, scores, nearest)
            arrays |= {name: (spec, placed[name]) for name, spec in MAP_ROWS.items()}
        return xr.Dataset(
            {
                name: (spec.dims, array, {"units": spec.unit, "long_name": spec.description})
                for name, (spec, array) in arrays.items()
            },
            {"sample": np.arange(len(block))},
        )

    def _block(self, images: Any) -> NDArray[Any]:
        """Return images as rows; refuse others than those of the run."""
        values = np.asarray(images)
        if values.shape == self.image_shape:
            values = values[None]
        if values.shape[1:] != self.image_shape or values.dtype != self.dtype:
            expected = f"{self.image_shape} of {self.dtype}, or many of them"
            msg = f"new images must be like those of the run, {expected}; got {values.shape} of {values.dtype}. Convert them first."
            raise ImagesError(msg)
        return np.ascontiguousarray(values).reshape(len(values), math.prod(self.image_shape))


def predict_stream(model: Model, stream: BinaryIO) -> Iterator[xr.Dataset]:
    """Yield the labels of each block of images of a stream, as soon as it has come.

    Parameters
    ----------
    model : Model
        What labels them.
    stream : binary file
        Arrays as `numpy.save` writes them, one after the other.

    Yields
    ------
    xarray.Dataset
        As `Model.predict`; `sample` counts on from block to block.

    Raises
    ------
    ImagesError
        If the stream holds something else or ends within a block, or as `Model.predict`.
    """
    n_before = 0
    while start := stream.read(1):
        try:
            block = np.lib.format.read_array(_Begun(start, stream), allow_pickle=False)
        except (ValueError, EOFError) as err:
            reason = (str(err).splitlines() or ["it ends early"])[0].rstrip(".")
            msg = f"standard input must hold arrays as numpy.save writes them; after {format_count(n_before, 'image')} it does not ({reason}). Send whole blocks."
            raise ImagesError(msg) from None
        labels = model.predict(block)
        yield labels.assign_coords(sample=labels["sample"] + n_before)
        n_before += labels.sizes["sample"]


class _Begun:
    """A stream, of which some bytes were read: NumPy reads it as a stream, for it is no file."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self.start, self.stream = start, stream

    def read(self, n_bytes: int = -1, /) -> bytes:
        """Return up to so many bytes."""
        start, self.start = self.start, b""
        return start + self.stream.read(n_bytes - len(start) if n_bytes >= 0 else n_bytes)


def far_out_sentence(found: Mapping[str, Any]) -> str:
    """Return what `predict` found of images farther out than the run's; empty where nothing is known."""
    n_far, n = found["n_far_out"], found["n_samples"]
    if n_far is None:
        return ""
    what = "farther from the nearest centroid than 99 % of the run's images"
    if not n_far:
        return f"None lies {what}."
    lie = "lies" if n_far == 1 else "lie"
    text = f"{n_far:,} of {format_count(n, 'image')} ({n_far / n:.1%}) {lie} {what}"
    if is_unlike(found):
        return f"{text}: the run has hardly seen their like, and their labels say little."
    return f"{text}; up to {LIKE_SHARE:.0%} do of new images that are like the run's."


def is_more(n: int, n_samples: int, most: float, usual: float) -> bool:
    """Return whether more than a share of images are of some kind, and that is not by chance.

    Parameters
    ----------
    n, n_samples : int
        Images of the kind, and all.
    most : float
        The share.
    usual : float
        Chance of each image to be of the kind, where nothing has changed.

    Returns
    -------
    bool
        Of one image alone the usual chance may decide.
    """
    return n > most * n_samples and bool(bdtrc(n - 1, n_samples, usual) < CHANCE)


def is_unlike(found: Mapping[str, Any]) -> bool:
    """Return whether more than a tenth of the images lie far out, and that is not by chance (5 %)."""
    return is_more(found["n_far_out"] or 0, found["n_samples"], UNLIKE_SHARE, LIKE_SHARE)


@dataclass(frozen=True, slots=True)
class PredictTask:
    """Labels of new images: the projection, the search and the labels of a run, in one go."""

    images: Rows
    basis: Basis
    dtype: str
    centroids: StoredArrays
    labeller: Labeller

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Read each block once and write its labels."""
        return self.labeller.write(self._found(partition), partition)

    def _found(self, partition: Partition) -> Iterator[FoundBlock]:
        """Yield what is found of each block."""
        search = stored_search(self.centroids)
        for rows, block in read_ahead(self.images, partition.blocks):
            # Rounded as the run's scores were stored, so that equal images get equal labels.
            scores = self.basis.project(block, rows.start, self.dtype)
            scores = scores.astype(np.float32, copy=False)
            yield FoundBlock(rows, *search.query(scores, k=N_NEAREST), block.nbytes, scores)
