"""gallery: all images of one kind: dark, bright, flat, blurred, between two clusters, far out."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import RowRange, row_ranges
from workflow.commands.base import executor_for_bytes, images_of, require_labels, stored_config
from workflow.commands.export.places import new_place, replaced_when_whole
from workflow.engine.partitions import n_rows, partitions
from workflow.engine.summary import read_summary
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError
from workflow.formatting import format_count, format_numbers
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.runstore.journal import Journal
from workflow.steps.browsing.galleries import (
    BORDER_RATIO,
    LOOKS,
    border_counts,
    border_gallery,
    chosen,
    find,
    lacks_statistics,
    look_gallery,
    look_sentence,
    outlier_gallery,
    require_statistics,
    usual_looks,
    value_range,
)
from workflow.steps.browsing.previews import Previews
from workflow.steps.parts.clusters.counts import clusters_of
from workflow.steps.parts.notes import NoteTask, notes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.steps.browsing.galleries import Gallery, Usual

#: Kinds as a person writes them.
KINDS = (*(name.replace("_", "-") for name in LOOKS), "border", "outliers")
#: Images that are listed unless more are asked for, and pairs of clusters that are.
N_LISTED, PAIRS_LISTED = 100, 20


def gallery(
    run: Path | str,
    kind: str,
    of: Sequence[int] = (),
    *,
    limit: int | None = None,
    out: Path | str | None = None,
) -> dict[str, Any]:
    """List the images of one kind, the clearest cases or all of them.

    Parameters
    ----------
    run : path
        A run with labels.
    kind : {"dark", "bright", "low-contrast", "blurred", "border", "outliers"}
        What is wanted.
    of : sequence of int
        Of `border` the two clusters, or none for any two.
    limit : int, optional
        Most images to list, the clearest first; by default 100, and all of them
        where they are written to a file.
    out : path, optional
        New CSV file to write the images to; without `limit` in the order of the images.

    Returns
    -------
    dict
        JSON-able: ``kind`` and ``of``, ``n_images`` of that kind among all
        ``n_samples``, ``sentence``, which says so; ``images``, those listed, each
        with ``sample``, ``label``, ``path`` where images have file names, and what
        decided; or ``out``, the file. Of a look also its ``median`` in the run, ``below``
        which images have it, and ``is_usual``; of any two clusters ``pairs``, those with most images.

    Raises
    ------
    ConfigError
        If there is no such kind or cluster, `limit` is below 1, or `out` is there.
    StoreError
        If the run lacks what the kind is known by, or the file cannot be written.

    See Also
    --------
    workflow.pca.image_statistics : What looks are known by.

    Notes
    -----
    What is stored of the images is read block by block, once or twice.  The
    images are read where a run of an earlier version lacks their statistics,
    which are then kept.
    """
    store = RunStore.open(run)
    require_labels(store)
    if limit is not None and limit < 1:
        msg = f"`limit` must be at least 1 image; got {limit}. Raise it."
        raise ConfigError(msg)
    n_samples: int = store.manifest.images["shape"][0]
    images, usual = _gallery(store, kind, of)
    is_whole = out is not None and limit is None
    cases = find({kind: images}, n_samples, 0 if is_whole else limit or N_LISTED)[kind]
    found: dict[str, Any] = {
        "run": str(store.path),
        "kind": kind,
        "of": list(of),
        "n_images": cases.n_images,
        "n_samples": n_samples,
        "sentence": _sentence(kind, of, cases.n_images, n_samples, usual),
    }
    if usual is not None:
        median = None if math.isnan(usual.median) else usual.median
        found |= {**usual._asdict(), "median": median}
    if kind == "border" and not of:
        pairs, counts = border_counts(store, n_samples)
        found["n_pairs"] = len(pairs)
        found["pairs"] = [
            {"clusters": pair, "images": count}
            for pair, count in zip(
                pairs[:PAIRS_LISTED].tolist(), counts[:PAIRS_LISTED].tolist(), strict=True
            )
        ]
    records = _all_records(store, images) if is_whole else _records(store, images, cases.rows)
    if out is None:
        return {**found, "images": list(records)}
    with replaced_when_whole(new_place(out, "--out", (".csv",))) as partial_file:
        _write_csv(partial_file, records)
    return {**found, "out": str(out)}


def describe(found: dict[str, Any]) -> str:
    """Return the images for a person, one a line, and how many there are."""
    lines = [
        f"{pair['images']:12,} images between clusters {pair['clusters'][0]} and {pair['clusters'][1]}"
        for pair in found.get("pairs", [])
    ]
    if (more := found.get("n_pairs", 0) - len(lines)) > 0:
        lines.append(f"and {more:,} more pairs of clusters")
    images = found.get("images", [])
    if images:
        names = [name for name in images[0] if name != "path"]
        lines.append("  ".join(f"{name:>12}" for name in names))
    for image in images:
        values = [value for name, value in image.items() if name != "path"]
        lines.append(
            "  ".join(
                [*(f"{_shown(value):>12}" for value in values), image.get("path", "")]
            ).rstrip()
        )
    if len(images) < found["n_images"] and "out" not in found:
        lines.append(
            f"the clearest {len(images):,}; --limit lists more, --out FILE.csv writes all of them"
        )
    lines.append(found["sentence"] + (f": {found['out']}" if "out" in found else ""))
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    """Return a number as a person reads it."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _gallery(store: RunStore, kind: str, of: Sequence[int]) -> tuple[Gallery, Usual | None]:
    """Return what chooses the images of a kind, and for a look what is usual; refuse what there is not."""
    if kind == "outliers":
        _require_none(kind, of)
        return outlier_gallery(store), None
    if kind == "border":
        return border_gallery(store, _pair(store, of)), None
    name = kind.replace("-", "_")
    if name not in LOOKS:
        msg = f"a gallery must be one of {', '.join(KINDS)}; got {kind}. Give one of them."
        raise ConfigError(msg)
    _require_none(kind, of)
    place = _statistics(store)
    limits, n_samples = (
        value_range(store, partial(Previews, store)),
        store.manifest.images["shape"][0],
    )
    usual = usual_looks(place, n_samples, limits)[name]
    return look_gallery(place, name, limits, usual.below), usual


def _statistics(store: RunStore) -> Path:
    """Return the statistics of a run; where an earlier version left them out, the images are read for them once."""
    shape = store.manifest.images["shape"][1:]
    images = images_of(store) if lacks_statistics(store) else None
    if images is None:
        return require_statistics(store)
    config, parts = stored_config(store), partitions(*rows_and_blocks(store))
    with store.lock():
        work = store.wip("gallery")
        work.mkdir()
        note = replace(notes_of(store.path, shape)[1], group=work / "statistics.zarr")
        note.create(parts)
        n_bytes = images.n_samples * images.n_features * images.dtype.itemsize
        with executor_for_bytes(work / "shared", config, None, n_bytes, None) as executor:
            name = "gallery: images, for the run keeps no statistics"
            items = {partition.index: partition for partition in parts}
            journal = Journal(work / "blocks.jsonl", store.step("pca").key)
            executor.run(name, NoteTask(images, note), items, journal=journal, n_rows=n_rows)
        store.replace([(note.group, layout.statistics(store.path))])
        discard(work)
    return require_statistics(store)


def _require_none(kind: str, of: Sequence[int]) -> None:
    """Refuse numbers behind a kind that takes none."""
    if of:
        msg = f"`gallery {kind}` must have no number behind it; got {' '.join(map(str, of))}. Leave it out."
        raise ConfigError(msg)


def _pair(store: RunStore, of: Sequence[int]) -> tuple[int, int] | None:
    """Return the two clusters that are asked for; None for any two."""
    if not of:
        return None
    known = clusters_of(read_summary(store))
    if len(of) != 2 or of[0] == of[1] or not set(of) <= set(known):
        got = " ".join(map(str, of))
        msg = f"`gallery border` must be given two different clusters of {format_numbers(known)}, or none for any two; got {got}. `gallery border` alone lists the pairs."
        raise ConfigError(msg)
    return of[0], of[1]


def _sentence(
    kind: str, of: Sequence[int], n_images: int, n_samples: int, usual: Usual | None
) -> str:
    """Return how many images there are and what they are."""
    if usual is not None:
        return look_sentence(kind.replace("-", "_"), n_images, n_samples, usual)
    what = {
        "outliers": "beyond two radii of their centroid",
        "border": f"less than {BORDER_RATIO:g} times as far from one cluster as from another",
    }[kind]
    if kind == "border" and of:
        what = f"between clusters {of[0]} and {of[1]}: {what}"
    return f"{n_images:,} of {format_count(n_samples, 'image')} {what}"


def _records(store: RunStore, images: Gallery, rows: NDArray[np.int64]) -> Iterable[dict[str, Any]]:
    """Return what is known of some images, in their order."""
    risen, found = np.sort(rows), {}
    for block in row_ranges(*rows_and_blocks(store)):
        here = risen[slice(*np.searchsorted(risen, block))]
        if len(here):
            part = RowRange(int(here[0]), int(here[-1]) + 1)
            for record in _of_block(store, images, part, here - part.start):
                found[record["sample"]] = record
    return (found[row] for row in rows.tolist())


def _all_records(store: RunStore, images: Gallery) -> Iterator[dict[str, Any]]:
    """Yield what is known of all images of a gallery, a block at a time."""
    for rows, found in chosen({0: images}, store.manifest.images["shape"][0]):
        yield from _of_block(store, images, rows, found[0][0])


def _of_block(
    store: RunStore, images: Gallery, rows: RowRange, here: NDArray[np.int64]
) -> Iterator[dict[str, Any]]:
    """Yield what is known of images at places of a block."""
    labels = store.path / layout.LABELS
    columns = {
        "sample": here + rows.start,
        "label": zarr_io.read_rows(labels, "label", *rows)[here],
    }
    columns |= images.columns(rows, here)
    if "path" in zarr_io.array_names(labels):
        columns["path"] = zarr_io.read_rows(labels, "path", *rows)[here]
    for values in zip(*map(_plain, columns.values()), strict=True):
        yield dict(zip(columns, values, strict=True))


def _plain(array: NDArray[Any]) -> list[Any]:
    """Return values as JSON and CSV have them: floats as short as float32 allows, None where there is none."""
    if array.dtype.kind != "f":
        return list(map(str, array)) if array.dtype.kind not in "iu" else array.tolist()
    return [None if math.isnan(value) else float(f"{value:.7g}") for value in array.tolist()]


def _write_csv(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records; a file without images has no header, for nothing is known of none."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        for number, record in enumerate(records):
            if not number:
                writer.writerow(record)
            writer.writerow(record.values())
