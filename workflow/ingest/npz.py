"""Images in a .npz archive, read without holding the array in memory."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.base import SourceShape, file_identity
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.base import ImageSource
    from workflow.mapper import Mapper

#: Names that are taken for images, the first one first.
NAMES = ("images", "vectors")
#: What a damaged archive makes zipfile and zlib raise.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
#: Bytes copied at a time.
COPY_BYTES = 1 << 22
#: Fixed part of the header in front of a member (PKWARE APPNOTE 4.3.7).
LOCAL_HEADER_BYTES = 30


class Member(NamedTuple):
    """An array of an archive.

    Attributes
    ----------
    shape, dtype, fortran_order : tuple of int, numpy.dtype, bool
        What its header says.
    offset : int or None
        Where its values begin in the archive; None where they are compressed.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int | None


@dataclass(frozen=True)
class NpzSource(SourceShape):
    """One array of a .npz archive.

    Notes
    -----
    Values that are stored plain are read where they lie, after one reading
    has held the archive's checksum against them.  Compressed ones can only
    be read from the start, so one task unpacks them to a .npy file in the
    working folder.
    """

    path: Path
    name: str
    stored_dtype: np.dtype[Any]
    offset: int | None

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and the array's name."""
        return {
            "kind": "npz",
            "array": self.name,
            "shape": [self.n_samples, *self.image_shape],
            "dtype": self.dtype.name,
            **file_identity(self.path),
        }

    def prepare(self, folder: Path, mapper: Mapper) -> ImageSource:
        """Check the archive's checksum, and unpack the array where it is compressed."""
        mark = folder / ("unpacked.npy" if self.offset is None else "checked")
        if not mark.exists():
            mapper.map(self._unpack, [mark])
        return self if self.offset is not None else _UnpackedSource.over(self, mark)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`.

        Raises
        ------
        ImagesError
            If the file ends before them, or they have to be unpacked first.
        """
        if self.offset is None:
            msg = f"{self.path} must be unpacked before it is read by ranges; its array {self.name} is compressed. Ingest it."
            raise ImagesError(msg)
        n_values = (stop - start) * self.n_features
        place = self.offset + start * self.n_features * self.dtype.itemsize
        values = np.fromfile(self.path, self.stored_dtype, n_values, offset=place)
        if values.size != n_values:
            msg = f"{self.path} must hold images {start} to {stop - 1}; the file ends before. Copy it again."
            raise ImagesError(msg)
        return values.astype(self.dtype, copy=False).reshape(stop - start, *self.image_shape)

    def _unpack(self, mark: Path) -> None:
        """Read the array once: to a file where it is compressed, else for its checksum."""
        temporary = mark.with_suffix(".tmp")
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(f"{self.name}.npy") as packed,
                temporary.open("wb") as file,
            ):
                if self.offset is None:
                    shutil.copyfileobj(packed, file, COPY_BYTES)
                else:
                    while packed.read(COPY_BYTES):
                        pass
        except ARCHIVE_ERRORS as err:
            raise _damaged(self.path, err) from None
        temporary.replace(mark)


@dataclass(frozen=True)
class _UnpackedSource(SourceShape):
    """The array of an archive after unpacking."""

    store: zarr_io.ImageStore

    @classmethod
    def over(cls, source: NpzSource, path: Path) -> _UnpackedSource:
        """Open the unpacked file."""
        store = zarr_io.open_images(path)
        return cls(source.n_samples, source.image_shape, source.dtype, store)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the unpacked file."""
        return zarr_io.fingerprint(self.store)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`."""
        return self.store.read(start, stop).reshape(stop - start, *self.image_shape)


def open_npz(path: Path, name: str | None) -> NpzSource:
    """Open the images of a .npz archive.

    Parameters
    ----------
    path : Path
        The archive.
    name : str or None
        The array; ``images`` or ``vectors`` by default.

    Returns
    -------
    NpzSource
        Only headers have been read.

    Raises
    ------
    ImagesError
        If the archive is damaged or holds no such array, or one that cannot
        be images.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            wanted = [name] if name else [n for n in NAMES if n in held][:1]
            if not wanted or wanted[0] not in held:
                asked = f"`{name}`" if name else " or ".join(f"`{n}`" for n in NAMES)
                msg = f"{path} must hold the array {asked}; it holds {', '.join(held) or 'no arrays'}. Give PATH::NAME."
                raise ImagesError(msg)
            member = _read_member(path, archive, f"{wanted[0]}.npy")
    except ImagesError:
        raise
    except ARCHIVE_ERRORS as err:
        raise _damaged(path, err) from None
    zarr_io.check_images(f"{path}::{wanted[0]}", member.shape, member.dtype)
    return NpzSource(
        n_samples=member.shape[0],
        image_shape=member.shape[1:],
        dtype=member.dtype.newbyteorder("="),
        path=path,
        name=wanted[0],
        stored_dtype=member.dtype,
        offset=None if member.fortran_order else member.offset,
    )


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> Member:
    """Read the header of an array, and find its values."""
    info = archive.getinfo(name)
    with archive.open(info) as packed:
        # Numpy reads the header from a file it can tell its place in.
        head = io.BytesIO(packed.read(1 << 16))
    version = np.lib.format.read_magic(head)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran_order, dtype = read(head)
    if info.compress_type != zipfile.ZIP_STORED:
        return Member(tuple(shape), dtype, fortran_order, None)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name_bytes, extra_bytes = struct.unpack("<26xHH", file.read(LOCAL_HEADER_BYTES))
    offset = info.header_offset + LOCAL_HEADER_BYTES + name_bytes + extra_bytes + head.tell()
    return Member(tuple(shape), dtype, fortran_order, offset)


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for an archive that cannot be read."""
    text = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
    msg = (
        f"{path} must be a whole .npz archive; it cannot be read ({text}). Copy or write it again."
    )
    return ImagesError(msg)
