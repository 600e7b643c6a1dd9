"""Images of a dataset of an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.source import BaseSource, file_identity
from workflow.runstore import paths, zarr_io
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Reading

#: What h5py raises of a damaged file.
DAMAGED = (OSError, KeyError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Hdf5Source(BaseSource):
    """Images of a dataset; the file is opened for each reading."""

    path: Path
    key: str

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and the dataset's name."""
        known = {"kind": "hdf5", "dataset": self.key}
        return {**known, **self.shape_and_type(), **file_identity(self.path)}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows.

        Raises
        ------
        ImagesError
            If the file is damaged there.
        """
        try:
            with h5py.File(paths.local(self.path), "r") as file:
                block = file[self.key][start:stop]
        except DAMAGED as err:
            raise _damaged(self.path, err) from None
        return np.asarray(block, self.dtype, order="C").reshape(stop - start, self.n_features)


def open_hdf5(path: Path, name: str | None, how: Reading) -> Hdf5Source:
    """Open a dataset: `name`, else ``images`` or the only one.

    Raises
    ------
    ImagesError
        If the file is damaged, holds no such dataset, or one that cannot be images.
    """
    del how
    try:
        with h5py.File(paths.local(path), "r") as file:
            held: dict[str, tuple[tuple[int, ...] | None, np.dtype[Any]]] = {}

            def note(at: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset):
                    held[at] = (node.shape, node.dtype)

            file.visititems(note)
    except DAMAGED as err:
        raise _damaged(path, err) from None
    wanted = (name or "images").strip("/")
    if wanted not in held and name is None and len(held) == 1:
        wanted = next(iter(held))
    if wanted not in held:
        msg = f"an HDF5 file must hold the dataset `{wanted}` or one only; {path} holds {', '.join(held) or 'none'}. Give {path}::{next(iter(held), 'NAME')}."
        raise ImagesError(msg)
    shape, dtype = held[wanted]
    zarr_io.check_images(f"{path}::{wanted}", shape or (), dtype)
    assert shape is not None
    return Hdf5Source(shape[0], tuple(shape[1:]), dtype.newbyteorder("="), path, wanted)


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for a file that HDF5 cannot read."""
    text = first_line(err)
    msg = f"{path} must be a whole HDF5 file; it cannot be read ({text}). Copy or write it again."
    return ImagesError(msg)
