"""Images of a variable of a .mat file: by SciPy, or as HDF5 where it is of version 7.3.

MATLAB lays out arrays with the first dimension fastest, and its users mostly let the last one
count the images: 32 x 32 x 3 x N.  The longer of the first and the last dimension is taken to
count them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.hdf5 import open_hdf5
from workflow.ingest.source import BaseSource, file_identity
from workflow.runstore import paths, zarr_io
from workflow.runstore.files import DISK_REFUSES
from workflow.runstore.journal import Journal
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Reading, Source
    from workflow.mapper import PartitionRunner

#: How files of version 7.3 begin.
HDF5_HEADER = b"MATLAB 7.3"
#: MATLAB's names of types -> NumPy's.
TYPES = {"double": "float64", "single": "float32", "logical": "bool"}
#: What SciPy raises of a damaged file.
DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zlib.error, MemoryError)


@dataclass(frozen=True)
class MatlabSource(BaseSource):
    """One variable of a file, which is read whole, once, by one task."""

    path: Path
    key: str
    is_last: bool

    def remarks(self) -> list[str]:
        """Return which dimension counts the images."""
        return [_remark(self)]

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and the variable's name."""
        known = {"kind": "mat", "variable": self.key}
        return {**known, **self.shape_and_type(), **file_identity(self.path)}

    def prepare(self, folder: Path, runner: PartitionRunner) -> Source:
        """Unpack the variable."""
        unpacked = folder / "unpacked.npy"
        runner.run(
            "ingest: unpack",
            self._unpack,
            {0: unpacked},
            journal=Journal(folder / "unpacked.jsonl", self.key),
            n_rows=lambda _: self.n_samples,
        )
        return zarr_io.open_images(unpacked)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Refuse: the variable must be unpacked first.

        Raises
        ------
        ImagesError
            Always.
        """
        msg = (
            f"{self.path} must be unpacked before images {start} to {stop - 1} are read. Ingest it."
        )
        raise ImagesError(msg)

    def _unpack(self, target: Path) -> dict[str, Any]:
        """Write the variable to a .npy file, the images first."""
        from scipy.io import loadmat

        try:
            with paths.open_file(self.path) as file:
                values = loadmat(file, variable_names=[self.key])[self.key]
            images = np.moveaxis(values, -1, 0) if self.is_last else values
            # A variable may be stored in a smaller type than it has.
            whole = np.ascontiguousarray(images, self.dtype)
            with target.open("wb") as written:
                np.save(written, whole, allow_pickle=False)
        except DAMAGED as err:
            if getattr(err, "errno", None) in DISK_REFUSES:
                raise
            raise _damaged(self.path, err) from None
        return {}


def open_matlab(path: Path, name: str | None, how: Reading) -> Source:
    """Open a variable: `name`, else ``images`` or the only one of two dimensions or more.

    Raises
    ------
    ImagesError
        If the file is damaged, holds no such variable, or one that cannot be images.
    """
    from scipy.io import whosmat

    try:
        with paths.open_file(path) as file:
            is_hdf5 = file.read(len(HDF5_HEADER)) == HDF5_HEADER
            file.seek(0)
            found = [] if is_hdf5 else whosmat(file)
    except DAMAGED as err:
        raise _damaged(path, err) from None
    if is_hdf5:
        return _turned(path, name, how)
    held = {key: (shape, kind) for key, shape, kind in found if min(shape, default=0) > 1}
    wanted = name or "images"
    if name is None and wanted not in held and len(held) == 1:
        (wanted,) = held
    if wanted not in held:
        msg = f"a .mat file must hold the variable `{wanted}` or one matrix only; {path} holds {', '.join(held) or 'none'}. Give {path}::{next(iter(held), 'NAME')}."
        raise ImagesError(msg)
    shape, kind = held[wanted]
    try:
        dtype = np.dtype(TYPES.get(kind, kind))
    except TypeError:
        dtype = np.dtype(object)
    is_last = counts_last(shape)
    shape = (shape[-1], *shape[:-1]) if is_last else shape
    zarr_io.check_images(f"{path}::{wanted}", shape, dtype)
    return MatlabSource(shape[0], tuple(shape[1:]), dtype, path, wanted, is_last)


def counts_last(shape: tuple[int, ...]) -> bool:
    """Return whether the last dimension counts the images: the longer one of it and the first.

    Examples
    --------
    >>> counts_last((32, 32, 3, 73257)), counts_last((5000, 400)), counts_last((60000, 28, 28))
    (True, False, False)
    """
    return shape[-1] > shape[0] or (shape[-1] == shape[0] and len(shape) > 2)


@dataclass(frozen=True)
class _TurnedSource(BaseSource):
    """Images of an HDF5 file whose dimensions are those of MATLAB, in reverse."""

    source: Any

    def remarks(self) -> list[str]:
        """Return which dimension counts the images."""
        return [_remark(self)]

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the dataset."""
        return {**self.source.fingerprint(), "kind": "mat"}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows."""
        rows: NDArray[Any] = self.source.read(start, stop)
        return rows


def _turned(path: Path, name: str | None, how: Reading) -> Source:
    """Open a variable of a file of version 7.3, the dimensions as MATLAB has them."""
    source = open_hdf5(path, name, how)
    # HDF5 has the dimensions in reverse: its first one is MATLAB's last one.
    shape = (*source.image_shape[::-1], source.n_samples)
    if not counts_last(shape):
        source = replace(source, axis=len(shape) - 1, n_samples=shape[0])
        shape = (*shape[1:], shape[0])
    source = replace(source, image_shape=shape[:-1], is_reversed=True)
    zarr_io.check_images(f"{path}::{source.key}", (shape[-1], *shape[:-1]), source.dtype)
    return _TurnedSource(source.n_samples, source.image_shape, source.dtype, source)


def _remark(source: BaseSource) -> str:
    """Return which dimension of a variable counts the images."""
    shape = " x ".join(map(str, source.image_shape))
    return f"{source.n_samples:,} images of {shape}: the longer one of the first and the last dimension counts them, as in most .mat files"


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for a file that cannot be read."""
    msg = f"{path} must be a whole .mat file; it cannot be read ({first_line(err)}). Copy or write it again."
    return ImagesError(msg)
