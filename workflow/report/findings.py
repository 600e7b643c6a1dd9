"""What a run found and how sure that is, in sentences made from its summary."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from workflow.report.wording import format_count, format_value, structure_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Most clusters that a sentence names.
MOST_NAMED = 12
#: Methods of the tree whose name says too little.
METHOD_NAMES = {"hdbscan": "hdbscan on the centroids"}


def opening_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return what was found: how firm the number of clusters is, and what it means.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    list of str
        Up to two texts, the weightier first.

    Examples
    --------
    >>> opening_sentences({"structure": "odd", "n_resamples": 0})
    ['How sure each cluster is was not looked into: tree.n_resamples is 0.', 'Structure: odd.']
    """
    structure = summary.get("structure")
    meaning = "" if structure is None else structure_sentence(structure)
    texts = [number_sentence(summary), meaning]
    return [text for text in (texts[::-1] if structure == "none" else texts) if text]


def number_sentence(summary: Mapping[str, Any]) -> str:
    """Return how firm the number of clusters is.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        One or two sentences; empty where nothing is known.

    Examples
    --------
    >>> number_sentence({"n_clusters_interval": [11, 12], "n_resamples": 20})
    'Mostly 11 to 12 clusters are found when the counts of images are redrawn (20 times, as another sample would have them).'
    """
    if cut := cut_words(summary):
        return f"This is another cut of the stored tree ({cut}): how sure its clusters are is not known."
    found, n_resamples = interval_words(summary), summary.get("n_resamples")
    sentences = []
    if found:
        low, high = summary["n_clusters_interval"]
        found = f"Mostly {found} clusters are" if low < high else "Mostly the same number is"
        if summary.get("structure") == "none" and high == 1:
            found = "Mostly none are"
        sentences.append(f"{found} found {' or '.join(_ways(summary))}.")
    if n_resamples == 0:
        sentences.append("How sure each cluster is was not looked into: tree.n_resamples is 0.")
    return " ".join(sentences)


def cut_words(summary: Mapping[str, Any]) -> str:
    """Return how the tree was cut again.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        What was asked for; empty where the clusters are of the configured cut.

    Examples
    --------
    >>> cut_words({"cut": {"n_clusters": 5}}), cut_words({"cut": "configured"})
    ('5 clusters asked for', '')
    """
    asked = summary.get("cut")
    if not isinstance(asked, dict):
        return ""
    words = {
        "n_clusters": "{} asked for",
        "min_cluster_size": "clusters of {} or more",
        "layer": "layer {}",
    }
    nouns = {"n_clusters": "cluster", "min_cluster_size": "image"}
    return ", ".join(
        words[name].format(format_count(value, nouns.get(name, "")))
        if name in words
        else f"{name.replace('_', ' ')} {format_value(value)}"
        for name, value in asked.items()
    )


def plateau_words(summary: Mapping[str, Any]) -> str:
    """Return between which thresholds of the test the number of clusters is the one found.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        One threshold or two; empty where the test did not make the clusters.

    Examples
    --------
    >>> found = {"n_clusters": 5, "ladder": [[0.7, 4], [0.8, 5], [0.9, 5]]}
    >>> plateau_words({**found, "plateau": [0.8, 0.9]}), plateau_words({**found, "plateau": [0.7, 0.7]})
    ('0.8 to 0.9', '')
    """
    plateau = summary.get("plateau")
    ladder = {float(threshold): count for threshold, count in summary.get("ladder") or ()}
    # The test may find borders that are not believed: its number is another one then.
    if not plateau or ladder.get(float(plateau[0])) != summary.get("n_clusters"):
        return ""
    low, high = (format_value(end) for end in plateau)
    return low if low == high else f"{low} to {high}"


def interval_words(summary: Mapping[str, Any]) -> str:
    """Return between which numbers that of the clusters lies.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        One number or two; empty where no other than the one found was looked for.

    Examples
    --------
    >>> interval_words({"n_clusters_interval": [9, 1100], "n_resamples": 20})
    '9 to 1,100'
    """
    if not summary.get("n_clusters_interval") or not _ways(summary):
        return ""
    low, high = (format_count(end) for end in summary["n_clusters_interval"])
    return low if low == high else f"{low} to {high}"


def _ways(summary: Mapping[str, Any]) -> list[str]:
    """Return by which ways other numbers of clusters were looked for."""
    ways = []
    n_resamples = summary.get("n_resamples")
    if n_resamples:
        times = "once" if n_resamples == 1 else f"{n_resamples:,} times"
        ways.append(
            f"when the counts of images are redrawn ({times}, as another sample would have them)"
        )
    # Other methods have no threshold that could widen the interval.
    if summary.get("tree_method") == "contrast" and summary.get("ladder"):
        ways.append("when the test is a little stricter or milder")
    return ways


def method_sentence(summary: Mapping[str, Any]) -> str:
    """Return which method made the clusters, why, and what the others would say.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        One or two sentences; empty where the method is not known.

    Examples
    --------
    >>> method_sentence({"n_clusters": 9, "tree_method": "contrast", "tree_reason": "clusters touch",
    ...                  "tree_opinions": {"contrast": 9, "density": 3, "hdbscan": 0}})
    'Method: contrast, because clusters touch. For comparison, density finds 3, hdbscan on the centroids none.'
    """
    method = summary.get("tree_method")
    if not method:
        return ""
    reason = summary.get("tree_reason")
    text = f"Method: {METHOD_NAMES.get(method, method)}{f', because {reason}' if reason else ''}."
    compared = compared_methods(summary)
    return f"{text} For comparison, {compared}." if compared else text


def compared_methods(summary: Mapping[str, Any]) -> str:
    """Return how many clusters each method finds, but for the one that made the number shown.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        A clause; empty where none but this one was asked.

    Notes
    -----
    The method used is among them where its own number is not the one shown, as
    after another cut of its tree.
    """
    method = summary.get("tree_method")
    parts: list[str] = []
    for name, count in dict(summary.get("tree_opinions") or {}).items():
        if name == method and count == summary.get("n_clusters"):
            continue
        words = f"{METHOD_NAMES.get(name, name)}{' by itself' if name == method else ''}"
        verb = "" if parts else " finds"
        parts.append(f"{words}{verb} {format_count(count) if count else 'none'}")
    return ", ".join(parts)


def doubtful_names(clusters: list[int], n_clusters: int) -> str:
    """Return the doubtful clusters by number, the first dozen of them.

    Parameters
    ----------
    clusters : list of int
        Doubtful clusters, rising.
    n_clusters : int
        Clusters of the run.

    Returns
    -------
    str
        Names, or that it is none or all.

    Examples
    --------
    >>> doubtful_names([0, 5], 10), doubtful_names([], 10), doubtful_names(list(range(14)), 30)[-20:]
    ('0 and 5', 'none', '9, 10, 11 and 2 more')
    """
    if not clusters:
        return "none"
    if len(clusters) == n_clusters > MOST_NAMED:
        return f"all {n_clusters:,}"
    names = [f"{cluster:,}" for cluster in clusters[:MOST_NAMED]]
    if len(clusters) > MOST_NAMED:
        return f"{', '.join(names)} and {len(clusters) - MOST_NAMED:,} more"
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def doubtful_sentence(summary: Mapping[str, Any]) -> str:
    """Return which clusters are doubtful and what that means.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        Sentences; empty where it is not known.

    Examples
    --------
    >>> doubtful_sentence({"n_clusters": 4, "n_resamples": 20, "doubtful_clusters": [2]})[:20]
    'Doubtful: cluster 2.'
    """
    clusters = summary.get("doubtful_clusters")
    if clusters is None or not summary.get("n_resamples"):
        return ""
    if not clusters:
        # A single cluster holds whatever is there: that it comes back says nothing.
        if summary["n_clusters"] < 2:
            return ""
        return "No cluster is doubtful: each is found again in nearly all redrawn counts."
    noun = "cluster" if len(clusters) == 1 else "clusters"
    return (
        f"Doubtful: {noun} {doubtful_names(clusters, summary['n_clusters'])}. Such a cluster is "
        "often not found again in redrawn counts: with other images of the same kind it may join "
        "a neighbour, or fall apart."
    )


def duplicates_sentence(summary: Mapping[str, Any]) -> str:
    """Return how many images are copies of others, as far as that shows in the centroids.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    str
        One sentence; empty where there are none or it is not known.

    Examples
    --------
    >>> duplicates_sentence({"duplicates": {"exact_cells": 1, "exact_images": 52}})
    '1 centroid holds nothing but copies of an image (52 images).'
    """
    found = dict(summary.get("duplicates") or {})
    parts = []
    for kind, words in (("exact", "copies of an image"), ("near", "near-copies of an image")):
        n_cells = int(found.get(f"{kind}_cells", 0))
        if n_cells:
            images = format_count(found.get(f"{kind}_images", 0), "image")
            holds = "holds" if n_cells == 1 else "hold"
            cells = format_count(n_cells, "centroid")
            parts.append(f"{cells} {holds} nothing but {words} ({images})")
    return f"{'; '.join(parts)}." if parts else ""


def duplicates_command(summary: Mapping[str, Any], run_path: str = "RUN") -> str:
    """Return the command that lists the duplicates of a run.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.
    run_path : str
        Run folder.

    Returns
    -------
    str
        The command, for near-duplicates too where there are any.

    Examples
    --------
    >>> duplicates_command({"duplicates": {"near_cells": 2}}, "my run")
    "python -m workflow duplicates 'my run' --near"
    """
    near = dict(summary.get("duplicates") or {}).get("near_cells")
    return f"python -m workflow duplicates {shlex.quote(run_path)}{' --near' if near else ''}"
