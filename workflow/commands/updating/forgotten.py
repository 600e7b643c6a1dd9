"""What a run notes of images that were forgotten, so that their source does not bring them back."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from workflow.ingest import noted_of_images, possible_files
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from workflow.engine.segments import Segment
    from workflow.runstore import RunStore


def note_forgotten(store: RunStore, segment: Segment) -> None:
    """Note which rows or files of its source a segment came from; of files no name is kept, but hashes.

    Parameters
    ----------
    store : RunStore
        The run that lets go of the segment.
    segment : Segment
        The images, while their copy is still there.
    """
    place = zarr_io.full_name(segment.images["path"])
    first = noted_of_images(segment.images, "first_row") or 0
    store.manifest.forgotten.append(
        {
            "path": place,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "first_row": first,
            "n_samples": segment.n_samples,
        }
    )
    arrays = zarr_io.array_names(segment.copied) if segment.copied.is_dir() else []
    names = [
        str(item)
        for array in {"path", "unreadable"}.intersection(arrays)
        for item in zarr_io.read_array(segment.copied, array)
    ]
    if names:
        files = itertools.chain.from_iterable(map(possible_files, names))
        known = np.concatenate([_hashes(store), _hashed(place, files)])
        path = store.path / layout.FORGOTTEN
        write_arrays(path, {"name": np.unique(known)})


def forgotten_rows(store: RunStore, place: str) -> list[tuple[int, int]]:
    """Return first row and number of the images of a source that were forgotten, for each segment."""
    notes = store.manifest.forgotten
    return [(note["first_row"], note["n_samples"]) for note in notes if note["path"] == place]


def not_forgotten(store: RunStore, place: str, names: Iterable[str]) -> list[str]:
    """Return the files of a source of which no image was forgotten."""
    names = list(names)
    is_known = np.isin(_hashed(place, names), _hashes(store))
    return [name for name, known in zip(names, is_known, strict=True) if not known]


def take_again(store: RunStore, path: str) -> None:
    """Let go of the notes of a source whose images were added again."""
    place = zarr_io.full_name(path)
    manifest = store.manifest
    manifest.forgotten = [note for note in manifest.forgotten if note["path"] != place]


def _hashes(store: RunStore) -> NDArray[np.uint64]:
    """Return the hashes of the names of all files that were forgotten."""
    path = store.path / layout.FORGOTTEN
    found: NDArray[np.uint64] = (
        read_arrays(path)["name"] if path.exists() else np.empty(0, np.uint64)
    )
    return found


def _hashed(place: str, names: Iterable[str]) -> NDArray[np.uint64]:
    """Return a hash of each name of a file of a source."""
    digests = (hashlib.blake2b(f"{place}\0{name}".encode(), digest_size=8) for name in names)
    return np.frombuffer(b"".join(one.digest() for one in digests), np.uint64)
