"""Images as files: links to those that they came from, PNG of those that are none; folders, FiftyOne and Embedding Atlas."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.commands.base import images_of
from workflow.engine.segments import segments
from workflow.errors import ImagesError
from workflow.runstore import layout, zarr_io
from workflow.steps.base import is_picture
from workflow.steps.browsing.previews import Previews

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore

#: Previews that tell which values of images that are not uint8 are black and white.
MAX_LOOKED_AT = 256
#: How a file comes into a folder.
LINKS: dict[str, Callable[[Path, Path], Any]] = {
    "symlink": lambda source, target: target.symlink_to(source),
    "hardlink": lambda source, target: target.hardlink_to(source),
    "copy": shutil.copy2,
}
#: Most characters of the name of a cluster in the name of its folder.
MAX_NAME = 60


class Pictures:
    """The images of a run as pictures.

    Parameters
    ----------
    store : RunStore
        The run.
    files : path, optional
        Folder of the files that the images were read from; by default the one
        that the run was given, if it was a folder and all images came from it.

    Attributes
    ----------
    files : Path or None
        That folder; None where images are no files.

    Raises
    ------
    ImagesError
        If there are neither files nor images that can be looked at.
    """

    def __init__(self, store: RunStore, files: Path | str | None = None) -> None:
        places = {zarr_io.full_name(part.images.get("path", "")) for part in segments(store)}
        given = Path(next(iter(places)) if files is None else files)
        has_names = "path" in zarr_io.array_names(store.path / layout.LABELS)
        is_folder = given.is_dir() and zarr_io.node_kind(given) is None
        if files is not None and not (has_names and is_folder):
            msg = f"`--files` must be the folder that the images of the run were read from; {given} is none, or the run knows no file names. Leave it out, and images are written as PNG."
            raise ImagesError(msg)
        is_one = files is not None or len(places) == 1
        self.files = given.absolute() if has_names and is_folder and is_one else None
        self._images: ImageStore | None = None
        self._shown: tuple[float, float] | None = None
        if self.files is None:
            self._images, self._shown = viewable(store)

    def source(self, path: str) -> Path:
        """Return the file of an image; refuse one that is not there."""
        assert self.files is not None
        place = self.files / path
        if ".." in Path(path).parts or Path(path).is_absolute() or not place.is_file():
            msg = f"the files of the images must be where they were; {place} is missing. Put it back, or name their folder with --files."
            raise ImagesError(msg)
        return place

    def png(self, row: int) -> bytes:
        """Return an image as PNG, a pixel for each of its own; values other than uint8 as the page shows them."""
        assert self._images is not None
        return png_of(self._images, row, self._shown)

    def encoded(self, row: int, path: str | None) -> bytes:
        """Return an image as a file of pictures holds it."""
        return self.png(row) if self.files is None else self.source(str(path)).read_bytes()

    def put(self, row: int, path: str | None, target: Path, link: str) -> None:
        """Put an image into a folder: a link to its file or a copy, or a PNG."""
        if self.files is None:
            target.write_bytes(self.png(row))
        else:
            LINKS[link](self.source(str(path)), target)


def viewable(store: RunStore) -> tuple[ImageStore, tuple[float, float] | None]:
    """Return the images of a run, and the values shown black and white; refuse what cannot be looked at."""
    from workflow.report.contact_sheets import shown_range

    shape = tuple(store.manifest.images["shape"][1:])
    if not is_picture(shape):
        msg = f"images must have rows and columns to be looked at; those of {store.path} are vectors of shape {shape}. Choose csv or parquet."
        raise ImagesError(msg)
    images = images_of(store)
    if images is None:
        place = store.manifest.images.get("path", "their place")
        msg = f"the images of a run must be where they were, unchanged; {place} is gone or holds others. Put them back."
        raise ImagesError(msg)
    kept = Previews(store)
    some = kept.pictures(np.arange(min(len(kept.rows), MAX_LOOKED_AT)))
    return images, shown_range([some.reshape(-1, *shape)])


def png_of(images: ImageStore, row: int, shown: tuple[float, float] | None) -> bytes:
    """Return an image as PNG, a pixel for each of its own."""
    from PIL import Image

    from workflow.report.contact_sheets import contact_array

    tile = images.read(row, row + 1).reshape(1, *images.image_shape)
    pixels = contact_array(tile, 1, 1, value_range=shown)[..., :-1]
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def cluster_words(names: Mapping[str, str], label: int) -> str:
    """Return the name of a cluster, or what stands for one."""
    return "noise" if label < 0 else names.get(str(label), f"cluster {label}")


def folder_name(names: Mapping[str, str], label: int) -> str:
    """Return the name of the folder of a cluster: its number and, where it has one, its name.

    Examples
    --------
    >>> folder_name({"3": "sky / sea?"}, 3), folder_name({}, 12), folder_name({}, -1)
    ('3-sky-sea', '12', 'noise')
    """
    if label < 0:
        return "noise"
    words = "".join(c if c.isalnum() else " " for c in names.get(str(label), "")).split()
    return "-".join([str(label), *words])[:MAX_NAME]


def write_folders(
    place: Path,
    frames: Iterator[pd.DataFrame],
    pictures: Pictures,
    names: Mapping[str, str],
    link: str,
) -> None:
    """Write a folder for each cluster, with its images."""
    place.mkdir()
    for frame in frames:
        for row, path, label in _listed(frame):
            folder = place / folder_name(names, label)
            folder.mkdir(exist_ok=True)
            # The number first: files of several folders may have one name.
            called = f"{row}.png" if pictures.files is None else f"{row}-{Path(str(path)).name}"
            pictures.put(row, path, folder / called, link)


def _listed(frame: pd.DataFrame) -> Iterator[tuple[int, str | None, int]]:
    """Yield number, path and label of the images of a frame."""
    paths = frame["path"].tolist() if "path" in frame else [None] * len(frame)
    yield from zip(frame["sample"].tolist(), paths, frame["label"].tolist(), strict=True)


def write_fiftyone(
    place: Path,
    frames: Iterator[pd.DataFrame],
    pictures: Pictures,
    names: Mapping[str, str],
    clusters: Sequence[int],
) -> None:
    """Write what FiftyOne imports as FiftyOneImageClassificationDataset.

    Images that are files are named in ``data.json`` and stay where they are,
    others are written to ``data/``.  ``labels.json`` has a number of
    ``classes`` for each, with the strength as its confidence and the other columns as attributes.
    """
    place.mkdir()
    known = [*clusters, -1]
    classes = [cluster_words(names, label) for label in known]
    number = {label: place for place, label in enumerate(known)}
    with (
        (place / "labels.json").open("w", encoding="utf-8") as labels,
        (place / "data.json").open("w", encoding="utf-8") as data,
    ):
        labels.write(f'{{"classes": {json.dumps(classes)},\n"labels": {{')
        data.write("{")
        before = "\n"
        for frame in frames:
            others = frame.drop(columns=["label", "strength"]).astype(object)
            others = others.where(others.notna(), None).to_dict("records")
            for (row, path, label), strength, attributes in zip(
                _listed(frame), frame["strength"].tolist(), others, strict=True
            ):
                told = {"label": number[label], "confidence": strength}
                told["attributes"] = {name: _plain(value) for name, value in attributes.items()}
                labels.write(f'{before}"{row}": {json.dumps(told)}')
                if pictures.files is None:
                    (place / "data").mkdir(exist_ok=True)
                    (place / "data" / f"{row}.png").write_bytes(pictures.png(row))
                else:
                    data.write(
                        f'{before}"{row}": {json.dumps(os.fspath(pictures.source(str(path))))}'
                    )
                before = ",\n"
        labels.write("\n}}\n")
        data.write("\n}\n")
    if pictures.files is None:
        (place / "data.json").unlink()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return value.item() if isinstance(value, np.generic) else value


def atlas_frames(
    frames: Iterator[pd.DataFrame], pictures: Pictures, neighbors: Path | None
) -> Iterator[pd.DataFrame]:
    """Yield frames with the columns that Embedding Atlas takes: ``image`` and, of all images, ``neighbors``."""
    import pandas as pd
    import pyarrow as pa

    image_type = pd.ArrowDtype(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    lists = {"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())}
    neighbors_type = pd.ArrowDtype(pa.struct(lists))
    for frame in frames:
        images = [
            {
                "bytes": pictures.encoded(row, path),
                "path": f"{row}.png" if pictures.files is None else str(path),
            }
            for row, path, _ in _listed(frame)
        ]
        columns = {"image": pd.array(images, dtype=image_type)}
        if neighbors is not None:
            found = _neighbors_of(neighbors, frame["sample"].tolist())
            columns["neighbors"] = pd.array(found, dtype=neighbors_type)
        yield frame.assign(**columns)


def _neighbors_of(place: Path, rows: list[int]) -> list[dict[str, list[Any]]]:
    """Return the nearest neighbours of consecutive images."""
    first, stop = (rows[0], rows[-1] + 1) if rows else (0, 0)
    both = (zarr_io.read_rows(place, name, first, stop) for name in ("index", "distance"))
    return [
        {"ids": ids[ids >= 0].tolist(), "distances": distances[ids >= 0].tolist()}
        for ids, distances in zip(*both, strict=True)
    ]
