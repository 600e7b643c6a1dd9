"""Ids of the clusters of a run: kept from one labelling to the next, with a record of what became of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.formatting import format_count
from workflow.labels.lineage import (
    CHANGES,
    Changes,
    Overlap,
    are_same,
    count_changes,
    find_changes,
    mostly_of,
    new_ids,
)
from workflow.runstore.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.runstore import RunStore
    from workflow.steps.parts.clusters.ties import Ties

#: Key of the summary, and file in the folder of the labels step.
KEY, FILE = "lineage", "lineage.npz"
#: Labellings that are kept, the latest: 16 MiB of 16,384 centroids.
MAX_STATES = 256
#: Changes that the page lists, the latest.
MAX_TOLD = 20
#: What a row of the table holds, beside the record that it belongs to.
COLUMNS = ("state", *Changes._fields)


class Followed(NamedTuple):
    """What comes of new labels.

    Attributes
    ----------
    ids : int64 array of shape (n_clusters,)
        Id of each cluster.
    lineage : Lineage
        With the new state.
    """

    ids: NDArray[np.int64]
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Lineage:
    """The ids that clusters of a run have had, and what became of them.

    One cluster is nothing to tell apart: it is 0, whatever was before, and no state of a lineage.

    Attributes
    ----------
    states : int32 array of shape (n_states, n_centroids)
        Id of each centroid in each labelling, -1 for noise: each labelling once, the last one last.
    next_id : int
        The first id that no cluster has had.
    rows : int64 array of shape (n_rows, 6)
        What became of clusters, with the columns `COLUMNS`.
    records : list of dict
        For each change of the labels its number (``state``), ``date``, what was ``done``, and the counts of
        `count_changes`; in the manifest.
    """

    states: NDArray[np.int32]
    next_id: int
    rows: NDArray[np.int64]
    records: list[dict[str, Any]]

    @classmethod
    def of(cls, store: RunStore) -> Lineage:
        """Read that of a run; one of an earlier version has the state that its labels show."""
        file, records = store.path / "labels" / FILE, list(store.manifest.lineage)
        if records and file.is_file():
            found = read_arrays(file)
            return cls(found["states"], int(found["next_id"]), found["rows"], records)
        states, labels = np.empty((0, 0), np.int32), store.step("labels")
        found = labels.details | store.manifest.cut.get("found", {})
        if labels.state == "complete" and found.get("level") != "families":
            (label,) = store.read_model("centroid_label")
            states = label[None] if label.max(initial=-1) > 0 else states
        next_id = int(states.max(initial=-1)) + 1
        return cls(states, next_id, np.empty((0, len(COLUMNS)), np.int64), records)

    def are_of(self, key: str) -> bool:
        """Whether the states are of the centroids that a step with this key found."""
        return not self.records or self.records[-1]["of"] == key

    def moved(self, ties: Ties, *, of: str) -> Lineage:
        """Return the lineage on other centroids: each has the id of most of its images, if there is one."""
        own, states = np.arange(ties.n_centroids), self.states
        if ties.are_moved:
            moved = [mostly_of(ties.overlap(state, own), len(own)) for state in states]
            states = np.array(moved, np.int32)
        elif len(states):
            n_new = len(own) - states.shape[1]
            states = np.pad(states, ((0, 0), (0, n_new)), constant_values=-1)
        records = [*self.records[:-1], *(record | {"of": of} for record in self.records[-1:])]
        return replace(self, states=states.reshape(len(self.states), len(own)), records=records)

    def follow(
        self,
        label: NDArray[np.int32],
        ties: Ties,
        *,
        done: str,
        of: str,
        overlap: Overlap | None = None,
        sizes: NDArray[np.int64] | None = None,
    ) -> Followed:
        """Give the clusters of new labels their ids.

        A labelling that was there before has its ids again.  Else a cluster has the id of the one of the last
        labelling with which it shares more than half of the images of either; else that of such a cluster of
        an earlier labelling, the latest first, whose id is free; else a new one.  Images that have come since
        do not count.

        Parameters
        ----------
        label : int32 array of shape (n_centroids,)
            Cluster of each centroid by number, from 0 without gaps, -1 for noise.
        ties : Ties
            What ties the centroids of the states to those of `label`.
        done, of : str
            What was done, in words, and the key of the step that found the centroids.
        overlap : Overlap, optional
            Images of the present ids and the new numbers, counted image by image over the images that there
            were before; by default images count with their nearest centroid.
        sizes : int64 array of shape (n_clusters,) [images], optional
            Images of the new clusters; by default those of `overlap`.

        Returns
        -------
        Followed
            The ids, and the lineage to be kept.

        Notes
        -----
        Images that come to a run go so, where centroids keep their places and new ones come behind them
        (``n_old`` images, ``label`` from `number_clusters`)::

            overlap = count_overlap((stored[rows], new[rows]) for rows in row_ranges(n_old, block))
            ids, lineage = Lineage.of(store).follow(
                label, Ties.same(population), done="update", of=key, overlap=overlap, sizes=sizes
            )
            labels = labels.with_ids(ids)
            moves += lineage.stage(store, place / FILE)
        """
        n_clusters = int(label.max(initial=-1)) + 1
        old = ties.of_old_images
        moved = self.moved(old, of=of)
        if n_clusters < 2:
            return Followed(np.arange(n_clusters), moved)
        before = self.states[::-1] if len(self.states) else np.empty((1, 0), np.int32)
        overlaps = [old.overlap(state, label) for state in before]
        present = overlaps[0] if overlap is None else overlap
        same = next((one for one in overlaps if are_same(one)), present)
        ids = new_ids(same, n_clusters, self.next_id, overlaps[1:])
        # New images make a cluster grow.
        grown = ties.overlap(before[0], label) if overlap is None else overlap
        changes = find_changes(ties.with_left(grown, before[0]), ids, sizes)
        return Followed(ids, moved.after(label, ids, changes, done=done, of=of))

    def after(
        self,
        label: NDArray[np.int32],
        ids: NDArray[np.int64],
        changes: Changes,
        *,
        done: str,
        of: str,
    ) -> Lineage:
        """Return the lineage with a new state, and a record of what became of the clusters of the last one."""
        last = self.states[-1:]
        n_before = len(np.unique(last[last >= 0]))
        state = np.append(ids, -1)[label].astype(np.int32)
        states = self.states[(self.states != state).any(axis=1)]
        states = np.vstack([states, state])[-MAX_STATES:]
        records, rows = self.records, self.rows
        if len(changes.change) or not records:
            number = records[-1]["state"] + 1 if records else int(n_before > 0)
            record = {
                "state": number,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "done": done,
                "of": of,
                **count_changes(changes, n_before, len(ids)),
            }
            records = [*records, record][-MAX_STATES:]
            added = np.column_stack([np.full(len(changes.change), number), *changes])
            rows = np.vstack([rows, added])
            rows = rows[rows[:, 0] >= records[0]["state"]]
        next_id = max(self.next_id, int(ids.max()) + 1)
        return Lineage(states, next_id, rows, records)

    def stage(self, store: RunStore, file: Path) -> list[tuple[Path, Path]]:
        """Note the records in the manifest, write the rest to a file; return the moves that make it real."""
        store.manifest.lineage = self.records
        if not self.records:
            return []
        write_arrays(
            file, {"states": self.states, "next_id": np.array(self.next_id), "rows": self.rows}
        )
        return [(file, store.folder("labels") / FILE)]


def lineage_rows(store: RunStore) -> list[dict[str, Any]]:
    """Return what became of the clusters of a run, a record for each change, the earliest first."""
    lineage = Lineage.of(store)
    known = {record["state"]: record for record in lineage.records}
    return [
        {
            "state": state,
            "date": known[state]["date"],
            "done": known[state]["done"],
            "change": CHANGES[change],
            **dict(zip(COLUMNS[2:], rest, strict=True)),
        }
        for state, change, *rest in lineage.rows.tolist()
    ]


def has_changed(store: RunStore) -> bool:
    """Whether the clusters of a run were others before."""
    return any(record["n_before"] for record in store.manifest.lineage)


def told_changes(store: RunStore) -> list[tuple[str, str, str]]:
    """Return day, cause and outcome of each change of the clusters in words, the latest first; none where there is one state."""
    if not has_changed(store):
        return []
    records = store.manifest.lineage[: -MAX_TOLD - 1 : -1]
    return [(record["date"][:10], record["done"], change_words(record)) for record in records]


def lineage_summary(store: RunStore) -> dict[str, Any]:
    """Return the counts of each change for the summary; nothing where the labels never changed."""
    records = store.manifest.lineage
    if not has_changed(store):
        return {}
    # Dates stand in the manifest alone: what is found depends on the images, not on the day.
    left_out = ("date", "of")
    return {KEY: [{k: v for k, v in r.items() if k not in left_out} for r in records]}


def change_words(record: Mapping[str, Any]) -> str:
    """Return in one line what became of the clusters."""
    if not record["n_before"]:
        return f"{format_count(record['n_clusters'], 'cluster')} found"
    before = format_count(record["n_before"], "cluster")
    kept = f"{record['kept']:,} kept"
    sized = [f"{record[name]:,} {name}" for name in ("grew", "shrank") if record[name]]
    words = [f"{kept} ({' and '.join(sized)})" if sized else kept]
    if record["merged"]:
        words.append(f"{record['merged_from']:,} merged into {record['merged']:,}")
    if record["split"]:
        words.append(f"{record['split']:,} split into {record['split_into']:,}")
    words += [f"{record[name]:,} {name}" for name in ("born", "gone") if record[name]]
    return f"{before} before, {record['n_clusters']:,} now: {', '.join(words)}"
