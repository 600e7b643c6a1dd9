"""The summary of a run as rows of a table, and as lines for a terminal; any key but two may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.formatting import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_value,
)
from workflow.report.sentences import (
    compared_methods,
    cut_words,
    doubtful_names,
    duplicates_sentence,
    headline,
    interval_words,
    label_noun,
    layer_words,
    names_sentence,
    opening_sentences,
    partition_commands,
    plateau_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Row = tuple[str, str, Callable[[Any], str]]

# Key of the summary, words for it, and how to write its value.
_FIRST: tuple[_Row, ...] = (
    ("n_samples", "images", format_count),
    ("n_clusters", "clusters", format_count),
)
_KNOWN: tuple[_Row, ...] = (
    ("noise_fraction", "noise", format_share),
    ("n_centroids", "centroids", format_count),
    ("n_components", "principal components", format_count),
    ("variance_kept", "variance kept", format_share),
    ("tree_method", "method", format_value),
    ("tree_reason", "why this method", format_value),
    ("n_resamples", "redrawn counts", format_count),
    ("min_cluster_size", "minimum images of a cluster", format_value),
    ("intrinsic_dimension", "intrinsic dimension", format_value),
    ("peak_rss_bytes", "memory of the largest process", format_bytes),
)

# Said of clusters only.
_OF_CLUSTERS = ("n_clusters", "noise_fraction", "min_cluster_size")
# Lists with more entries have their own place on the page.
_MAX_ENTRIES = 8
# Said by a sentence, a plot or a row of several keys.
_ELSEWHERE = frozenset(
    {
        "structure",
        "segments",
        "n_searched",
        "seconds",
        "n_clusters_by_threshold",
        "n_clusters_by_layer",
        "plateau",
        "n_clusters_interval",
        "n_clusters_by_method",
        "doubtful_clusters",
        "duplicates",
        "near_duplicates",
        "cut",
        "is_requested",
        "n_clusters_tested",
        "partitions",
        "whitened",
        "brightness",
        "n_unreadable",
        "families",
        "n_families",
        "family_fraction",
        "cluster_names",
        "lineage",
    }
)


def describe_summary(summary: Mapping[str, Any]) -> str:
    """Return a summary for a terminal: what was found, what to do next, where the page is."""
    noise = format_share(float(summary["noise_fraction"]))
    centroids = format_count(summary["n_centroids"], "centroid")
    took = summary["seconds"]
    seconds = f"{format_seconds(took['total'])}, start {format_seconds(took.get('start', 0.0))}"
    rest = "in none" if label_noun(summary) == "family" else "noise"
    lines = [f"{headline(summary)}; {noise} {rest}, from {centroids}, in {seconds}."]
    lines += [*opening_sentences(summary), *filter(None, [names_sentence(summary)])]
    if merged := summary.get("n_samples_merged"):
        lines.append(
            f"The {format_count(merged, 'image')} that `update` of an earlier version merged count in the components only and have no labels; `predict` labels them."
        )
    run_path = str(Path(summary["report"]).parent)
    lines += [f"  {words}: {line}" for words, line in partition_commands(summary, run_path)]
    return "\n".join([*lines, str(summary["report"])])


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary as pairs of words, known keys first, then others in their order."""
    if label_noun(summary) == "family":
        summary = {key: value for key, value in summary.items() if key not in _OF_CLUSTERS}
    rows = [*_written(summary, _FIRST), *_in_words(summary), *_written(summary, _KNOWN)]
    total = dict(summary.get("seconds") or {}).get("total")
    if total is not None:
        rows.append(("time", format_seconds(float(total))))
    known = {key for key, _, _ in (*_FIRST, *_KNOWN)} | _ELSEWHERE
    rows += [
        (key.replace("_", " "), format_value(value))
        for key, value in summary.items()
        if key not in known and _is_plain(value)
    ]
    return rows


def _written(summary: Mapping[str, Any], keys: tuple[_Row, ...]) -> list[tuple[str, str]]:
    """Return the rows of those keys that the summary has."""
    return [
        (words, write(summary[key])) for key, words, write in keys if summary.get(key) is not None
    ]


def _in_words(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what takes several keys to say."""
    rows = [
        ("requested cut of the tree", cut_words(summary)),
        ("number of clusters, likely", interval_words(summary)),
        ("thresholds of this number", plateau_words(summary)),
        ("clusters by other methods", compared_methods(summary)),
        ("clusters by layer of the tree", layer_words(summary)),
    ]
    if summary.get("n_resamples") and summary.get("doubtful_clusters") is not None:
        names = doubtful_names(summary["doubtful_clusters"], summary["n_clusters"])
        rows.append(("doubtful clusters", names))
    if summary.get("families") is not None:
        words = "none" if summary["families"] == "none" else "not looked for"
        if summary["families"] == "found":
            share = format_share(summary["family_fraction"])
            words = f"{format_count(summary['n_families'])}, with {share} of the images"
        rows.append(("families", words))
    rows.append(("duplicates", duplicates_sentence(summary).rstrip(".")))
    if summary.get("n_unreadable"):
        rows.append(("files that could not be read", format_count(summary["n_unreadable"])))
    return [(name, words) for name, words in rows if words]


def _is_plain(value: Any) -> bool:
    """Whether a value makes a short line: no long list, nothing within a list within another."""
    if not isinstance(value, (list, tuple, dict)):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return len(value) <= _MAX_ENTRIES and not any(isinstance(p, (list, tuple, dict)) for p in parts)
