"""Picture files: below a folder, of a pattern, of a list, or one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.errors import ImagesError
from workflow.ingest.readers.items import Item, ItemSource, Shard
from workflow.ingest.readers.pictures import SUFFIXES, Look, choose_shape, require_look, size_of
from workflow.runstore.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workflow.ingest.readers.files import Files
    from workflow.ingest.readers.items import Collection
    from workflow.ingest.source import Reading

#: Pictures whose headers are looked at where no shape was given.
LOOKED_AT = 256


@dataclass(frozen=True)
class PictureFiles:
    """Files that hold one picture each."""

    files: Files

    @property
    def place(self) -> str:
        """What to call it in messages."""
        return self.files.place

    def estimate(self) -> int:
        """Return how many items there are."""
        return len(self.files.names)

    def shards(self, folder: Path, most: int) -> list[Shard]:
        """Return parts of the files; their names are noted in `folder`."""
        names, shards = self.files.names, []
        for index, rows in enumerate(row_ranges(len(names), most)):
            place = folder / f"part-{index:06d}.names.json"
            write_json(place, names[rows.start : rows.stop])
            shards.append(Shard(str(place), 0, rows.n_rows))
        return shards

    def items(self, shard: Shard) -> Iterator[Item]:
        """Yield the files of a part."""
        for name in read_json(Path(shard.place)):
            yield Item(name, self.files.root / name)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these files from others."""
        return {"kind": "folder", **self.files.fingerprint()}


def open_folder(files: Files, name: str | None, how: Reading) -> ItemSource:
    """Open picture files; they are listed, and few headers are read where no shape is given.

    Raises
    ------
    ImagesError
        If there are no picture files, or the shape cannot be that of pictures.
    """
    del name
    names, others = files.names, files.others
    if not names:
        msg = f"a folder of images must hold files ending in {', '.join(SUFFIXES)}; {files.place} holds {others or 'none'}. Give another folder."
        raise ImagesError(msg)
    if how.columns:
        msg = f"`ingest.columns` must name what lies beside the images in tars, records and tables; {files.place} holds picture files alone. Leave it out, and join a table by path: `export --columns`."
        raise ImagesError(msg)
    said = [f"{files.place} also holds {others}, not read"] if others else []
    chosen = np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).astype(int)).tolist()
    sample = (files.root / names[index] for index in chosen)
    return picture_source(PictureFiles(files), len(names), sample, how, said)


def picture_source(
    collection: Collection, n_items: int, sample: Iterable[Any], how: Reading, said: list[str]
) -> ItemSource:
    """Return the source of pictures, in the shape that was given or that a sample of them suggests.

    Raises
    ------
    ImagesError
        If shape, type or background cannot be those of pictures.
    """
    shape = how.shape
    if shape is None:
        shape, reason = choose_shape([size for size in map(size_of, sample) if size is not None])
        text = " x ".join(map(str, shape))
        said = [
            *said,
            f"pictures become images of {text} ({reason}); ingest.shape gives another shape",
        ]
    dtype = np.dtype(how.dtype or "uint8")
    look = Look(tuple(shape), dtype, how.background, how.frames)
    require_look(look)
    plain = Look(look.shape, dtype)
    known = {
        key: getattr(look, key)
        for key in ("background", "frames")
        if getattr(look, key) != getattr(plain, key)
    }
    return ItemSource(
        n_items,
        look.shape,
        dtype,
        collection,
        look,
        how.on_unreadable,
        tuple(said),
        how.columns,
        known,
    )
