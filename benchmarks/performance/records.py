"""What was measured, by problem: the page is a view of it, and measuring some problems anew leaves the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Result
from benchmarks.pages import markdown


@dataclass(frozen=True, slots=True)
class Record:
    """One problem, measured."""

    #: Lines of the table.
    results: list[Result]
    #: The machine in words, when it was measured; what was not there, with what brings it.
    machine: dict[str, str]
    left_out: list[str]


def read_records(place: Path, scale: str) -> dict[str, Record]:
    """Return the records of a scale by problem; none where the file is not there or is of another scale."""
    if not place.is_file():
        return {}
    content = json.loads(place.read_text(encoding="utf-8"))
    if content["scale"] != scale:
        return {}
    return {
        name: Record([Result(**line) for line in known["results"]], known["machine"], known["left_out"])
        for name, known in content["problems"].items()
    }  # fmt: skip


def write_records(place: Path, scale: str, records: Mapping[str, Record]) -> None:
    """Replace the file."""
    content = {"scale": scale, "problems": {name: asdict(r) for name, r in records.items()}}
    place.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine_table(records: Mapping[str, Record]) -> str:
    """Return the machines of the problems as a Markdown table, a column for each that differs."""
    measured: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, record in records.items():
        measured.setdefault(tuple(record.machine.items()), []).append(name)
    heads = [", ".join(names) for names in measured.values()] if len(measured) > 1 else [""]
    machines = [dict(rows) for rows in measured]
    properties = dict.fromkeys(name for machine in machines for name in machine)
    rows = [(name, *(machine.get(name, "") for machine in machines)) for name in properties]
    return markdown(("machine", *heads), rows)
