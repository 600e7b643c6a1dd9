"""Names of clusters: each belongs to a set of centroids, and is shown at the cluster that is mostly that set."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.runstore import RunStore
    from workflow.steps.parts.clusters.ties import Ties

#: Key of the summary, and of what the labels step notes.
KEY = "cluster_names"
#: Most characters of a name.
MAX_LENGTH = 100
#: What a line of text cannot hold: control characters, surrogates, ends of lines and paragraphs, ...
UNFIT = {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
#: ... and marks that turn the direction of what follows.
TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def checked_name(text: Any) -> str:
    """Return a name without space around it; refuse what is not one line of so many characters."""
    if not isinstance(text, str):
        msg = f"a name must be text; got {text!r}. Give a word or two."
        raise ConfigError(msg)
    name = unicodedata.normalize("NFC", text).strip()
    odd = [c for c in name if unicodedata.category(c) in UNFIT or c in TURNING]
    if odd or len(name) > MAX_LENGTH:
        got = f"the character {odd[0]!r}" if odd else f"{len(name):,} characters"
        msg = f"a name must be one line of at most {MAX_LENGTH} characters; got {got}. Give a shorter, plain one."
        raise ConfigError(msg)
    return name


def cluster_names(store: RunStore) -> dict[int, str]:
    """Return the names of the clusters of a run, as noted with its labels."""
    found = store.step("labels").details.get(KEY, {})
    return {int(cluster): name for cluster, name in found.items()}


def lost_names(store: RunStore) -> list[str]:
    """Return the names that no cluster has now."""
    found = set(cluster_names(store).values())
    known = dict.fromkeys(entry["name"] for entry in store.manifest.names)
    return [name for name in known if name not in found]


def lost_words(names: Sequence[str]) -> str:
    """Return that names are not found now; empty where there are none."""
    if not names:
        return ""
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12:,} more" if len(names) > 12 else "")
    kept = "it is kept and comes back with its cluster"
    if len(names) > 1:
        kept = "they are kept and come back with their clusters"
    return f"not found now: {listed}; {kept}"


def named(
    store: RunStore, label: NDArray[np.int32], clusters: Sequence[int], name: str
) -> dict[str, Any]:
    """Return what is kept of the name of a cluster, or of some that become one, of present labels of the centroids."""
    centroids = np.flatnonzero(np.isin(label, clusters))
    key = store.step("overcluster").key
    return {"name": name, "centroids": _as_text(centroids), "of": key}


def _as_text(centroids: NDArray[np.integer[Any]]) -> str:
    """Return numbers as the manifest has them: in one line, where a list would take a line for each."""
    return " ".join(map(str, centroids.tolist()))


def _from_text(centroids: str) -> NDArray[np.int64]:
    """Return the numbers of such a line."""
    return np.array(centroids.split(), np.int64)


def change_names(
    store: RunStore, added: Sequence[dict[str, Any]], removed: Sequence[int] = ()
) -> dict[str, Any]:
    """Remove kept names by their places, and add others at the end; return what `restore_names` takes."""
    names, gone = store.manifest.names, set(removed)
    undo = {"added": len(added), "removed": [[place, names[place]] for place in sorted(gone)]}
    kept = [entry for place, entry in enumerate(names) if place not in gone]
    store.manifest.names = [*kept, *added]
    return undo


def restore_names(store: RunStore, undo: dict[str, Any]) -> None:
    """Take a change of the names back, the last one."""
    names = store.manifest.names
    del names[len(names) - undo["added"] :]
    for place, entry in undo["removed"]:
        names.insert(place, entry)


def note_names(store: RunStore, label: NDArray[np.int32], *, are_families: bool = False) -> None:
    """Note which clusters have which names, from the labels of the centroids; saved with the manifest."""
    details = store.step("labels").details
    details.pop(KEY, None)
    found = {} if are_families else _find(store, label)
    if found:
        details[KEY] = found


def _find(store: RunStore, label: NDArray[np.int32]) -> dict[str, str]:
    """Return the clusters that have a name.

    A name is shown at the cluster that holds most of the images of its
    centroids, if most of the images of the cluster are theirs.  Where two would
    be, that with more in common is; a name is shown once.
    """
    if not store.manifest.names:
        return {}
    (population,) = store.read_model("population")
    size = np.bincount(label[label >= 0], population[label >= 0])
    fits = []
    for place, entry in enumerate(store.manifest.names):
        centroids = _from_text(entry["centroids"])
        images, here = population[centroids], label[centroids]
        # Names may be as many as clusters: no array over all of these for each.
        clusters, number = np.unique(here[here >= 0], return_inverse=True)
        if not len(clusters):
            continue
        shared = np.bincount(number, images[here >= 0])
        cluster, n_shared = int(clusters[shared.argmax()]), int(shared.max())
        n_before = int(images.sum())
        if 2 * n_shared > n_before and 2 * n_shared > size[cluster]:
            union = n_before + int(size[cluster]) - n_shared
            fits.append((-n_shared / union, place, cluster, entry["name"]))
    found: dict[int, str] = {}
    taken: set[str] = set()
    for _, _, cluster, name in sorted(fits):
        if cluster not in found and name not in taken:
            found[cluster] = name
            taken.add(name)
    return {str(cluster): found[cluster] for cluster in sorted(found)}


def are_outdated(store: RunStore) -> bool:
    """Whether names belong to centroids that were found before those of now."""
    key = store.step("overcluster").key
    return any(entry["of"] != key for entry in store.manifest.names)


def move_names(store: RunStore, ties: Ties) -> None:
    """Let names that belong to centroids of before belong to those of now, by the images of both.

    A centroid of now is part of the set where most of its images were of
    centroids of the set.  Where the labels of before are gone, it is not known
    what a name meant, and it stays without a cluster.
    """
    key = store.step("overcluster").key
    n_centroids = len(store.read_model("population")[0])
    before, now, n_shared = ties.of_old_images.images
    population = np.bincount(now, n_shared, n_centroids)
    for entry in store.manifest.names:
        if entry["of"] != key:
            ours = np.isin(before, _from_text(entry["centroids"]))
            images = np.bincount(now[ours], n_shared[ours], n_centroids)
            centroids = _as_text(np.flatnonzero(2 * images > population))
            entry |= {"centroids": centroids, "of": key}
