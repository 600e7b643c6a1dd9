"""A source around a source: the vectors that a model, or any function, gives of images."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle
import numpy as np

from workflow.chunks import RowRange, choose_block_rows, row_ranges
from workflow.errors import ImagesError, WorkflowError, one_line
from workflow.ingest.readers import open_source as open_images
from workflow.ingest.source import BaseSource, has_paths, is_scattered, prepared
from workflow.ingest.source import remarks as remarks_of
from workflow.rng import generator
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Source
    from workflow.mapper import PartitionRunner

#: Images that are read together for several batches, in bytes.
READ_BYTES = 32 * 2**20
#: Vectors cost far more time than disk: many small files, so that many workers have work and a kill
#: costs little; but at least so many vectors each.
SHARDS, LEAST_SHARD_ROWS = 1024, 256
#: Images that a function is given at a time by default.
BATCH_ROWS = 64
#: Where the function lies for the workers, in the working folder of a copy.
PICKLED = "embed.pickle"
#: Images that shape and type of the vectors are found by are drawn: black ones may have no vector.
_PROBE_STREAM = "embedding"


class Embedder(Protocol):
    """Turns images into vectors; pickles to a few hundred bytes once it is `stored`."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of the images that it takes; None where it takes several, or does not say."""

    @property
    def batch_rows(self) -> int:
        """Images of a call."""

    def identity(self) -> dict[str, Any]:
        """Return what tells it from others: JSON-able, the same at every call."""

    def stored(self, folder: Path) -> Embedder:
        """Put what workers need into a folder that they see."""

    def embed(self, images: NDArray[Any]) -> Any:
        """Return a vector for each image, of shape (n_images, ...).

        Parameters
        ----------
        images : ndarray of shape (n_images, ...)
            At most `batch_rows` images, as they are stored.
        """


def open_source(
    spec: str | os.PathLike[str],
    *,
    model: str | None = None,
    dtype: str | None = None,
    like: tuple[tuple[int, ...], str] | None = None,
    **how: Any,
) -> Source:
    """Open images of any supported format, or the vectors that a model gives of them.

    Parameters
    ----------
    spec : path-like
        The images.
    model : str, optional
        An ONNX file.
    dtype, like, **how : optional
        As `workflow.ingest.readers.open_source` takes them; by default pictures get the shape that
        the model takes.

    Returns
    -------
    Source
        Nothing is read yet.

    Raises
    ------
    ImagesError
        If images or model are missing or damaged, or do not fit together.
    """
    if model is None:
        return open_images(spec, dtype=dtype, like=like, **how)
    embedder = _model(model)
    if embedder.image_shape is not None:
        # New images are like those of the run before the model saw them.
        like = (embedder.image_shape, dtype or "uint8")
    return embedded(open_images(spec, dtype=dtype, like=like, **how), embedder)


def embedded_by(source: Source, model: str) -> EmbeddedSource:
    """Return the vectors that the model in a file gives of images."""
    return embedded(source, _model(model))


def _model(model: str) -> Embedder:
    """Open a model; its library is an extra, and only here needed."""
    from workflow.ingest.onnx_model import open_model

    return open_model(model)


def embedded(source: Source, embedder: Embedder) -> EmbeddedSource:
    """Return the vectors of images; their shape and type are those of one batch of made-up images.

    Parameters
    ----------
    source : Source
        The images.
    embedder : Embedder
        The model or function.

    Returns
    -------
    EmbeddedSource
        Vectors of shape (n_samples, n_features).

    Raises
    ------
    ImagesError
        If it does not take such images, or does not give a vector for each.
    """
    rng = generator(0, _PROBE_STREAM)
    shape = (min(embedder.batch_rows, 2), *source.image_shape)
    high = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1
    images = (rng.random(shape) * high).astype(source.dtype)
    vectors = _vectors(embedder, images)
    zarr_io.check_images(f"what {embedder.name} returns", vectors.shape, vectors.dtype)
    return _wrapped(source, embedder, vectors.shape[1:], vectors.dtype)


@dataclass(frozen=True)
class EmbeddedSource(BaseSource):
    """The vectors of the images of a source."""

    source: Source
    embedder: Embedder

    def remarks(self) -> list[str]:
        """Return what the user should know of the images."""
        return remarks_of(self.source)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprints of the images and of the model."""
        return {
            "kind": "vectors",
            **self.shape_and_type(),
            "source": self.source.fingerprint(),
            "model": self.embedder.identity(),
        }

    def prepare(self, folder: Path, runner: PartitionRunner) -> EmbeddedSource:
        """Prepare the images, and put the model where workers see it."""
        source = prepared(self.source, folder, runner)
        return _wrapped(source, self.embedder.stored(folder), self.image_shape, self.dtype)

    @property
    def shard_rows(self) -> int:
        """Vectors of a file of a copy: a power of two that depends on the data alone."""
        most = choose_block_rows(self.n_features)
        if is_scattered(self.source):
            # Images are handed over by whole shards.
            most = min(most, max(1, READ_BYTES // _image_bytes(self.source)))
        rows = min(max(self.n_samples // SHARDS, LEAST_SHARD_ROWS), most)
        return 1 << (rows.bit_length() - 1)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the vectors of images `start` to `stop`, some images at a time.

        Raises
        ------
        ImagesError
            If the model fails, or a vector holds NaN or infinity.
        """
        batch = self.embedder.batch_rows
        rows = batch * max(1, READ_BYTES // (batch * _image_bytes(self.source)))
        found = np.empty((stop - start, self.n_features), self.dtype)
        for first, last in row_ranges(stop - start, rows):
            images = self.source.read(start + first, start + last)
            found[first:last] = self.of_images(images, start + first)
        return found

    def of_images(self, images: NDArray[Any], first_row: int) -> NDArray[Any]:
        """Return the vectors of images, which are rows; the first one is image `first_row`."""
        shape = self.source.image_shape
        found = np.empty((len(images), self.n_features), self.dtype)
        for first, last in row_ranges(len(images), self.embedder.batch_rows):
            some = images[first:last].reshape(last - first, *shape)
            vectors = _vectors(self.embedder, some)
            if vectors.shape[1:] != self.image_shape or vectors.dtype != self.dtype:
                msg = f"vectors must all be alike; {self.embedder.name} gave {self.dtype} of shape {self.image_shape} before and {vectors.dtype} of shape {vectors.shape[1:]} for images {first_row + first} to {first_row + last - 1}. Let it return one shape and type."
                raise ImagesError(msg)
            bad = ~np.isfinite(vectors).all(axis=1)
            if bad.any():
                row = int(bad.argmax())
                value = vectors[row][~np.isfinite(vectors[row])][0]
                msg = f"vectors must hold finite values; {self.embedder.name} gave {value:g} for image {first_row + first + row}. Repair or drop that image, or correct the model{'' if self.dtype != np.float16 else '; float16 ends at 65504'}."
                raise ImagesError(msg)
            found[first:last] = vectors
        return found


@dataclass(frozen=True)
class NamedEmbeddedSource(EmbeddedSource):
    """The vectors of images that have file names."""

    def read_paths(self, start: int, stop: int) -> list[str]:
        """Return the file names of images."""
        names: list[str] = self.source.read_paths(start, stop)  # type: ignore[attr-defined]
        return names

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the files that were left out."""
        left_out: list[tuple[str, str]] = self.source.unreadable()  # type: ignore[attr-defined]
        return left_out


@dataclass(frozen=True)
class ScatteredEmbeddedSource(EmbeddedSource):
    """The vectors of images that are in memory, made where those are."""

    @property
    def client(self) -> Any:
        """The Dask client whose workers hold the images, None where they lie elsewhere."""
        return getattr(self.source, "client", None)

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], Any], ranges: Sequence[RowRange]
    ) -> list[Any]:
        """Return ``[function(r, vectors of r) for r in ranges]``."""
        # Without the images: they come block by block.
        bare = replace(
            self, source=_Shape(self.n_samples, self.source.image_shape, self.source.dtype)
        )
        results: list[Any] = self.source.map_blocks(_OfBlock(function, bare), ranges)  # type: ignore[attr-defined]
        return results


@dataclass(frozen=True)
class _OfBlock:
    """Calls a function with the vectors of a block of images."""

    function: Callable[[RowRange, NDArray[Any]], Any]
    vectors: EmbeddedSource

    def __call__(self, rows: RowRange, images: NDArray[Any]) -> Any:
        """Return what the function returns."""
        return self.function(rows, self.vectors.of_images(images, rows.start))


@dataclass(frozen=True)
class _Shape(BaseSource):
    """What is left of a source when its images are handed over."""

    def fingerprint(self) -> dict[str, Any]:
        """Return shape and type."""
        return self.shape_and_type()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read nothing."""
        raise NotImplementedError


def _wrapped(
    source: Source, embedder: Embedder, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> EmbeddedSource:
    """Return the vectors of a source, with file names where it has some."""
    kind = EmbeddedSource
    if is_scattered(source):
        kind = ScatteredEmbeddedSource
    elif has_paths(source):
        kind = NamedEmbeddedSource
    return kind(source.n_samples, shape, dtype, source, embedder)


def _image_bytes(source: Source) -> int:
    """Return the bytes of an image."""
    return source.n_features * source.dtype.itemsize


def _vectors(embedder: Embedder, images: NDArray[Any]) -> NDArray[Any]:
    """Return the vectors of a batch; refuse what are none."""
    try:
        found = np.asarray(embedder.embed(images))
    except WorkflowError:
        raise
    except Exception as err:
        msg = f"{embedder.name} must take images of shape {images.shape[1:]}, {len(images)} at a time; it raised {type(err).__name__}: {one_line(err)[:300]}. Correct it, or give other images."
        raise ImagesError(msg) from err
    is_vector = found.ndim > 1 and len(found) == len(images)
    if not is_vector or sum(n > 1 for n in found.shape[1:]) > 1 or not found.size:
        msg = f"{embedder.name} must return a vector for each image; of {len(images)} images it made an array of shape {found.shape}. Name another output, or let it return shape (n_images, n_features)."
        raise ImagesError(msg)
    return np.ascontiguousarray(found.reshape(len(found), math.prod(found.shape[1:])))


@dataclass(frozen=True)
class FunctionEmbedder:
    """A function of the user, pickled once; see `Embedder`."""

    pickled: bytes
    batch_rows: int
    version: str | None
    name: str
    image_shape: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        function: Callable[[Any], Any] | object,
        *,
        batch_rows: int | None = None,
        version: str | None = None,
    ) -> FunctionEmbedder:
        """Pickle a function.

        Parameters
        ----------
        function : callable
            Takes images of shape (n_images, ...), returns vectors of shape (n_images, n_features).
        batch_rows : int, optional
            Images of a call, at most; 64 by default.
        version : str, optional
            What tells it from others; by default its pickled bytes.

        Returns
        -------
        FunctionEmbedder
            The function.

        Raises
        ------
        ImagesError
            If it is no function, or cannot be sent to workers.
        """
        name = f"`{getattr(function, '__name__', type(function).__name__)}`"
        if not callable(function):
            msg = f"`model` must be the path of an ONNX file or a function of a batch of images; got a {type(function).__name__}. Pass one of these."
            raise ImagesError(msg)
        batch_rows = BATCH_ROWS if batch_rows is None else batch_rows
        if batch_rows < 1:
            msg = (
                f"`batch_rows` must be at least 1; got {batch_rows}. Leave it out for {BATCH_ROWS}."
            )
            raise ImagesError(msg)
        try:
            pickled = cloudpickle.dumps(function)
        except Exception as err:
            msg = f"{name} must be a function that can be sent to workers; pickling it failed ({one_line(err)[:300]}). Let it open what it needs when it is called."
            raise ImagesError(msg) from err
        return cls(pickled, batch_rows, version, name)

    def identity(self) -> dict[str, Any]:
        """Return the version, or a digest of the function."""
        return {"function": self.version or _digest(self.pickled), "batch_rows": self.batch_rows}

    def stored(self, folder: Path) -> StoredFunction:
        """Write the function once for all workers.

        Parameters
        ----------
        folder : Path
            A folder that workers see.

        Returns
        -------
        StoredFunction
            What workers load.
        """
        place = folder / PICKLED
        place.write_bytes(self.pickled)
        return StoredFunction(place, _digest(self.pickled), self.batch_rows, self.name)

    def embed(self, images: NDArray[Any]) -> Any:
        """Call the function.

        Parameters
        ----------
        images : ndarray of shape (n_images, ...)
            At most `batch_rows` images, as they are stored.

        Returns
        -------
        array_like
            What it returns: vectors of shape (n_images, n_features).
        """
        return cloudpickle.loads(self.pickled)(images)


@dataclass(frozen=True)
class StoredFunction:
    """A function of the user in a file; each process loads it once."""

    path: Path
    digest: str
    batch_rows: int
    name: str
    image_shape: tuple[int, ...] | None = None

    def identity(self) -> dict[str, Any]:
        """Return the digest of the function."""
        return {"function": self.digest, "batch_rows": self.batch_rows}

    def stored(self, folder: Path) -> StoredFunction:
        """Return itself."""
        del folder
        return self

    def embed(self, images: NDArray[Any]) -> Any:
        """Call the function."""
        return _loaded(self.path, self.digest)(images)


@lru_cache(maxsize=1)
def _loaded(path: Path, digest: str) -> Callable[[Any], Any]:
    """Load a function; what is not what this call wrote is never unpickled."""
    pickled = path.read_bytes()
    if _digest(pickled) != digest:
        msg = f"{path} must be as it was written; it has changed. Run the same call again."
        raise ImagesError(msg)
    function: Callable[[Any], Any] = cloudpickle.loads(pickled)
    return function


def _digest(content: bytes) -> str:
    """Return a digest of bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
