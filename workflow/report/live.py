"""A run while it goes on, as HTML that a notebook redraws in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workflow.report.markup import Html, element
from workflow.report.notebook import framed

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Addresses that a link may lead to: a path of the same server, behind a hub, has no scheme.
_SCHEMES = ("http", "https", "")


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One step.

    Attributes
    ----------
    name : str
        What it is called.
    state : {"waiting", "running", "complete", "done", "stopped", "failed"}
        ``complete`` was so before; ``done`` was done now.
    share : float or None
        Share done, 0 to 1; None where it is not known.
    text : str
        Rate, time left, seconds, or nothing.
    """

    name: str
    state: str
    share: float | None
    text: str


def live_html(
    title: str,
    state: str,
    message: str,
    rows: Sequence[LiveRow],
    *,
    link: str = "",
    hint: str = "",
) -> str:
    """Return the state of a run as a fragment of HTML.

    Parameters
    ----------
    title : str
        What goes on.
    state : {"running", "done", "stopped", "failed"}
        How it is.
    message : str
        One line after the title.
    rows : sequence of LiveRow
        The steps, in order.
    link : str
        Where the dashboard is; empty for none.
    hint : str
        How to reach it from elsewhere.

    Returns
    -------
    str
        The fragment; texts are escaped, and a link leads to a web page only.
    """
    head: list[str] = [element("b", title), " ", message]
    if link and urlsplit(link).scheme in _SCHEMES:
        head += [" ", element("a", "dashboard", href=link, target="_blank", rel="noopener")]
    table = element("table", element("tbody", *map(_row, rows)))
    parts = [element("p", *head, class_=state), table]
    if hint:
        parts.append(element("p", hint, class_="hint"))
    return framed(*parts)


def _row(row: LiveRow) -> Html:
    """Return one step as a row of the table."""
    share = {"done": 1.0, "complete": 1.0}.get(row.state, row.share or 0.0)
    width = f"width:{100 * min(1.0, max(0.0, share)):.1f}%"
    words = f"{share:.0%} done" if row.share is not None else row.state
    bar = element("span", element("span", style=width), class_="bar", role="img", aria_label=words)
    return element(
        "tr", element("th", row.name), element("td", bar), element("td", row.text), class_=row.state
    )
