"""What a run folder holds: each step absent, partial, complete or stale, and whether its bytes are intact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import schema
from workflow.chunks import row_ranges
from workflow.errors import StoreError
from workflow.pipeline.executor import flat_checksums
from workflow.pipeline.overclustering import SAMPLE_PIECE_ROWS
from workflow.pipeline.stale import step_plans
from workflow.pipeline.summary import read_summary, summarize
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import Journal, crc_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    damaged = list(_damages(store, config)) if verify else []
    return {"run": str(store.path), "steps": steps, "verified": verify, "damaged": damaged}


def _damages(store: RunStore, config: Config) -> Iterator[str]:
    """Yield a line for everything whose bytes are not what was written."""
    for record in store.manifest.steps.values():
        for name, checksum in record.checksums.items():
            yield from _check_named(store.path / name, name, checksum)
    done = {name for name, record in store.manifest.steps.items() if record.state == "complete"}
    block_rows = store.manifest.images.get("block_rows")
    if not block_rows:
        return
    n_samples = store.manifest.images["shape"][0]
    if "pca" in done and (store.path / layout.IMAGES).exists():
        yield from _check_images(store, n_samples, block_rows)
    if "overcluster" in done:
        sample = zarr_io.StoredRows.open(layout.sample(store.path), "sample")
        pieces: list[Any] = [
            [c] for c in flat_checksums(store.journal("overcluster", "sample").entries)
        ]
        yield from _check_rows(sample.path, ["sample"], sample.n_samples, SAMPLE_PIECE_ROWS, pieces)
    if "report" in done:
        yield from _check_summary(store, config)
    if "projection" in done:
        journal = store.journal("projection", "blocks").entries
        checksums = [[crc] for crc in flat_checksums(journal)]
        yield from _check_rows(
            layout.scores(store.path), ["scores"], n_samples, block_rows, checksums
        )
        for index, report in sorted(journal.items()):
            part = layout.kept_images(store.path) / f"part-{index:06d}.npz"
            yield from _check_named(
                part, str(part.relative_to(store.path)), report.get("file_crc", -1)
            )
    if "overcluster" in done:
        part = store.step("overcluster").details["assign_part"]
        of_pairs: list[Any] = flat_checksums(store.journal("overcluster", part).entries)
        names = ["nearest", "sq_distance"]
        yield from _check_rows(layout.nearest(store.path), names, n_samples, block_rows, of_pairs)
    if "labels" in done:
        of_labels: list[Any] = flat_checksums(store.journal("labels", "blocks").entries)
        if any(len(block) != len(schema.LABELS) for block in of_labels):
            yield f"{layout.LABELS}: another version wrote it, with other arrays; `run` writes it anew"
            return
        yield from _check_rows(
            store.path / layout.LABELS, list(schema.LABELS), n_samples, block_rows, of_labels
        )


def _check_summary(store: RunStore, config: Config) -> Iterator[str]:
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


def _check_images(store: RunStore, n_samples: int, block_rows: int) -> Iterator[str]:
    """Check the copy of the images against what was read in the first pass."""
    images = zarr_io.open_images(store.path / layout.IMAGES)
    path = store.folder("pca") / "moments.jsonl"
    key = Journal.key_of(path) if path.is_file() else None
    checksums = flat_checksums(Journal(path, key).entries) if key else []
    if not checksums:
        return
    for rows, expected in zip(row_ranges(n_samples, block_rows), checksums, strict=False):
        try:
            found = zarr_io.crc(images.read(*rows))
        except StoreError as err:
            yield f"{layout.IMAGES}: cannot be read ({err})"
            continue
        if found != expected:
            yield f"{layout.IMAGES}, images {rows.start} to {rows.stop - 1}: checksum differs"


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
