"""HTML elements as nested calls; every text is escaped unless it is already HTML."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VOID = frozenset({"br", "hr", "img", "meta"})


class Html(str):
    """Text that is HTML already and must not be escaped again."""

    __slots__ = ()


def _escaped(text: str) -> str:
    """Return a text as HTML; bytes of a path that the locale does not know are read as UTF-8."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return html.escape(readable)


def element(name: str, /, *children: str, **attributes: str | bool) -> Html:
    """Return one HTML element.

    Parameters
    ----------
    name : str
        Name of the element.
    *children : str
        Content in order; plain text is escaped, `Html` is not.
    **attributes : str or bool
        Attributes; ``class_`` gives ``class``, other underscores become hyphens, True gives an
        attribute without a value and False none.

    Returns
    -------
    Html
        The element.

    Examples
    --------
    >>> element("p", "a < b", element("b", "!"), class_="note")
    '<p class="note">a &lt; b<b>!</b></p>'
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{_escaped(str(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts += [child if isinstance(child, Html) else _escaped(child) for child in children]
        parts.append(f"</{name}>")
    return Html("".join(parts))


def join(*parts: str) -> Html:
    """Return the parts one after the other, escaped where they are plain text."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def section(title: str, hint: str, *parts: str) -> Html:
    """Return a section with its heading and, where given, a sentence on how to read it."""
    lead = [element("p", hint, class_="hint")] if hint else []
    return element("section", element("h2", title), *lead, *parts)


def timed(name: str, text: str) -> Html:
    """Return a time of the run, which `retimed` replaces once the page itself is paid for."""
    return element("span", text, data_time=name)


def retimed(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with other texts for the times that `timed` has marked."""

    def other(found: re.Match[str]) -> str:
        return found[0] if found[1] not in texts else timed(found[1], texts[found[1]])

    return re.sub(r'<span data-time="(\w+)">[^<]*</span>', other, page)


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numeric: int = 99) -> Html:
    """Return a table; columns from `numeric` on are set to the right.

    Parameters
    ----------
    head : tuple of str
        Column names; empty for none.
    rows : sequence of tuple of str
        Cells; the first of each row is its heading.
    numeric : int
        First column of numbers.

    Returns
    -------
    Html
        The table, in a box that scrolls sideways on a narrow screen.
    """

    def cell(name: str, column: int, text: str, **attributes: str) -> Html:
        return element(name, text, class_="num" if column >= numeric else False, **attributes)

    parts: list[str] = []
    if head:
        cells = [cell("th", i, text, scope="col") for i, text in enumerate(head)]
        parts.append(element("thead", element("tr", *cells)))
    body = [
        element(
            "tr",
            *(
                cell("td", i, text) if i else cell("th", 0, text, scope="row")
                for i, text in enumerate(row)
            ),
        )
        for row in rows
    ]
    parts.append(element("tbody", *body))
    return element("div", element("table", *parts), class_="scroll")
