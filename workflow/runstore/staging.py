"""Arrays of ``model.zarr`` written beside it: a task may do so, and the run takes them in one move."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.runstore import zarr_io
from workflow.runstore.files import crc_of_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class StagedArrays(NamedTuple):
    """Arrays of ``model.zarr`` that are written, and not yet in their place.

    Attributes
    ----------
    group : Path
        The Zarr group that holds them.
    names : list of str
        Their names.
    checksums : dict of str to int
        crc32c of each, and of the file that describes it, by path in the group.
    """

    group: Path
    names: list[str]
    checksums: dict[str, int]


def stage_arrays(
    place: Path, arrays: Mapping[str, tuple[NDArray[Any], Sequence[str]]]
) -> StagedArrays:
    """Write arrays of the model into a group of their own at a place; a task may do so, also twice."""
    group = place / uuid.uuid4().hex
    zarr_io.create_group(group)
    checksums: dict[str, int] = {}
    for name, (array, dims) in arrays.items():
        zarr_io.write_array(group, name, array, dims=dims)
        described = f"{name}/{zarr_io.GROUP_METADATA}"
        checksums |= {name: zarr_io.crc(array), described: crc_of_file(group / described)}
    return StagedArrays(group, list(arrays), checksums)


def metadata_files(group: Path) -> list[Path]:
    """Return the metadata of a Zarr group and of its arrays."""
    if not group.is_dir():
        return []
    places = [group, *(group / name for name in zarr_io.array_names(group))]
    return [place / zarr_io.GROUP_METADATA for place in places]
