"""What is said of near-duplicates without being asked: the groups that the nearest neighbours make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.engine.progress import Progress
from workflow.engine.verify import rows_and_blocks
from workflow.neighbors.near import find_dip
from workflow.runstore import layout
from workflow.runstore.files import discard
from workflow.steps.neighbors import has_neighbors
from workflow.steps.parts.duplicates import stored_hashes
from workflow.steps.parts.near_duplicates import NearGroups, StoredNeighbors
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from workflow.runstore import RunStore

#: Images up to which they are looked for, in about a second; of more, the disk is read for a minute.
MAX_IMAGES = 2_000_000


def near_summary(store: RunStore, n_listed: int) -> dict[str, Any] | None:
    """Return the radius of near-duplicates, how many groups and images there are, and the largest groups.

    They are those of `duplicates --near`: None without neighbours or with too many images, and no
    group where the distances tell no radius.  A group is its first image and how many it has.
    """
    hashes = stored_hashes(store)
    n_samples, block_rows = rows_and_blocks(store)
    if not has_neighbors(store) or hashes is None or n_samples > MAX_IMAGES:
        return None
    place = store.path / layout.NEIGHBORS
    stored = StoredNeighbors(place, stored_scores(store), hashes, block_rows)
    with Progress(enabled=False).bar("near-duplicates", n_samples) as bar:
        radius = find_dip(stored.count_distances(bar))
        if radius is None:
            return {"within": None, "groups": 0, "images": 0, "largest": []}
        work = store.wip("near")
        found = NearGroups.make(stored, radius, n_listed, work, bar)
        discard(work)
    largest = [[int(group["first"]), int(group["size"])] for group in found.largest]
    return {
        "within": radius,
        "groups": found.n_groups,
        "images": found.n_images,
        "largest": largest,
    }
