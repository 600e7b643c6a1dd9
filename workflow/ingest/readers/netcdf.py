"""Images of a variable of a netCDF file of the classic format, by SciPy; version 4 is HDF5."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.hdf5 import open_hdf5
from workflow.ingest.source import BaseSource, file_identity
from workflow.runstore import paths, zarr_io
from workflow.runstore.packing import ATTRIBUTES, Packing
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Reading, Source

#: How files of the classic format begin.
MAGIC = b"CDF"
#: What SciPy raises of a damaged file.
DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class NetcdfSource(BaseSource):
    """Images of a variable; the file is mapped into memory for each reading."""

    path: Path
    key: str
    axis: int = 0
    packing: Packing | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, the variable's name, and how it is packed."""
        known = {"kind": "netcdf", "variable": self.key}
        packed = {"packing": self.packing.describe()} if self.packing else {}
        return {**known, **self.shape_and_type(), **file_identity(self.path), **packed}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows.

        Raises
        ------
        ImagesError
            If the file is damaged there.
        """
        rows = (*[slice(None)] * self.axis, slice(start, stop))
        try:
            with _opened(self.path) as file:
                block = np.moveaxis(np.array(file.variables[self.key].data[rows]), self.axis, 0)
        except DAMAGED as err:
            raise _damaged(self.path, err) from None
        native = block.astype(block.dtype.newbyteorder("="), copy=False)
        block = self.packing.decode(native) if self.packing else native
        return np.asarray(block, self.dtype, order="C").reshape(stop - start, self.n_features)


def open_netcdf(path: Path, name: str | None, how: Reading) -> Source:
    """Open a variable: `name`, else ``images`` or the only one of two dimensions or more.

    Raises
    ------
    ImagesError
        If the file is damaged, holds no such variable, or one that cannot be images.
    """
    with paths.open_file(path) as file:
        is_classic = file.read(len(MAGIC)) == MAGIC
    if not is_classic:
        return open_hdf5(path, name, how)
    try:
        with _opened(path) as file:
            variables = {key: _variable(found) for key, found in file.variables.items()}
    except DAMAGED as err:
        raise _damaged(path, err) from None
    held = [key for key, variable in variables.items() if len(variable.shape) > 1]
    wanted = name or "images"
    if name is None and wanted not in variables and len(held) == 1:
        (wanted,) = held
    if wanted not in variables:
        msg = f"a netCDF file must hold the variable `{wanted}` or one only; {path} holds {', '.join(held) or 'none'}. Give {path}::{next(iter(held), 'NAME')}."
        raise ImagesError(msg)
    dims, dimensions, stored, attributes = variables[wanted]
    called = f"{path}::{wanted}"
    packing = Packing.of(called, stored, attributes)
    axis = zarr_io.sample_axis(dimensions)
    shape = (*dims[axis : axis + 1], *dims[:axis], *dims[axis + 1 :])
    dtype = packing.dtype if packing else stored
    zarr_io.check_images(called, shape, dtype)
    return NetcdfSource(shape[0], shape[1:], dtype, path, wanted, axis, packing)


class _Variable(NamedTuple):
    """What a file says of a variable."""

    shape: tuple[int, ...]
    dimensions: tuple[str, ...]
    dtype: np.dtype[Any]
    attributes: dict[str, Any]


def _variable(found: Any) -> _Variable:
    """Return what a file says of a variable; nothing of the file is held by it."""
    values = {key: getattr(found, key, None) for key in ATTRIBUTES}
    attributes = {key: _plain(value) for key, value in values.items() if value is not None}
    dtype = found.data.dtype.newbyteorder("=")
    return _Variable(found.data.shape, found.dimensions, dtype, attributes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file, mapped into memory: what is taken from it must be a copy."""
    from scipy.io import netcdf_file

    with paths.open_file(path) as raw, netcdf_file(raw, "r", mmap=True) as file:
        yield file


def _plain(value: Any) -> Any:
    """Return an attribute as one value or text where it is an array of one."""
    value = value.reshape(-1)[0] if np.size(value) == 1 and isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else value


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for a file that cannot be read."""
    msg = f"{path} must be a whole netCDF file; it cannot be read ({first_line(err)}). Copy or write it again."
    return ImagesError(msg)
