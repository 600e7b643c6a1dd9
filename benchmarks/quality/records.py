"""What was measured, one JSON object a line: a stopped benchmark goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
#: What results depend on: the mathematics, the sets, and how both are put together.
STEPS = (
    "pca", "projection", "overcluster", "centroid_graph", "tree", "labels", "neighbors", "families",
)  # fmt: skip
PARTS = ("agreement", "clustering", "peers", "sets", "touching")
CODE = (
    *(f"workflow/{step}{files}" for step in STEPS for files in (".py", "/**/*.py")),
    *(f"benchmarks/quality/{part}.py" for part in PARTS),
)


@cache
def code_digest() -> str:
    """Return a digest of the code that results depend on."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in CODE for path in ROOT.glob(pattern)}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """One thing measured: what was done to which set, and what came out."""

    section: str
    scale: str
    #: Set, sizes, seed, method.
    key: dict[str, Any]
    figures: dict[str, Any]
    #: Digest of the code that it came from.
    code: str = field(default_factory=code_digest)

    @property
    def name(self) -> str:
        """What distinguishes it from others, as text."""
        return name_of(self.section, self.scale, self.key)


def name_of(section: str, scale: str, key: Mapping[str, Any]) -> str:
    """Return what distinguishes a measurement from others, as text."""
    return json.dumps([section, scale, key], sort_keys=True)


class Records:
    """A file of records that only grows; of records with one name the last one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, record: Record) -> None:
        """Append a record; it is in the file when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that was cut short by a kill is ended first, so that it spoils no other.
        torn = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * torn + json.dumps(asdict(record)) + "\n")

    def current(self, scale: str) -> dict[str, Record]:
        """Return the records of a scale that the present code has made, by name."""
        return {r.name: r for r in self._read() if r.scale == scale and r.code == code_digest()}

    def n_outdated(self, scale: str) -> int:
        """Return how many measurements of a scale are there from other code only."""
        every = {r.name for r in self._read() if r.scale == scale}
        return len(every - set(self.current(scale)))

    def _read(self) -> Iterator[Record]:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield Record(**json.loads(line))
            except json.JSONDecodeError:
                continue
