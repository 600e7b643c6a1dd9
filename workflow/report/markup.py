"""HTML from the templates beside this module: every text is escaped unless it is HTML already."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Mapping


#: Code of fewer characters stays in one line.
SHORT = 28


def _readable(value: Any) -> Any:
    """Return a value to be written; bytes of a path that the locale does not know are read as UTF-8."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_readable,
    trim_blocks=True,
    lstrip_blocks=True,
)


def code_words(text: Any) -> Markup:
    """Return a text with what stands between backticks as code; short code is not broken into lines.

    Examples
    --------
    >>> str(code_words("see `--help` & more"))
    'see <code class="short">--help</code> &amp; more'
    """
    words = []
    for at, part in enumerate(str(_readable(text)).split("`")):
        name = "short" if len(part) < SHORT else "long"
        words.append(Markup('<code class="{}">{}</code>').format(name, part) if at % 2 else part)
    return Markup().join(words)


_TEMPLATES.filters["code"] = code_words


def draw(template: str, **values: Any) -> Markup:
    """Return a template of this folder, filled in; what is no `Markup` is escaped."""
    return Markup(_TEMPLATES.get_template(template).render(values).strip())


def timed(name: str, text: str) -> Markup:
    """Return a time of the run, which `retimed` replaces once the page itself is paid for."""
    return Markup('<span data-time="{}">{}</span>').format(name, text)


def retimed(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with other texts for the times that `timed` has marked."""

    def other(found: re.Match[str]) -> str:
        return found[0] if found[1] not in texts else timed(found[1], texts[found[1]])

    return re.sub(r'<span data-time="(\w+)">[^<]*</span>', other, page)
