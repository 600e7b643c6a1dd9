"""What the tables of the page on quality are made with: records in groups, numbers with their spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.quality.records import Record
from benchmarks.quality.sets import ImageSet

Group = dict[tuple[Any, ...], list[Record]]

#: What stands where there is nothing to measure.
NOTHING = "-"


def set_name(name: str, sets: Mapping[str, ImageSet]) -> str:
    """Return a set with what it holds."""
    return f"{name}: {sets[name].what}" if name in sets else name


def grouped(records: Iterable[Record], *names: str) -> Group:
    """Group records by values of their keys, in the order in which they come."""
    groups: Group = {}
    for record in records:
        groups.setdefault(tuple(record.key[name] for name in names), []).append(record)
    return groups


def counted(words: Iterable[str]) -> str:
    """Return words with how often each came, where they differ."""
    counts = Counter(words)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{word} {n}" for word, n in counts.most_common())


def spread(group: Sequence[Record], figure: str, form: str = ".3f") -> str:
    """Return the median of a figure over seeds, and its range where there is one."""
    return spread_of([r.figures[figure] for r in group], form)


def from_to(values: Sequence[float], form: str) -> str:
    """Return the smallest and the largest of some numbers."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def lowest(values: Sequence[float | None]) -> str:
    """Return the smallest and the median of what is known."""
    known = [value for value in values if value is not None]
    return f"{min(known):.3f}, {median(known):.3f}" if known else NOTHING


def spread_of(values: Sequence[float | None], form: str) -> str:
    """Return the median of numbers, and their range where they differ."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return NOTHING
    # A number of clusters is one that was found, not the mean of two.
    middle = known[(len(known) - 1) // 2] if form == "d" else median(known)
    low, mid, high = (format(value, form) for value in (known[0], middle, known[-1]))
    return mid if low == high else f"{mid} ({low} to {high})"
