"""Write docs/quality.md: ``python -m benchmarks.quality [--scale tiny|small|full] [--sections A,B] ...``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine, measure_machine
from benchmarks.pages import DOCS, progress
from benchmarks.quality.cells import SCALES, Bench, chosen
from benchmarks.quality.page import page
from benchmarks.quality.peers import PEERS, Peer
from benchmarks.quality.records import Record, Records, name_of

#: The page; what was measured lies beside it.
PAGE = DOCS / "quality.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is requested, then write the page of all that was measured."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.data is not None and not any(given.data.glob("*.npz")):
        parser.error(f"--data must be a folder with .npz files; got {given.data}")
    methods = [PEERS[name] for name in _names(parser, "--methods", given.methods, PEERS)]
    bench = Bench(SCALES[given.scale], given.data, _available(parser, methods))
    sets = tuple(_names(parser, "--sets", given.sets, bench.sets))
    sections = _names(parser, "--sections", given.sections, bench.sections) or [*bench.sections]
    records = Records(given.records or given.out.with_suffix(".jsonl"))
    if n := records.n_outdated(given.scale):
        progress(f"{n} results of other code are left out")
    machine = measure_machine(Path(tempfile.gettempdir()), is_rough=given.scale == "tiny")
    measure(bench, records, given.scale, sections=sections, sets=sets, resume=given.resume)
    write_page(bench, records, machine, given.scale, given.out)
    return 0


def measure(
    bench: Bench,
    records: Records,
    scale: str,
    *,
    sections: Sequence[str],
    sets: tuple[str, ...] = (),
    resume: bool = False,
) -> None:
    """Make measurements one by one; each is in the file before the next begins."""
    done = records.current(scale) if resume else {}
    for section in sections:
        cells = list(chosen(bench.sections[section](), sets))
        for number, cell in enumerate(cells, start=1):
            if name_of(section, scale, cell.key) in done:
                continue
            started = time.perf_counter()
            figures = cell.solve()
            records.add(Record(section, scale, cell.key, figures))
            took = time.perf_counter() - started
            words = " ".join(f"{name}={value}" for name, value in cell.key.items())
            progress(
                f"{section} {number} of {len(cells)}: {words} | {took:.1f} s | {_short(figures)}"
            )


def write_page(bench: Bench, records: Records, machine: Machine, scale: str, place: Path) -> None:
    """Write the page of all records of a scale, whenever they were made."""
    found = records.current(scale)
    planned = {
        section: [name_of(section, scale, cell.key) for cell in cells()]
        for section, cells in bench.sections.items()
    }
    missing = {s: sum(name not in found for name in names) for s, names in planned.items()}
    # In the order of the plan, whenever they were measured; then what this call would not measure.
    names = dict.fromkeys([name for names in planned.values() for name in names] + list(found))
    ordered = [found[name] for name in names if name in found]
    place.parent.mkdir(parents=True, exist_ok=True)
    text = page(ordered, machine, scale, missing, bench.sets, place)
    place.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--sections", help="some sections only, with commas between")
    parser.add_argument("--sets", help="some sets only")
    parser.add_argument("--methods", help="some methods only, in the section on peers")
    parser.add_argument("--data", type=Path, help="folder of .npz files with images and labels")
    parser.add_argument("--out", type=Path, default=PAGE, help="page to write")
    parser.add_argument("--records", type=Path, help="results, one a line; beside the page")
    parser.add_argument("--resume", action="store_true", help="keep results of the same code")
    return parser


def _names(
    parser: argparse.ArgumentParser, option: str, given: str | None, known: Any
) -> list[str]:
    """Return names given with commas between, or end with what names there are."""
    names = given.split(",") if given else []
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{option} must be among {', '.join(known)}; got {', '.join(unknown)}")
    return names


def _available(parser: argparse.ArgumentParser, methods: Sequence[Peer]) -> list[Peer] | None:
    """Return methods that were named, None for none; end where one of them is not installed."""
    missing = [dist for peer in methods for dist in peer.missing]
    if missing:
        parser.error(f"--methods needs {', '.join(missing)}: pip install 'overcluster[peers]'")
    return list(methods) or None


def _short(figures: dict[str, Any]) -> str:
    """Return the figures that matter while one waits."""
    shown = ("n_true", "n_found", "low", "high", "structure", "ari", "error")
    return ", ".join(
        f"{name} {figures[name]:.3f}" if name == "ari" else f"{name} {figures[name]}"
        for name in shown
        if name in figures
    )


if __name__ == "__main__":
    sys.exit(main())
