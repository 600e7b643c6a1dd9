"""The summary of a run as a small table, for the page and for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.report.markup import Html, element, join
from workflow.report.wording import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_value,
    headline,
    structure_sentence,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Key of the summary, words for it, and how to write its value.
_KNOWN: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("n_samples", "images", format_count),
    ("n_clusters", "clusters", format_count),
    ("noise_fraction", "noise", format_share),
    ("n_centroids", "centroids", format_count),
    ("n_components", "principal components", format_count),
    ("variance_kept", "variance kept", format_share),
    ("peak_rss_bytes", "memory of the largest process", format_bytes),
)

# Lists with more entries have their own place on the page.
_LONGEST = 8


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary as pairs of words, known keys first, then others in their order.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.

    Returns
    -------
    list of tuple of str
        What it is, and its value.
    """
    rows = [
        (words, write(summary[key])) for key, words, write in _KNOWN if summary.get(key) is not None
    ]
    total = dict(summary.get("seconds") or {}).get("total")
    if total is not None:
        rows.append(("time", format_seconds(float(total))))
    known = {key for key, _, _ in _KNOWN} | {"structure", "seconds"}
    rows += [
        (key.replace("_", " "), format_value(value))
        for key, value in summary.items()
        if key not in known and not (isinstance(value, (list, dict)) and len(value) > _LONGEST)
    ]
    return rows


def summary_html(summary: Mapping[str, Any]) -> str:
    """Return a small HTML table that says what a run found.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key but ``n_samples`` and ``n_clusters`` may be missing.

    Returns
    -------
    str
        A fragment without style sheet or script, in the colours of whatever page holds it.

    Examples
    --------
    >>> summary_html({"n_samples": 10, "n_clusters": 2})[:41]
    '<div><strong>2 clusters in 10 images</str'
    """
    parts: list[Html] = [element("strong", headline(summary))]
    if summary.get("structure") is not None:
        sentence = structure_sentence(summary["structure"])
        parts.append(element("p", sentence, style="margin:.2em 0;max-width:60ch"))
    rows = [
        element(
            "tr",
            element("th", name, scope="row", style="text-align:left;font-weight:normal"),
            element("td", value, style="text-align:right"),
        )
        for name, value in summary_rows(summary)
    ]
    parts.append(element("table", element("tbody", *rows)))
    return str(element("div", join(*parts)))
