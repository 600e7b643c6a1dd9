"""forget: the images that one update brought leave a run, and no copy of them stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import executor_for_bytes, stored_config
from workflow.commands.update import replaced, require_labelled, run_beside, write_page
from workflow.commands.updating.forgotten import note_forgotten
from workflow.commands.updating.removing import Removal
from workflow.engine.segments import added, n_searched, segment_folder, segments
from workflow.engine.summary import write_summary
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard
from workflow.runstore.growth import link_tree
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.parts.clusters.counts import stored_counts
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.progress import Progress


def forget(
    run: Path | str,
    segment: int,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take the images of one update out of a run, for good.

    Moments, populations and the counts of the centroid graph are those of the
    images that stay, as if the others had never come; the components that
    scores are made with and the centroids stay, but for those that have lost
    all their images.  The tree is made anew of the graph, and the labels
    follow.  What the run kept to undo updates goes, too: it may hold the
    images.  The source does not bring them back, unless an update is told to
    take them ``again``.  Until the end, when all is put in place at once, the
    run is as it was.

    Parameters
    ----------
    run : path
        A run with labels, and an update.
    segment : int
        The number of the update, 1 for the first; those behind it get the number before theirs.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        Images before, taken out and now (``n_samples_before``, ``n_samples_removed``, ``n_samples``), clusters
        and centroids before and now (``n_clusters_before``, ``n_clusters``, ``n_centroids_before``,
        ``n_centroids``), and the share of noise.

    Raises
    ------
    StoreError
        If the run has no labels, or another command writes it.
    ConfigError
        If there is no such update, or the labels are families.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labelled(store, config, "forget")
        _require_segment(store, segment)
        work, scores = store.wip("forget"), stored_scores(store)
        row_bytes = NEAREST_BYTES + scores.n_features * scores.dtype.itemsize
        n_bytes = scores.n_samples * row_bytes
        try:
            with executor_for_bytes(work / "shared", config, client, n_bytes, progress) as executor:
                shorter, found = _made(store, config, executor, segment, work)
        except BaseException:
            discard(work)
            raise
        _put_in_place(store, shorter)
        discard(store.path / layout.WIP)
        write_page(store, config)
    return found


def _require_segment(store: RunStore, segment: int) -> None:
    """Refuse a number that is not that of an update."""
    n_updates = len(added(store))
    if not n_updates:
        msg = f"`forget` must find an update that gave labels; {store.path} has none. Nothing is changed."
        raise ConfigError(msg)
    if segment == 0:
        msg = "`forget` must be told an update, from 1; got 0, the images that components, centroids and neighbours were found of. Start a run of the others in a new folder."
        raise ConfigError(msg)
    if not 0 < segment <= n_updates:
        msg = f"`forget` must be told an update, 1 to {n_updates}; got {segment}. The coordinate `segment` of the labels is its number."
        raise ConfigError(msg)
    if segments(store)[segment].stop <= n_searched(store):
        msg = f"`forget` must be told an update behind the last --refit-components; components, centroids and neighbours were found of the images of {segment}, too. Start a run of the others in a new folder."
        raise ConfigError(msg)


def _made(
    store: RunStore, config: Config, executor: Executor, number: int, work: Path
) -> tuple[RunStore, dict[str, Any]]:
    """Make the shorter run beside the run, of links to its files; return it, and what is found."""
    shadow, n_segments = work / "run", len(segments(store))
    # The page shows the images that go, columns have rows of them.
    shorter = run_beside(store, shadow, without=(layout.REPORT, layout.COLUMNS))
    for kept in (n for n in range(1, n_segments) if n != number):
        source = segment_folder(store, kept)
        target = segment_folder(shorter, kept - (kept > number))
        target.parent.mkdir(exist_ok=True)
        if source.exists():
            link_tree(source, target)
        # Those behind hold the images; those before it know nothing of what is forgotten.
        discard(target / layout.BEFORE)
    block_rows = store.manifest.images["block_rows"]
    fixed = config.model_copy(update={"block_rows": block_rows})
    before, n_centroids = stored_counts(store), len(store.read_model("population")[0])
    note_forgotten(shorter, segments(store)[number])
    Removal(shorter, fixed, executor, number).remove()
    counts = stored_counts(shorter)
    shorter.step("report").state = "partial"
    write_summary(steps.STEPS, shorter)
    return shorter, {
        "n_samples_before": before.n_samples,
        "n_samples_removed": before.n_samples - counts.n_samples,
        "n_samples": counts.n_samples,
        "n_clusters_before": before.n_clusters,
        "n_clusters": counts.n_clusters,
        "n_centroids_before": n_centroids,
        "n_centroids": len(shorter.read_model("population")[0]),
        "noise_fraction": counts.n_noise / counts.n_samples,
    }


def _put_in_place(store: RunStore, shorter: RunStore) -> None:
    """Let the shorter run take the place of the run, in one move."""
    gone = store.wip("gone")
    gone.mkdir()
    there = [*replaced(store.path), store.path / layout.SEGMENTS]
    new = [*replaced(shorter.path), shorter.path / layout.SEGMENTS]
    new = [place for place in new if place.exists()]
    names = {place.name for place in new}
    store.manifest = shorter.manifest
    store.replace(
        [
            *((place, store.path / place.name) for place in new),
            *((place, gone / place.name) for place in there if place.name not in names),
        ]
    )


def describe(found: Mapping[str, Any]) -> str:
    """Return what was forgotten, for a person."""
    n_dropped = found["n_centroids_before"] - found["n_centroids"]
    dropped = f" {format_count(n_dropped, 'centroid')} left without images." if n_dropped else ""
    return (
        f"{format_count(found['n_samples_removed'], 'image')} forgotten, for good: {found['n_samples']:,} in "
        f"{format_count(found['n_clusters'], 'cluster')} ({found['n_clusters_before']:,} before), "
        f"{found['noise_fraction']:.1%} noise.{dropped}"
    )
