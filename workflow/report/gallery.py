"""Cards of example images: one per cluster, one of noise, one of outliers."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from workflow.formatting import format_count
from workflow.report.contact_sheets import (
    channel_remark,
    columns_within,
    contact_sheet,
    shown_range,
)
from workflow.report.figures import cluster_colour
from workflow.report.markup import draw
from workflow.report.names import name_mark
from workflow.report.sentences import DOUBTFUL_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from workflow.report.data import Certainty, Sheet, SheetKind

#: Bytes of all pictures of a page together, before they are written as text (a third more).
PICTURES_BYTES = 2_200_000
#: Width of the pictures in a card [screen pixel].
CARD_PIXELS = 300
#: Cards of clusters shown before the rest is folded away.
OPEN_CARDS = 12


def gallery(
    sheets: Sequence[Sheet],
    n_clusters: int,
    value_range: tuple[float, float] | None,
    certainty: Certainty | None = None,
    *,
    noun: str = "cluster",
    n_bytes: int = PICTURES_BYTES,
) -> Markup:
    """Return the cards of all sheets: clusters as given, then families, noise, and outliers.

    Parameters
    ----------
    sheets : sequence of Sheet
        What to show; gone through twice, one sheet in memory at a
        time unless their values must be known together for `value_range`.
    n_clusters : int
        Clusters of the run, to say how many of them are shown.
    value_range : tuple of float or None
        Values shown black and white; None: one robust range for all sheets.
    certainty : Certainty, optional
        Marks doubtful clusters and names the nearest of each.
    noun : str
        What a label stands for.
    n_bytes : int
        Bytes of all pictures together.

    Returns
    -------
    Markup
        The cards, or a sentence where there is nothing to look at.
    """
    n_bytes_of: list[int] = []
    found = shown_range(_pictured(sheets, n_bytes_of))
    if not n_bytes_of:
        words = (
            "There are no pictures to show: the rows are vectors, or their images are not at hand."
        )
        return Markup("<p>{}</p>").format(words)
    limits, share = value_range or found, n_bytes // len(n_bytes_of)
    cards: dict[SheetKind, list[dict[str, Any]]] = {
        "cluster": [], "family": [], "noise": [], "outliers": [],
    }  # fmt: skip
    for sheet in sheets:
        sure = certainty if sheet.kind == "cluster" else None
        cards[sheet.kind].append(_card(sheet, limits, share, sure))
    clusters = cards["cluster"]
    shown = "All" if len(clusters) >= n_clusters else f"The {len(clusters)} largest of"
    sentence = f"{shown} {format_count(n_clusters, noun)}, with some of their images."
    if n_clusters == 1:
        sentence = f"The only {noun}, with some of its images."
    return draw(
        "sheets.html",
        clusters=clusters,
        n_open=OPEN_CARDS,
        sentence=sentence,
        rest=format_count(len(clusters) - OPEN_CARDS, f"more {noun}"),
        families=cards["family"],
        others=[*cards["noise"], *cards["outliers"]],
    )


def _pictured(sheets: Sequence[Sheet], n_bytes_of: list[int]) -> Iterator[NDArray[Any]]:
    """Yield the pictures of the sheets that have some, and note how many bytes they are."""
    for sheet in sheets:
        images = sheet.images
        if images is not None and images.size:
            n_bytes_of.append(images.nbytes)
            yield images


def _card(
    sheet: Sheet,
    limits: tuple[float, float] | None,
    n_bytes: int,
    certainty: Certainty | None,
) -> dict[str, Any]:
    """Return what the card of a sheet shows: title, colour, mark, caption and picture."""
    card: dict[str, Any] = {"title": sheet.title, "colour": None, "mark": "", "png": ""}
    if sheet.kind in ("cluster", "noise"):
        card["colour"] = cluster_colour(-1 if sheet.cluster is None else sheet.cluster)
    if sheet.kind == "cluster" and sheet.cluster is not None:
        card["title"] = Markup("{}{}").format(sheet.title, name_mark(sheet.cluster, sheet.name))
    remarks = [sheet.caption]
    if certainty is not None and sheet.cluster is not None:
        if certainty.is_doubtful[sheet.cluster]:
            card["mark"] = DOUBTFUL_MARK
        nearest = int(certainty.nearest[sheet.cluster])
        remarks.append(f"nearest: cluster {nearest}" if nearest >= 0 else "")
    if sheet.images is None or not sheet.images.size:
        remarks.append("no picture")
    else:
        png, n_shown = _picture(sheet.images, limits, n_bytes)
        remarks.append(channel_remark(sheet.images))
        if n_shown < len(sheet.images):
            remarks.append(f"{n_shown} of {len(sheet.images)} examples, to keep the page small")
        card |= {
            "png": base64.b64encode(png).decode("ascii"),
            "alt": f"{sheet.title}: {format_count(n_shown, 'example image')}",
            "width": int.from_bytes(png[16:20]),
            "height": int.from_bytes(png[20:24]),
        }
    return card | {"caption": "; ".join(remark for remark in remarks if remark)}


def _picture(
    images: NDArray[Any], limits: tuple[float, float] | None, n_bytes: int
) -> tuple[bytes, int]:
    """Return a contact sheet of at most `n_bytes`, from fewer images where need be, and how many."""
    columns = columns_within(images, CARD_PIXELS)
    n_shown = len(images)
    png = contact_sheet(images, columns, value_range=limits)
    while len(png) > n_bytes and n_shown > 1:
        # Aim a little low, and at whole rows, so that one or two turns are enough.
        fitting = min(n_shown - 1, int(0.95 * n_shown * n_bytes / len(png)))
        n_shown = max(1, fitting // columns * columns if fitting > columns else fitting)
        png = contact_sheet(images[:n_shown], columns, value_range=limits)
    return png, n_shown
