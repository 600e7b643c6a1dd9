"""Counts, shares, bytes, times and other values as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_count(count: float, noun: str = "") -> str:
    """Return a count with thousands separated, and its noun in the right number.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        Singular of what is counted; a plural in s, or ies for y, is formed.

    Returns
    -------
    str
        The words.

    Examples
    --------
    >>> format_count(48000000, "image"), format_count(1, "cluster"), format_count(2, "family")
    ('48,000,000 images', '1 cluster', '2 families')
    """
    text = f"{int(count):,}"
    if int(count) != 1 and noun:
        noun = plural(noun)
    return f"{text} {noun}" if noun else text


def plural(noun: str) -> str:
    """Return the plural of a noun, in s, or ies for y."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def format_share(share: float) -> str:
    """Return a share of one as a percentage that is never rounded to nothing or to all.

    Parameters
    ----------
    share : float
        From 0 to 1.

    Returns
    -------
    str
        The percentage.

    Examples
    --------
    >>> format_share(0.0254), format_share(1e-7), format_share(0.99999), format_share(0.0)
    ('2.5 %', '< 0.01 %', '> 99.99 %', '0 %')
    """
    percent = 100.0 * share
    if not math.isfinite(percent):
        return "unknown"
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    if 99.95 <= percent < 100 or 0 < percent < 1:
        return f"{percent:.2f} %"
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"


def format_bytes(n_bytes: float) -> str:
    """Return a number of bytes in binary units.

    Parameters
    ----------
    n_bytes : int
        How many bytes.

    Returns
    -------
    str
        Three figures and the unit.

    Examples
    --------
    >>> format_bytes(512), format_bytes(3 * 2**30)
    ('512 B', '3.00 GiB')
    """
    value = float(n_bytes)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def format_seconds(seconds: float) -> str:
    """Return a time as a person says it.

    Parameters
    ----------
    seconds : float
        The time [s].

    Returns
    -------
    str
        At most two units.

    Examples
    --------
    >>> format_seconds(0.0042), format_seconds(12.34), format_seconds(845), format_seconds(7380)
    ('4.2 ms', '12.3 s', '14 min 5 s', '2 h 3 min')
    """
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0.9995:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def format_value(value: Any) -> str:
    """Return any setting or figure as text: six figures of a float, words for true, false and nothing.

    Parameters
    ----------
    value : object
        What to show.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> format_value(True), format_value(None), format_value(0.1 + 0.2), format_value(50000)
    ('yes', 'none', '0.3', '50,000')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items())
    return str(value)


def format_numbers(numbers: Iterable[int]) -> str:
    """Return whole numbers in words, those that follow on another as one.

    Parameters
    ----------
    numbers : iterable of int
        Rising.

    Returns
    -------
    str
        The first dozen of them.

    Examples
    --------
    >>> format_numbers([0, 1, 2, 5, 7, 8]), format_numbers([0]), format_numbers([])
    ('0 to 2, 5, 7 and 8', '0 alone', 'none')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return f"{runs[0][0]} alone"
    words: list[str] = []
    for first, last in runs[:12]:
        words += (
            [str(n) for n in range(first, last + 1)] if last < first + 2 else [f"{first} to {last}"]
        )
    if len(runs) > 12:
        words.append("others")
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]]) or "none"


def label_thousands(value: float, position: float | None = None) -> str:
    """Return the label of a tick: thousands, millions and billions by their letter.

    Parameters
    ----------
    value : float
        Where the tick is.
    position : float, optional
        Index of the tick, as plotting libraries pass it; not used.

    Returns
    -------
    str
        The label.

    Examples
    --------
    >>> label_thousands(2_500_000), label_thousands(20_000), label_thousands(4998)
    ('2.5 M', '20 k', '4,998')
    """
    del position
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(size, 1e4):
            return f"{value / size:g} {letter}"
    return f"{value:,g}"
