"""What a run folder holds: each step absent, partial, complete or stale, and whether its bytes are intact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import schema
from workflow.chunks import row_ranges
from workflow.errors import ImagesError, StoreError
from workflow.pipeline.overclustering import SAMPLE_PIECE_ROWS
from workflow.pipeline.partitions import flat_checksums
from workflow.pipeline.stale import step_plans
from workflow.pipeline.summary import read_summary, summarize
from workflow.pipeline.tasks import part_path
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import Journal, crc_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import Config
    from workflow.runstore import RunStore


def run_status(store: RunStore, config: Config, *, verify: bool = False) -> dict[str, Any]:
    """Return the state of each step.

    Parameters
    ----------
    store : RunStore
        The run.
    config : Config
        The settings it was last run with.
    verify : bool
        Whether everything is read and held against its checksum.

    Returns
    -------
    dict
        ``steps``: name -> state, reason and seconds; ``damaged``: what differs
        from its checksum, empty when nothing does or nothing was verified.
    """
    steps = {
        plan.name: {
            "state": plan.state,
            "reason": plan.reason,
            "seconds": round(store.step(plan.name).seconds, 3),
        }
        for plan in step_plans(store, config)
    }
    damaged = list(_damages(store)) if verify else []
    return {"run": str(store.path), "steps": steps, "verified": verify, "damaged": damaged}


def _damages(store: RunStore) -> Iterator[str]:
    """Yield a line for everything whose bytes are not what was written."""
    for record in store.manifest.steps.values():
        for name, checksum in record.checksums.items():
            yield from _check_named(store.path / name, name, checksum)
    for journal, folder in (("pca/moments", "pca/parts"), ("projection/blocks", "projection/kept")):
        yield from _check_parts(store, journal, folder)
    for update in store.manifest.updates:
        file = f"pca/{update['file']}"
        yield from _check_named(store.path / file, file, update["file_crc"])
    if not store.manifest.images.get("block_rows"):
        return
    checks = {
        "pca": [_check_images],
        "projection": [_check_scores],
        "overcluster": [_check_sample, _check_nearest],
        "report": [_check_summary],
        "labels": [_check_labels],
    }
    for step, of_step in checks.items():
        if store.step(step).state != "complete":
            continue
        for check in of_step:
            try:
                yield from check(store)
            except StoreError as err:
                yield f"{step}: cannot be read ({err})"


def _cut(store: RunStore) -> tuple[int, int]:
    """Return how many images a run has, and how many rows make a block."""
    images = store.manifest.images
    return images["shape"][0], images["block_rows"]


def _check_scores(store: RunStore) -> Iterator[str]:
    """Check the scores."""
    checksums = [[crc] for crc in flat_checksums(store.noted("projection", "blocks"))]
    yield from _check_rows(layout.scores(store.path), ["scores"], *_cut(store), checksums)


def _check_sample(store: RunStore) -> Iterator[str]:
    """Check the rows that the centroids were fitted on."""
    sample = zarr_io.StoredRows.open(layout.sample(store.path), "sample")
    checksums = [[crc] for crc in flat_checksums(store.noted("overcluster", "sample"))]
    yield from _check_rows(sample.path, ["sample"], sample.n_samples, SAMPLE_PIECE_ROWS, checksums)


def _check_nearest(store: RunStore) -> Iterator[str]:
    """Check each image's nearest centroids."""
    part = store.step("overcluster").details["assign_part"]
    checksums: list[Any] = flat_checksums(store.noted("overcluster", part))
    names = ["nearest", "sq_distance"]
    yield from _check_rows(layout.nearest(store.path), names, *_cut(store), checksums)


def _check_labels(store: RunStore) -> Iterator[str]:
    """Check the labels, and what lies beside them."""
    checksums: list[Any] = flat_checksums(store.noted("labels", "blocks"))
    if any(len(block) != len(schema.LABELS) for block in checksums):
        yield f"{layout.LABELS}: another version wrote it, with other arrays; `run` writes it anew"
        return
    labels = store.path / layout.LABELS
    yield from _check_rows(labels, list(schema.LABELS), *_cut(store), checksums)
    yield from _check_beside(labels, set(schema.LABELS), *_cut(store))


def _check_summary(store: RunStore) -> Iterator[str]:
    """Check the summary against what the run holds."""
    try:
        told, found = read_summary(store), summarize(store)
    except StoreError as err:
        yield f"{layout.SUMMARY}: cannot be compared ({err})"
        return
    if told.keys() != found.keys():
        yield f"{layout.SUMMARY}: another version wrote it; `run` writes it anew"
    elif told != found:
        yield f"{layout.SUMMARY}: says other things than the run holds"


def _check_parts(store: RunStore, journal: str, folder: str) -> Iterator[str]:
    """Check the files that tasks left in a folder against what their journal says."""
    _, entries = Journal.read(store.path / f"{journal}.jsonl")
    for index, report in entries.of(sorted(entries)).items():
        name = part_path(Path(folder), index)
        yield from _check_named(store.path / name, str(name), report.get("file_crc", -1))


def _check_images(store: RunStore) -> Iterator[str]:
    """Check the images, copied or where they were given, against what was read in the first pass."""
    known, copied = store.manifest.images, store.path / layout.IMAGES
    n_samples, block_rows = _cut(store)
    is_copied = copied.exists()
    name = layout.IMAGES if is_copied else f"images {known['path']}"
    place = str(copied) if is_copied else known["path"]
    in_place = known["kind"] in ("npy", "zarr") and zarr_io.split_key(place)[0].exists()
    if not is_copied and not in_place:
        # A run outlives its images: without them there is nothing to compare.
        return
    try:
        images = zarr_io.open_images(place)
        if [list(images.shape), str(images.dtype)] != [known["shape"], known["dtype"]]:
            yield f"{name}: shape or type differs"
            return
        if not is_copied and zarr_io.fingerprint(images)["metadata"] != known["metadata"]:
            yield f"{name}: metadata differs"
    except (ImagesError, StoreError) as err:
        yield f"{name}: cannot be read ({err})"
        return
    _, entries = Journal.read(store.path / "pca" / "moments.jsonl")
    for rows, expected in zip(
        row_ranges(n_samples, block_rows), flat_checksums(entries), strict=False
    ):
        try:
            found = zarr_io.crc(images.read(*rows))
        except StoreError as err:
            yield f"{name}: cannot be read ({err})"
            continue
        if found != expected:
            yield f"{name}, images {rows.start} to {rows.stop - 1}: checksum differs"
    if is_copied:
        yield from _check_beside(copied, {images.key}, n_samples, block_rows)


def _check_beside(group: Path, but: set[str], n_samples: int, block_rows: int) -> Iterator[str]:
    """Check what lies beside images or labels: reading compares the checksum of each chunk."""
    for name in zarr_io.array_names(group):
        try:
            if name == "path":
                for rows in row_ranges(n_samples, block_rows):
                    zarr_io.read_rows(group, name, *rows)
            elif name not in but:
                zarr_io.read_array(group, name)
        except StoreError as err:
            yield f"{group.name}/{name}: cannot be read ({err})"


def _check_named(path: Path, name: str, checksum: int) -> Iterator[str]:
    """Check an array of the model or a file."""
    try:
        if path.parent.name == layout.MODEL and path.is_dir():
            found = zarr_io.crc(np.asarray(zarr_io.read_array(path.parent, path.name)))
        else:
            found = crc_of_file(path)
    except (OSError, ValueError, KeyError) as err:
        yield f"{name}: cannot be read ({err})"
        return
    if found != checksum:
        yield f"{name}: checksum differs"


def _check_rows(
    group: Path, names: list[str], n_samples: int, block_rows: int, checksums: list[Any]
) -> Iterator[str]:
    """Check arrays with a checksum for each block."""
    ranges = row_ranges(n_samples, block_rows)
    if len(ranges) != len(checksums):
        yield f"{group.name}: the journal of its checksums is damaged"
        return
    for rows, expected in zip(ranges, checksums, strict=True):
        for name, checksum in zip(names, expected, strict=True):
            try:
                found = zarr_io.crc(zarr_io.read_rows(group, name, *rows))
            except StoreError as err:
                yield f"{group.name}/{name}, rows {rows.start} to {rows.stop - 1}: cannot be read ({err})"
                continue
            if found != checksum:
                yield f"{group.name}/{name}, rows {rows.start} to {rows.stop - 1}: checksum differs"
