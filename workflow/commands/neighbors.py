"""neighbors: the images most like one image, from the stored nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore, layout, zarr_io
from workflow.steps.neighbors import NeighborsStep

if TYPE_CHECKING:
    from pathlib import Path


def require_neighbors(store: RunStore) -> Path:
    """Return the Zarr group of the nearest neighbours of a run.

    Raises
    ------
    StoreError
        If the run has none, with what makes them.
    """
    record = store.step(NeighborsStep.name)
    if record.state != "complete":
        msg = f"the run must have nearest neighbours; in {store.path} step {NeighborsStep.name} is {record.state}. Finish it with `run`."
        raise StoreError(msg)
    if not record.details.get("found"):
        msg = f"the run must have nearest neighbours; {store.path} has none: {record.details['reason']}. Run it again with --set neighbors.enabled=true."
        raise StoreError(msg)
    return store.path / layout.NEIGHBORS


def neighbors(run: Path | str, of: int) -> dict[str, Any]:
    """List the images most like one image.

    Parameters
    ----------
    run : path
        A run with nearest neighbours.
    of : int
        The image.

    Returns
    -------
    dict
        JSON-able: ``run``, ``of``, ``recall`` (share of the true neighbours
        that a run of this size finds, 1 where it finds all), and ``neighbors``,
        each with ``index`` and ``distance`` [score], nearest first; with
        ``path`` where images have file names.

    Raises
    ------
    ConfigError
        If there is no such image.
    StoreError
        If the run has no neighbours.
    """
    store = RunStore.open(run)
    place = require_neighbors(store)
    n_samples = store.manifest.images["shape"][0]
    if not 0 <= of < n_samples:
        msg = f"`--of` must be an image of the run, 0 to {n_samples - 1}; got {of}. Count from 0, in the order of the images."
        raise ConfigError(msg)
    index = zarr_io.read_rows(place, "index", of, of + 1)[0]
    distance = zarr_io.read_rows(place, "distance", of, of + 1)[0]
    found = [
        {"index": int(number), "distance": float(apart), **_path(store, int(number))}
        for number, apart in zip(index, distance, strict=True)
        if number >= 0
    ]
    recall = store.step(NeighborsStep.name).details["recall"]
    return {
        "run": str(store.path),
        "of": of,
        **_path(store, of),
        "recall": recall,
        "neighbors": found,
    }


def describe(found: dict[str, Any]) -> str:
    """Return the neighbours for a person, one a line."""
    name = f" ({found['path']})" if "path" in found else ""
    if not found["neighbors"]:
        return f"image {found['of']:,}{name} is the only one"
    lines = [f"{'image':>12} {'distance':>12}  nearest to image {found['of']:,}{name}"]
    lines += [
        f"{near['index']:12} {near['distance']:12.6g}  {near.get('path', '')}".rstrip()
        for near in found["neighbors"]
    ]
    if found["recall"] < 1:
        lines.append(f"about {found['recall']:.0%} of the true neighbours are found in this run")
    return "\n".join(lines)


def _path(store: RunStore, index: int) -> dict[str, str]:
    """Return the file of an image under ``path``, nothing where images have no names."""
    labels = store.path / layout.LABELS
    if not labels.is_dir() or "path" not in zarr_io.array_names(labels):
        return {}
    return {"path": str(zarr_io.read_rows(labels, "path", index, index + 1)[0])}
