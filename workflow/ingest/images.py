"""What a user gives as images: read in place where that can be, else to be copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import ImagesError
from workflow.ingest.arrays import array_source
from workflow.ingest.embedding import embedded_by, open_source
from workflow.ingest.source import Source, readable
from workflow.runstore import zarr_io
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from distributed import Client

    from workflow.runstore.paths import Place


@dataclass(frozen=True, slots=True)
class ImagesInput:
    """Images as they were given.

    Attributes
    ----------
    name : str
        What to call them in messages.
    source : Source
        The images.
    fingerprint : dict
        What tells them from other images: JSON-able.
    """

    name: str
    source: Source
    fingerprint: dict[str, Any]

    @property
    def store(self) -> zarr_io.ImageStore | None:
        """The images, where they can be read in place; None where they must be copied."""
        return self.source if isinstance(self.source, zarr_io.ImageStore) else None

    @property
    def path(self) -> Place | None:
        """Where the images lie, when they are read in place."""
        return None if self.store is None else self.store.path

    @property
    def client(self) -> Client | None:
        """The Dask client whose workers hold the images, None where they lie elsewhere."""
        return getattr(self.source, "client", None)

    @property
    def digest(self) -> str:
        """Digest of the fingerprint."""
        return digest(self.fingerprint)

    @property
    def n_samples(self) -> int:
        """Number of images; of a folder, the number of files."""
        return self.source.n_samples

    @property
    def n_features(self) -> int:
        """Number of values of one image."""
        return self.source.n_features

    @property
    def n_bytes(self) -> int:
        """Bytes of all images, decoded."""
        return self.n_samples * self.n_features * self.source.dtype.itemsize


@readable()
def open_input(
    images: Any,
    *,
    like: tuple[tuple[int, ...], str] | None = None,
    model: str | None = None,
    **how: Any,
) -> ImagesInput:
    """Open whatever the user gave.

    Parameters
    ----------
    images : path, ndarray, dask.array.Array, xarray.DataArray or Source
        The images.
    like, **how : optional
        How to read what is neither Zarr nor .npy, as `open_source` takes it.
    model : str, optional
        An ONNX file: what is opened are the vectors that it gives of the images.

    Returns
    -------
    ImagesInput
        Opened, nothing copied yet.

    Raises
    ------
    ImagesError
        If they are missing, no images, or not of a known kind.
    """
    if not isinstance(images, str | Path):
        source = images if isinstance(images, Source) else array_source(images)
        name = getattr(source, "name", "the images")
        zarr_io.check_images(name, (source.n_samples, *source.image_shape), source.dtype)
        if model is not None:
            source = embedded_by(source, model)
    else:
        if not str(images).strip():
            msg = "IMAGES must be a path; got an empty text. Give the path of the images."
            raise ImagesError(msg)
        in_place = model is None and zarr_io.is_readable_in_place(images)
        source = (
            open_source(images) if in_place else open_source(images, model=model, like=like, **how)
        )
        name = zarr_io.full_name(images) if in_place else str(images)
    return ImagesInput(name, source, source.fingerprint())
