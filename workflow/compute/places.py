"""Whether workers see what they are to read and write; imports next to nothing, for it runs on them."""

from __future__ import annotations

from pathlib import Path


def missing_places(places: list[str]) -> list[str]:
    """Return the paths that do not exist where this runs."""
    return [place for place in places if not Path(place).exists()]
