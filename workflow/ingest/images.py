"""What a user gives as images: read in place where that can be, else copied into the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import ImagesError
from workflow.ingest import (
    ArraySource,
    DaskSource,
    DemoSource,
    ImageSource,
    IngestReport,
    ingest,
    open_source,
)
from workflow.runstore import zarr_io
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from workflow.engine.executor import Executor
    from workflow.runstore.zarr_io import ImageStore
    from workflow.steps.ingest import IngestSettings


@dataclass(frozen=True, slots=True)
class ImagesInput:
    """Images as they were given.

    Attributes
    ----------
    name : str
        What to call them in messages.
    store : ImageStore or None
        The images, where they can be read in place.
    source : ImageSource or None
        Where to copy them from otherwise.
    fingerprint : dict
        What tells them from other images: JSON-able.
    """

    name: str
    store: ImageStore | None
    source: ImageSource | None
    fingerprint: dict[str, Any]

    @property
    def digest(self) -> str:
        """Digest of the fingerprint."""
        return digest(self.fingerprint)

    @property
    def n_samples(self) -> int:
        """Number of images; of a folder, the number of files."""
        known = self.store or self.source
        assert known is not None
        return known.n_samples

    @property
    def n_features(self) -> int:
        """Numbers in one image."""
        known = self.store or self.source
        assert known is not None
        return known.n_features

    @property
    def n_bytes(self) -> int:
        """Bytes of all images; of a folder of compressed ones, when they are decoded."""
        known = self.store or self.source
        assert known is not None
        return self.n_samples * self.n_features * known.dtype.itemsize

    @property
    def path(self) -> Path | None:
        """Where the images lie, when they are read in place."""
        return None if self.store is None else self.store.path


def open_input(images: Any, settings: IngestSettings) -> ImagesInput:
    """Open whatever the user gave.

    Parameters
    ----------
    images : path, ndarray, dask.array.Array or xarray.DataArray
        The images.
    settings : IngestSettings
        How to read what is neither Zarr nor .npy.

    Returns
    -------
    ImagesInput
        Opened, nothing copied yet.

    Raises
    ------
    ImagesError
        If they are missing, no images, or not of a known kind.
    """
    if isinstance(images, DemoSource):
        return ImagesInput("the demo images", None, images, images.fingerprint())
    if hasattr(images, "fingerprint"):
        return ImagesInput("the images", None, images, images.fingerprint())
    if not isinstance(images, str | Path):
        source = array_source(images)
        return ImagesInput("the array", None, source, source.fingerprint())
    if not str(images).strip():
        msg = "IMAGES must be a path; got an empty text. Give the path of the images."
        raise ImagesError(msg)
    if zarr_io.is_readable_in_place(images):
        store = zarr_io.open_images(images)
        return ImagesInput(str(Path(images).absolute()), store, None, zarr_io.fingerprint(store))
    source = open_source(
        str(images),
        shape=settings.shape,
        dtype=settings.dtype,
        on_unreadable=settings.on_unreadable,
    )
    return ImagesInput(str(images), None, source, source.fingerprint())


def array_source(images: Any) -> ImageSource:
    """Return the source that copies an array in memory or a Dask array."""
    if hasattr(images, "data_vars"):
        if "images" not in images:
            msg = f"a Dataset must hold `images`; got {', '.join(map(str, images.data_vars)) or 'nothing'}. Pass dataset[NAME]."
            raise ImagesError(msg)
        images = images["images"]
    data = images.data if hasattr(images, "dims") else images
    if not hasattr(data, "__array__"):
        msg = f"images must be a path or an array; got a {type(images).__name__}. Pass a NumPy, Dask or xarray array."
        raise ImagesError(msg)
    return DaskSource(data) if hasattr(data, "dask") else ArraySource(data)


def ingest_images(given: ImagesInput, place: Path, executor: Executor) -> IngestReport:
    """Copy images that cannot be read in place; a copy that is whole is used as it is.

    Parameters
    ----------
    given : ImagesInput
        Images with a source.
    place : Path
        The Zarr store to write.
    executor : Executor
        Runs the tasks.

    Returns
    -------
    IngestReport
        What was copied and what could not be read.
    """
    assert given.source is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    with (
        executor.progress.bar("ingest", given.n_samples) as bar,
        executor.as_dask_scheduler(),
    ):
        return ingest(given.source, place, mapper=executor, on_progress=bar.advance)
