"""similar: the images most like one of the run, or like a new one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import (
    executor_for_bytes,
    open_new,
    readable_images,
    require_labels,
    stored_config,
)
from workflow.commands.predict import stored_basis
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore, layout, zarr_io
from workflow.steps.base import read_ahead
from workflow.steps.browsing.members import values_at
from workflow.steps.neighbors import NeighborsStep, has_neighbors
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.engine.progress import Progress

#: Images that are listed where nothing else is asked for.
LISTED = 15


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
    if not has_neighbors(store):
        msg = f"the run must have nearest neighbours of all images; in {store.path} those that `update` added have none. Use `update --refit-components`, or `update --undo`."
        raise StoreError(msg)
    return store.path / layout.NEIGHBORS


def similar(
    run: Path | str, of: Any, *, limit: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """List the images of a run that are most like an image.

    Parameters
    ----------
    run : path
        A run with labels.
    of : int, path or array
        Number of an image of the run, or a new image: anything that `predict`
        takes, one image of it.
    limit : int, optional
        Images at most, 15 by default.
    progress : Progress, optional
        Where it is shown that a new image is prepared; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``run``, ``of``, ``recall`` (share of the true neighbours
        that is found), and ``neighbors``, each with ``sample`` and ``distance``
        [score], nearest first; ``path`` where images have file names.

    Raises
    ------
    ConfigError
        If there is no such image, or `limit` is below 1.
    ImagesError
        If a new image is not like those of the run, or there are several.
    StoreError
        If an image is to be compared with all, and the run has no labels.

    Notes
    -----
    The stored nearest neighbours are used where they tell enough: of an image
    of the run, up to ``neighbors.k``.  Otherwise the image is compared with
    all others: exactly, in one pass over the scores, whose memory is that of a
    block.  Blocks whose images cannot be near, by the distances of image and
    block to the centroids, are not read.
    """
    store = RunStore.open(run)
    if limit is not None and limit < 1:
        msg = f"`--limit` must be at least 1 image; got {limit}. Raise it."
        raise ConfigError(msg)
    n_samples, is_stored = store.manifest.images["shape"][0], isinstance(of, int | np.integer)
    if is_stored and not 0 <= of < n_samples:
        msg = f"`similar` must be given an image of the run, 0 to {n_samples - 1}; got {of}. Count from 0, in the order of the images."
        raise ConfigError(msg)
    n, recall = limit or LISTED, 1.0
    index: NDArray[np.int64]
    distance: NDArray[np.floating[Any]]
    found = _stored_neighbors(store, int(of), limit) if is_stored else None
    if found is not None:
        index, distance = found
        recall = store.step(NeighborsStep.name).details["recall"]
    else:
        if not (store.path / layout.LABELS).is_dir():
            require_neighbors(store)
        require_labels(store)
        score = (
            stored_scores(store).read(of, of + 1)[0] if is_stored else _score(store, of, progress)
        )
        index, distance = nearest_to(store, score, n, besides=int(of) if is_stored else None)
    paths = _paths(store, index)
    return {
        "run": str(store.path),
        "of": int(of) if is_stored else str(of) if isinstance(of, str | Path) else "a new image",
        **({"path": _paths(store, np.array([of]))[0]} if is_stored and paths else {}),
        "recall": recall,
        "neighbors": [
            {"sample": row, "distance": apart, **({"path": paths[place]} if paths else {})}
            for place, (row, apart) in enumerate(
                zip(index.tolist(), distance.tolist(), strict=True)
            )
        ],
    }


def _paths(store: RunStore, rows: NDArray[np.int64]) -> list[str]:
    """Return the files of images; none where they have no names, or the run has no labels yet."""
    if not (store.path / layout.LABELS).is_dir():
        return []
    found: list[str] = values_at(store, ["path"], rows).get("path", np.empty(0)).tolist()
    return found


def _stored_neighbors(
    store: RunStore, of: int, limit: int | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Return stored neighbours of an image, and their distances; None where there are none, or too few."""
    if not has_neighbors(store):
        return None
    place = require_neighbors(store)
    index = zarr_io.read_rows(place, "index", of, of + 1)[0]
    distance = zarr_io.read_rows(place, "distance", of, of + 1)[0]
    if limit is not None and limit > len(index):
        return None
    return index[index >= 0][:limit].astype(np.int64), distance[index >= 0][:limit]


def _score(store: RunStore, image: Any, progress: Progress | None) -> NDArray[np.float32]:
    """Return the score of a new image, as `predict` makes it."""
    config = stored_config(store)
    given = open_new(store, image, config)
    if given.n_samples != 1:
        msg = f"`similar` must be given one image; {given.name} holds {given.n_samples}. Give one of them."
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with executor_for_bytes(work / "shared", config, None, given.n_bytes, progress) as executor:
            images = readable_images(store, given, work, executor)
            basis = stored_basis(store, executor)
            dtype = store.model_attrs("projection")["dtype"]
            scores = basis.project(images.read(0, 1), 0, dtype)
    score: NDArray[np.float32] = scores[0].astype(np.float32)
    return score


def nearest_to(
    store: RunStore, score: NDArray[np.float32], n: int, *, besides: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the images nearest to a score, without error.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    score : float array of shape (n_components,)
        As the scores of the run are read [score].
    n : int
        How many.
    besides : int, optional
        An image that is left out.

    Returns
    -------
    index : int64 array of shape (at most n,)
        By rising (distance, index).
    distance : float64 array of the same shape
        [score].
    """
    scores, wanted = stored_scores(store), score.astype(np.float64)
    index, distance = np.empty(0, np.int64), np.empty(0)
    bounds = _lower_bounds(store, wanted)
    order = np.argsort(bounds, kind="stable")
    blocks = row_ranges(*rows_and_blocks(store))
    for number, (rows, block) in zip(
        order.tolist(), read_ahead(scores, [blocks[i] for i in order.tolist()]), strict=True
    ):
        if len(index) == n and bounds[number] > distance[-1]:
            break
        apart = np.sqrt(np.square(block.astype(np.float64) - wanted).sum(axis=1))
        here = np.arange(*rows)
        if besides is not None and rows.start <= besides < rows.stop:
            here, apart = (
                np.delete(here, besides - rows.start),
                np.delete(apart, besides - rows.start),
            )
        index, distance = np.concatenate([index, here]), np.concatenate([distance, apart])
        best = np.lexsort((index, distance))[:n]
        index, distance = index[best], distance[best]
    return index, distance


#: Share of a sum of distances that their rounding does not exceed.
ROUNDING = 1e-3


def _lower_bounds(store: RunStore, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a distance for each block of images below which none of it is: the triangle inequality at each centroid."""
    centroids = store.read_model("centroids")[0].astype(np.float64)
    to_centroid = np.sqrt(np.square(centroids - wanted).sum(axis=1))
    labels, bounds = store.path / layout.LABELS, []
    for block in row_ranges(*rows_and_blocks(store)):
        centroid = zarr_io.read_rows(labels, "centroid", *block)
        distance = zarr_io.read_rows(labels, "distance", *block).astype(np.float64)
        far = to_centroid[centroid]
        least = np.abs(far - distance) - ROUNDING * (far + distance)
        bounds.append(float(least.min()))
    return np.array(bounds)


def describe(found: dict[str, Any]) -> str:
    """Return the similar images for a person, one a line."""
    name = f" ({found['path']})" if "path" in found else ""
    of = f"image {found['of']:,}{name}" if isinstance(found["of"], int) else found["of"]
    if not found["neighbors"]:
        return f"{of} is the only one"
    lines = [f"{'sample':>12} {'distance':>12}  nearest to {of}"]
    lines += [
        f"{near['sample']:12} {near['distance']:12.6g}  {near.get('path', '')}".rstrip()
        for near in found["neighbors"]
    ]
    if found["recall"] < 1:
        lines.append(f"about {found['recall']:.0%} of the true neighbours are found in this run")
    return "\n".join(lines)
