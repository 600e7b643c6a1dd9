"""What is at the address, and what differs from it here; no requests."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from workflow.errors import StoreError
from workflow.runstore import layout
from workflow.runstore.kept.bucket import ChangedError
from workflow.runstore.kept.note import PUSH, STAGED, is_of_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.runstore.kept.note import Identity, Note
    from workflow.runstore.objects import Address, Stamp


class Plan(NamedTuple):
    """A push, as `push.json` tells of it.

    Attributes
    ----------
    staged : str
        Where the objects are that go to their places; no other push has the same.
    put, deleted : list of str
        Names of files that it changes, and of those it removes; none where it is done.
    """

    staged: str
    put: list[str]
    deleted: list[str]

    @classmethod
    def of(cls, content: bytes, address: Address) -> Plan:
        """Read `push.json`.

        Raises
        ------
        StoreError
            If it is damaged.
        """
        try:
            plan = cls(**json.loads(content))
            names = (*plan.put, *plan.deleted)
            is_sound = plan.staged.startswith(f"{STAGED}/") and all(
                isinstance(name, str) for name in names
            )
        except (ValueError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            msg = f"{address}/{PUSH} must tell what the last push changes; it is damaged. Restore it, or give another run folder."
            raise StoreError(msg)
        return plan

    def as_json(self) -> bytes:
        """Return it as it is put."""
        return json.dumps(self._asdict()).encode()

    def is_done(self) -> bool:
        """Return whether all is in its place."""
        return not (self.put or self.deleted)

    def done(self) -> Plan:
        """Return it as it is once all is in its place."""
        return self._replace(put=[], deleted=[])


class Mark(NamedTuple):
    """What changes with every push: the manifest, and the last push."""

    manifest: Stamp | None
    plan: Plan | None

    def is_run(self) -> bool:
        """Return whether there is a run, or the whole of one is about to get to its place."""
        is_coming = self.plan is not None and layout.MANIFEST in self.plan.put
        return self.manifest is not None or is_coming

    @property
    def push(self) -> str:
        """The last push; empty where there was none."""
        return self.plan.staged if self.plan is not None else ""


class There(NamedTuple):
    """The run at the address: its files, each with the object that holds it, and what changes with every push."""

    files: dict[str, tuple[str, Stamp]]
    mark: Mark


def differences(
    note: Note, there: There, here: dict[str, Identity], *, rows: bool
) -> tuple[dict[str, tuple[str, Stamp]], list[str]]:
    """Return what is to be fetched, and what is to be removed here."""
    is_newer_here = not wins(note, there)
    wanted: dict[str, tuple[str, Stamp]] = {}
    gone = [] if is_newer_here else [name for name in here if name not in there.files]
    for name, (key, stamp) in there.files.items():
        known = note.files.get(name)
        is_same_there = known is not None and known.stamp == stamp
        is_same_here = known is not None and here.get(name) == known.identity
        if is_same_there and is_same_here:
            continue
        # What was changed or removed here stays so.
        if is_newer_here and (is_same_there or (name in here and not is_same_here)):
            continue
        if rows or not is_of_rows(name):
            wanted[name] = (key, stamp)
        elif name in here:
            gone.append(name)
    return wanted, gone


def wins(note: Note, there: There) -> bool:
    """Return whether the address counts where the folder differs: all was pushed, or another machine has written since."""
    if note.next_push and there.mark.push == note.next_push:
        # Cut short, but ours.
        return not note.writer
    known = there.mark.push, there.files[layout.MANIFEST][1].tag
    return not note.writer or known != (note.push, note.manifest)


def in_turn(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield names in the order in which they go to their places: data, what describes it, journals; not the manifest."""
    kinds = {".json": 1, ".html": 1, ".jsonl": 2}
    for turn in range(3):
        yield [
            name
            for name in names
            if name != layout.MANIFEST and kinds.get(PurePosixPath(name).suffix, 0) == turn
        ]


def changing(address: Address) -> ChangedError:
    """Return the error for a run that is being pushed while it is listed."""
    return ChangedError(
        f"{address} must stay as it is while it is listed; another command writes it."
    )
