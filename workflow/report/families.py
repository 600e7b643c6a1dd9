"""The families of the images: their sizes, how tight each is against a smooth cloud, and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from workflow.formatting import format_count, format_share
from workflow.report.figures import plot_box
from workflow.report.markup import draw
from workflow.report.names import marked_number
from workflow.report.plots import plot_conductance, plot_population
from workflow.report.sentences import label_noun

if TYPE_CHECKING:
    from workflow.report.data import FamilyTable, ReportData

#: Families listed in the table, the largest first.
MAX_LISTED = 200
#: A family lies within a cluster if so many of its images do.
WITHIN = 0.9
_HINT = (
    "A family is a group of images of the same source: frames of one film, photographs of one object. "
    "Its images lie closer together than a cloud without structure would have it. Conductance: the share "
    "of its ties to neighbours that lead out."
)


def families_section(data: ReportData) -> Markup:
    """Return sizes, test, pictures and table of the families, or nothing where there are none."""
    families = data.families
    if families is None:
        return Markup()
    lies_in_one = families.cluster_share >= WITHIN
    n_within = int(np.count_nonzero(lies_in_one & (families.cluster >= 0)))
    n_noise = int(np.count_nonzero(lies_in_one & (families.cluster < 0)))
    lie = f"{n_within:,} of {format_count(len(families.size), 'family')} lie within one cluster"
    lie += f", {n_noise:,} among noise." if n_noise else "."
    plots = [_sizes(families), _conductance(families)]
    # Where families are the labels, their pictures are called so.
    title = "How tight the families are" if label_noun(data.summary) == "family" else "Families"
    return draw(
        "families.html", title=title, hint=f"{_HINT} {lie}", plots=plots, **_table(data, families)
    )


def _sizes(families: FamilyTable) -> Markup:
    """Return the histogram of the sizes."""
    size = families.size
    words = f"Histogram of the images of {format_count(len(size), 'family')}, {size.min():,} to {size.max():,}, median {float(np.median(size)):,.0f}"
    return plot_box(
        "family-sizes",
        "Images of each family",
        words,
        lambda axes: plot_population(axes, size, "family"),
    )


def _conductance(families: FamilyTable) -> Markup:
    """Return conductance against what a smooth cloud has."""
    found, expected = families.conductance, families.expected
    words = (
        f"Conductance of each family against that of a smooth cloud: median {float(np.median(found)):.2f} "
        f"where a smooth cloud has {float(np.median(expected)):.2f}"
    )
    return plot_box(
        "family-conductance",
        "How tight each family is",
        words,
        lambda axes: plot_conductance(axes, expected, found),
    )


def _table(data: ReportData, families: FamilyTable) -> dict[str, Any]:
    """Return title, head and rows of the table of the largest families."""
    n_listed = min(len(families.size), MAX_LISTED)
    head = (
        "family",
        "images",
        "conductance",
        "in a smooth cloud",
        "dimension",
        "cluster",
        "of it there",
    )

    def cluster_words(cluster: int) -> str:
        if cluster < 0:
            return "noise"
        # Where families are the labels, names are not those of these clusters.
        are_labels = label_noun(data.summary) == "family"
        return str(cluster) if are_labels else marked_number(cluster, data.summary)

    rows = [
        (
            str(families.number[place]),
            f"{families.size[place]:,}",
            f"{families.conductance[place]:.3f}",
            f"{families.expected[place]:.3f}",
            f"{families.dimension[place]:.1f}",
            cluster_words(int(families.cluster[place])),
            format_share(float(families.cluster_share[place])),
        )
        for place in range(n_listed)
    ]
    title = "Every family"
    if n_listed < len(families.size):
        title = f"The {n_listed} largest families"
    return {"table_title": title, "head": head, "rows": rows}
