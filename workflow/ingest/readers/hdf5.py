"""Images of a dataset of an HDF5 file, which netCDF files of version 4 are, too."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.source import BaseSource, file_identity
from workflow.runstore import paths, zarr_io
from workflow.runstore.packing import ATTRIBUTES, Packing
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.ingest.source import Reading

#: What h5py raises of a damaged file.
DAMAGED = (OSError, KeyError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Hdf5Source(BaseSource):
    """Images of a dataset; the file is opened for each reading."""

    path: Path
    key: str
    axis: int = 0
    packing: Packing | None = None
    is_reversed: bool = False

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, the dataset's name, and how it is packed."""
        known = {"kind": "hdf5", "dataset": self.key}
        packed = {"packing": self.packing.describe()} if self.packing else {}
        turned = {"reversed": True} if self.is_reversed else {}
        return {**known, **self.shape_and_type(), **file_identity(self.path), **packed, **turned}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows.

        Raises
        ------
        ImagesError
            If the file is damaged there.
        """
        rows = (*[slice(None)] * self.axis, slice(start, stop))
        try:
            with h5py.File(paths.local(self.path), "r") as file:
                block = np.moveaxis(file[self.key][rows], self.axis, 0)
        except DAMAGED as err:
            raise _damaged(self.path, err) from None
        if self.is_reversed:
            block = block.transpose(0, *range(block.ndim - 1, 0, -1))
        block = self.packing.decode(block) if self.packing else block
        return np.asarray(block, self.dtype, order="C").reshape(stop - start, self.n_features)


def open_hdf5(path: Path, name: str | None, how: Reading) -> Hdf5Source:
    """Open a dataset: `name`, else ``images`` or the only one.

    Raises
    ------
    ImagesError
        If the file is damaged, holds no such dataset, or one that cannot be images.
    """
    del how
    wanted = (name or "images").strip("/")
    try:
        with h5py.File(paths.local(path), "r") as file:
            dataset = _followed(file, wanted)
            if not isinstance(dataset, h5py.Dataset):
                held = _datasets(file, (file,))
                if name is not None or len(held) != 1:
                    msg = f"an HDF5 file must hold the dataset `{wanted}` or one only; {path} holds {', '.join(held) or 'none'}. Give {path}::{next(iter(held), 'NAME')}."
                    raise ImagesError(msg)
                wanted, dataset = next(iter(held.items()))
            return _source(path, wanted, dataset)
    except ImagesError:
        raise
    except DAMAGED as err:
        raise _damaged(path, err) from None


def _source(path: Path, name: str, dataset: h5py.Dataset) -> Hdf5Source:
    """Return the source of a dataset, or refuse it."""
    called = f"{path}::{name}"
    if dataset.is_virtual:
        msg = f"images must lie in one HDF5 file; {called} is a virtual dataset, whose missing files HDF5 would fill up. Copy it to an ordinary dataset (h5repack)."
        raise ImagesError(msg)
    attributes = {key: _plain(dataset.attrs[key]) for key in ATTRIBUTES if key in dataset.attrs}
    packing = Packing.of(called, dataset.dtype, attributes)
    dtype = packing.dtype if packing else dataset.dtype
    axis = zarr_io.sample_axis([_dimension(dim) for dim in dataset.dims])
    stored = dataset.shape or ()
    shape = (*stored[axis : axis + 1], *stored[:axis], *stored[axis + 1 :])
    zarr_io.check_images(called, shape, dtype)
    # An external link leads to another file, whose size and time tell the images.
    place = Path(dataset.file.filename)
    place, key = (path, name) if place == path else (place.absolute(), dataset.name.strip("/"))
    return Hdf5Source(shape[0], shape[1:], dtype.newbyteorder("="), place, key, axis, packing)


def _followed(group: h5py.Group, name: str) -> Any:
    """Return what a name leads to, through links; None where that is nothing."""
    try:
        return group.get(name)
    except (KeyError, OSError):
        return None


def _datasets(group: h5py.Group, above: tuple[h5py.Group, ...]) -> dict[str, h5py.Dataset]:
    """Return the datasets below a group, each once, by their paths: through links, but not in circles."""
    found: dict[str, h5py.Dataset] = {}
    for name in group:
        node = _followed(group, name)
        if isinstance(node, h5py.Dataset):
            # A scale holds the coordinates of a dimension.
            found |= {} if node.is_scale or node in found.values() else {name: node}
        elif isinstance(node, h5py.Group) and node not in above:
            for inner, dataset in _datasets(node, (*above, node)).items():
                found |= {} if dataset in found.values() else {f"{name}/{inner}": dataset}
    return found


def _dimension(dim: Any) -> str:
    """Return the name of a dimension: its label, or that of its scale."""
    return str(dim.label or next((key.rpartition("/")[2] for key in dim.keys()), ""))  # noqa: SIM118 - no mapping


def _plain(value: Any) -> Any:
    """Return an attribute as one value or text where it is an array of one."""
    value = value.reshape(-1)[0] if np.size(value) == 1 and isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else value


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for a file that HDF5 cannot read."""
    with contextlib.suppress(OSError), paths.open_file(path) as file:
        if file.read(3) == b"CDF":
            msg = f"a netCDF file must be of version 4, which is HDF5; {path} is of the classic format. Convert it: `nccopy -k nc4 {path.name} NEW.nc`, or in Python xarray.open_dataset({path.name!r}).to_zarr('NEW.zarr')."
            return ImagesError(msg)
    text = first_line(err)
    msg = f"{path} must be a whole HDF5 file; it cannot be read ({text}). Copy or write it again."
    return ImagesError(msg)
