"""Names of clusters on the page, marked so that they can be changed in a page that is written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from workflow.report.sentences import cluster_names

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names as data, for scripts of the page.
DATA = r'(<script type="application/json" id="cluster-names">)[^<]*(</script>)'
NAME = r'<span data-name-of="(\d+)">[^<]*</span>'


def name_mark(cluster: int, name: str = "") -> Markup:
    """Return the name of a cluster as it stands on the page, behind its number; an empty mark where it has none."""
    return Markup('<span data-name-of="{}">{}</span>').format(cluster, f" {name}" if name else "")


def marked_number(cluster: int, summary: Mapping[str, Any]) -> Markup:
    """Return the number of a cluster and the mark of its name, which the summary of the run has."""
    name = cluster_names(summary).get(str(cluster), "")
    return Markup("{}{}").format(cluster, name_mark(cluster, name))


def names_data(names: Mapping[int, str] | Mapping[str, str]) -> Markup:
    """Return the names of clusters as data, for scripts of the page."""
    text = json.dumps({str(cluster): name for cluster, name in names.items()})
    # JSON that cannot end the script that it stands in.
    text = text.replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="cluster-names">{text}</script>')


def with_names(page: str, names: Mapping[int, str]) -> str | None:
    """Return a page with other names of clusters.

    Parameters
    ----------
    page : str
        What `render` has returned.
    names : mapping of int to str
        Cluster -> its name.

    Returns
    -------
    str or None
        The same page but for the names; None where it has no place for them.

    Examples
    --------
    >>> with_names(f"Cluster 3{name_mark(3)}", {3: "sky & sea"})
    'Cluster 3<span data-name-of="3"> sky &amp; sea</span>'
    """

    def other(found: re.Match[str]) -> str:
        return name_mark(int(found[1]), names.get(int(found[1]), ""))

    page, n_marks = re.subn(NAME, other, page)
    page, n_data = re.subn(DATA, lambda _: names_data(names), page)
    return page if n_marks or n_data else None
