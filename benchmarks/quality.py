"""Measure quality: ``python -m benchmarks.quality [--scale tiny|small|full] [--sections A,B] ...``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.quality_page import page
from benchmarks.quality_peers import PEERS
from benchmarks.quality_records import Record, Records, name_of
from benchmarks.quality_sections import SCALES, Bench, chosen, set_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.quality_peers import Peer

#: Where the page is kept; what was measured lies beside it.
PAGE = Path(__file__).resolve().parent.parent / "docs" / "quality.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, then write the page of all that was measured."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.data is not None and not any(asked.data.glob("*.npz")):
        parser.error(f"--data must be a folder with .npz files; got {asked.data}")
    methods = [PEERS[name] for name in _names(parser, "--methods", asked.methods, PEERS)]
    bench = Bench(SCALES[asked.scale], asked.data, _available(parser, methods))
    sets = tuple(_names(parser, "--sets", asked.sets, set_names(bench)))
    sections = _names(parser, "--sections", asked.sections, bench.sections) or [*bench.sections]
    records = Records(asked.records or asked.out.with_suffix(".jsonl"))
    if n := records.n_outdated(asked.scale):
        _say(f"{n} results of other code are left out")
    measure(bench, records, asked.scale, sections=sections, sets=sets, resume=asked.resume)
    write_page(bench, records, asked.scale, asked.out)
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
            _say(f"{section} {number} of {len(cells)}: {words} | {took:.1f} s | {_short(figures)}")


def write_page(bench: Bench, records: Records, scale: str, place: Path) -> None:
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
    text = page(ordered, scale, missing, set_names(bench), place)
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
    shown = ("n_true", "n_found", "structure", "ari", "seeds", "centroids", "error")
    return ", ".join(
        f"{name} {figures[name]:.3f}" if name == "ari" else f"{name} {figures[name]}"
        for name in shown
        if name in figures
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
