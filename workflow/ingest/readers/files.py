"""Which files a user means: those below a folder, of a pattern, of a list, or one."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from workflow.errors import ImagesError
from workflow.runstore import paths, zarr_io

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Endings of files that are not read which are named.
MOST_NAMED = 5
#: A range or a choice in braces.
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MAGIC = re.compile(r"[*?\[]|" + BRACES.pattern)


@dataclass(frozen=True)
class Files:
    """Files that a user means; they are listed whenever they are asked for.

    Attributes
    ----------
    root : Path
        What the names are relative to.
    by : "tree", "name", "pattern" or "list"
        Whether they are all files below `root`, one, those of a pattern, or
        those that a list names, in its order.
    text : str
        The name, the pattern with ``*``, ``**`` and braces, or the name of the list.
    kind : str
        Regular expression that names must match; files of other names are left out.
    chosen : tuple of str, optional
        Names of the only files that are meant of those.
    """

    root: Path
    by: Literal["tree", "name", "pattern", "list"] = "tree"
    text: str = ""
    kind: str = ""
    chosen: tuple[str, ...] | None = None

    @classmethod
    def of(cls, spec: str) -> tuple[Files, str | None]:
        """Return the files that a text means, and what stands after ``::``.

        Raises
        ------
        ImagesError
            If there is no such file or folder, list, or file of the pattern.
        """
        text = spec.removeprefix("@") if spec.startswith("@") else spec
        if text != spec and not paths.exists(paths.place(spec)):
            paths.require_local("a list of files", text)
            place, name = zarr_io.split_key(text)
            if not paths.exists(place):
                raise zarr_io.missing_path(place)
            return cls(place.parent, "list", place.name), name
        place, name = zarr_io.split_key(spec)
        if paths.exists(place):
            is_folder = paths.is_folder(place)
            return (cls(place) if is_folder else cls(place.parent, "name", place.name)), name
        parts = place.parts
        plain = next((i for i, part in enumerate(parts) if MAGIC.search(part)), None)
        if plain is None:
            raise zarr_io.missing_path(place)
        found = cls(Path(*parts[:plain]), "pattern", "/".join(parts[plain:]))
        if not found.names:
            msg = f"a pattern must match one file or more; {spec} matches none. Check it, and quote it so that the shell leaves it alone."
            raise ImagesError(msg)
        return found, name

    @property
    def place(self) -> str:
        """What to call these files in messages."""
        return str(self.root / self.text)

    @cached_property
    def names(self) -> list[str]:
        """Names of the files, relative, with slashes: sorted, or in the order of the list.

        Folders that cannot be read are among those below a folder, with a slash at the end, so that
        they are named as unreadable.
        """
        return [name for name in self._all if self._is_of_kind(name)]

    @property
    def others(self) -> str:
        """How many files of other kinds there are of each ending, as a text; empty for none."""
        return counted([name for name in self._all if not self._is_of_kind(name)])

    def of_kind(self, kind: str) -> Files:
        """Return those of the files whose names match a regular expression."""
        some = replace(self, kind=kind)
        some.__dict__["_all"] = self._all
        return some

    def some(self, names: Sequence[str]) -> Files:
        """Return some of the files, by their names."""
        return replace(self, chosen=tuple(names))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the names behind: a task is told its own."""
        return {key: self.__dict__[key] for key in ("root", "by", "text", "kind")}

    @cached_property
    def _all(self) -> list[str]:
        """Names of the files of all kinds."""
        if self.chosen is not None:
            return list(self.chosen)
        if self.by == "tree":
            return paths.files_below(self.root)
        if self.by == "name":
            return [self.text]
        if self.by == "list":
            with paths.open_file(self.root / self.text) as file:
                text = file.read().decode("utf-8", "surrogateescape")
            # A name may hold other marks that end a line elsewhere.
            lines = (line.removesuffix("\r") for line in text.split("\n"))
            return [line for line in lines if line.strip()]
        found: set[str] = set()
        for pattern in braced(self.text):
            matching = glob.glob(pattern, root_dir=self.root, recursive=True)  # noqa: PTH207 - Path.glob knows no root
            # A link that leads upwards is followed in circles: every folder counts once.
            homes: dict[tuple[int, int], str] = {}
            for name in sorted(matching, key=lambda name: (name.count("/"), name)):
                home, _, _ = name.rpartition("/")
                known = (self.root / home).stat()
                if homes.setdefault((known.st_dev, known.st_ino), home) == home:
                    found.add(name)
            if not MAGIC.search(pattern) and not matching:
                raise zarr_io.missing_path(self.root / pattern)
        return sorted(name for name in found if not paths.is_folder(self.root / name))

    def _is_of_kind(self, name: str) -> bool:
        """Return whether a file is of the kind that is wanted."""
        return name.endswith("/") or re.search(self.kind, name, re.IGNORECASE) is not None

    def fingerprint(self) -> dict[str, Any]:
        """Return the number, bytes and a digest of names, sizes and times of the files."""
        # Listed anew, so that files that came or went meanwhile are noticed.
        known = [(name, *self._identity(name)) for name in replace(self).names]
        return {
            "n_files": len(known),
            "n_bytes": sum(n_bytes for _, n_bytes, _ in known),
            "files": hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest(),
        }

    def _identity(self, name: str) -> tuple[int, int]:
        """Return size and time of a file; zeros where a list names what is not there."""
        try:
            return paths.identity(self.root / name)
        except FileNotFoundError:
            if self.by != "list":
                raise
            return (0, 0)


def braced(pattern: str) -> list[str]:
    """Return what a pattern with braces stands for.

    Examples
    --------
    >>> braced("a-{08..10}.{tar,zip}")
    ['a-08.tar', 'a-08.zip', 'a-09.tar', 'a-09.zip', 'a-10.tar', 'a-10.zip']
    """
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, choice = found.groups()
    if choice is None:
        words = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        words = choice.split(",")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [whole for word in words for whole in braced(f"{head}{word}{tail}")]


def counted(names: list[str]) -> str:
    """Return how many files there are of each ending, as a text."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{n:,} {ending}" for ending, n in ordered[:MOST_NAMED]]
    rest = sum(n for _, n in ordered[MOST_NAMED:])
    return ", ".join([*named, f"{rest:,} of other endings"] if rest else named)


def printable(name: str) -> str:
    """Return a file name that is sure to be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
