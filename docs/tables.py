"""Fill the tables of the documentation from the code: ``python docs/tables.py``; a test holds them together."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from workflow.config import flatten, known_keys
from workflow.steps import STEPS, config_class, model_arrays
from workflow.steps.labels import LABELS
from workflow.steps.neighbors import NEIGHBORS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

    from workflow.schema import ArraySpec

DOCS = Path(__file__).resolve().parent


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def arrays(specs: dict[str, ArraySpec]) -> str:
    """Return the table of stored arrays."""
    rows = (
        (f"`{name}`", ", ".join(spec.dims), spec.dtype, spec.unit, spec.description)
        for name, spec in specs.items()
    )
    return markdown(("array", "dimensions", "dtype", "unit", "what it holds"), rows)


def settings() -> str:
    """Return the table of settings."""
    defaults = flatten(config_class()().model_dump(mode="json"))
    redone = {key: step.name for step in reversed(STEPS) for key in step.settings}
    rows = (
        (
            f"`{key}`",
            f"`{json.dumps(defaults[key]).strip(chr(34))}`",
            values(field_of(key)),
            redone.get(key, "other images" if key.startswith("ingest.") else "nothing"),
            sentence,
        )
        for key, sentence in known_keys(config_class())
    )
    return markdown(("setting", "default", "values", "done again from", "what it sets"), rows)


def field_of(key: str) -> FieldInfo:
    """Return the field of a dotted key."""
    *sections, name = key.split(".")
    model = config_class()
    for section in sections:
        model = model.model_fields[section].annotation
    return model.model_fields[name]


def values(field: FieldInfo) -> str:
    """Return what a setting may be, as far as its type says it; the sentence says the rest."""
    signs = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
    limits = [
        f"{sign} {number_name(getattr(limit, name))}"
        for limit in field.metadata
        for kind, (name, sign) in signs.items()
        if isinstance(limit, kind)
    ]
    return ", ".join([type_name(field.annotation), *limits])


def number_name(number: int) -> str:
    """Return a number for a reader; the largest there are as powers of two."""
    return f"{number:,}" if number < 2**62 else f"2^{number.bit_length() - 1}"


def type_name(annotation: object) -> str:
    """Return a type for a reader."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(annotation))
    if annotation is type(None):
        return "`null`"
    if get_origin(annotation) is tuple:
        return "list of texts" if str in get_args(annotation) else "whole numbers with commas"
    if isinstance(annotation, type):
        names = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}
        return names[annotation]
    return " or ".join(type_name(part) for part in get_args(annotation))


#: Page -> marker -> table.
TABLES = {
    "formats.md": {
        "labels": lambda: arrays(LABELS),
        "neighbors": lambda: arrays(NEIGHBORS),
        "model": lambda: arrays(model_arrays()),
    },
    "settings.md": {"settings": settings},
}


def filled(page: str) -> str:
    """Return a page with its tables as the code has them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for marker, table in TABLES[page].items():
        opening, closing = f"<!-- table: {marker} -->\n", f"\n<!-- end: {marker} -->"
        before, found, rest = text.partition(opening)
        _, ended, after = rest.partition(closing)
        if not (found and ended):
            msg = f"{page} must hold `{opening.strip()}` and `{closing.strip()}`; it lacks one. Put both in."
            raise ValueError(msg)
        text = f"{before}{opening}{table()}{closing}{after}"
    return text


def main() -> int:
    """Write all pages that have tables."""
    for page in TABLES:
        (DOCS / page).write_text(filled(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
