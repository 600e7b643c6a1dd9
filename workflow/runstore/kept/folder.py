"""Kept: the working folder of a run at an address; what changes there is pushed, what changed elsewhere is pulled."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from workflow.errors import StoreError
from workflow.formatting import format_bytes, format_count
from workflow.runstore import layout
from workflow.runstore.files import discard, disk_errors
from workflow.runstore.kept.bucket import Bucket, ChangedError, at_once
from workflow.runstore.kept.lock import AddressLock, is_dead, this_process
from workflow.runstore.kept.note import PUSH, STAGED, Known, Note, files_here, is_kept
from workflow.runstore.kept.state import Mark, Plan, There, changing, differences, in_turn, wins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.runstore.kept.note import Identity
    from workflow.runstore.objects import Address, Stamp

log = logging.getLogger(__name__)

#: Seconds between pushes in the middle of a step; pushes that take long come less often.
PUSHED_S = 60.0
#: The same after a finished step: what is done sooner is soon done again.
DONE_S = 10.0
#: How many times as long as a push took the work goes on before the next one.
WORK_TO_PUSH = 3.0
#: How often a pull begins anew as a command elsewhere has pushed meanwhile, or a push waits for copies.
N_TRIES, PAUSE_S = 20, 0.5
#: From so many bytes on it is told before they are fetched.
TOLD_BYTES = 64 * 2**20


class Kept:
    """A run at an address, and the folder of this machine that it is worked on in.

    Parameters
    ----------
    address : Address
        Where the run is kept.
    folder : Path
        Where it is worked on: a cache, made where it is missing.

    Notes
    -----
    Whoever writes holds two locks, that of the folder and that of the address.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        self.address, self.folder = address, folder
        self._bucket = Bucket(address)
        self._lock: AddressLock | None = None
        self._turn = threading.RLock()
        self._next_push = 0.0
        self._n_files, self._n_bytes, self._seconds = 0, 0, 0.0

    def is_run(self) -> bool:
        """Return whether there is a run at the address, or one here that has not got there yet."""
        return self._mark().is_run() or self._waits(self._note()) is not None

    def begin(self) -> None:
        """Note that a run begins here, which gets to the address with the first push.

        Raises
        ------
        StoreError
            If there are other objects at the address.
        """
        other = self._bucket.holds_any((layout.LOCK, layout.WIP, PUSH))
        if other is not None:
            msg = f"`--out` must be new, empty or a run folder; {self.address} holds {other} and no {layout.MANIFEST}. Give another address."
            raise StoreError(msg)
        note = self._note()
        note.writer = this_process()
        note.save(self.folder)

    def pulled(self, path: os.PathLike[str] | str = "", *, rows: bool = True) -> Path:
        """Bring the folder to the state of the address, and return it.

        Parameters
        ----------
        path : path
            What was opened: of the folder itself, a look at the manifest tells whether anything has changed.
        rows : bool
            Whether the values of images are wanted, too.
        """
        self.pull(rows=rows, look=Path(path).absolute() != self.folder)
        return self.folder

    def pull(self, *, rows: bool = True, look: bool = True, is_writer: bool = False) -> None:
        """Bring the folder to the state of the address; fetch what differs.

        What a command that was killed had not pushed yet stays, unless another one has written since.

        Parameters
        ----------
        rows : bool
            Whether the values of images are wanted, too.
        look : bool
            Whether every object is looked at; else the manifest tells whether anything has changed.
        is_writer : bool
            Whether this process holds both locks.

        Raises
        ------
        StoreError
            If the store refuses, or other commands write all the time.
        """
        if self._lock is not None:
            return
        with self._turn, disk_errors(self.folder), self._alone():
            note = self._note()
            if note.writer and not is_writer and not self._has_ended(note.writer):
                # It brings the folder to the newest state, and writes there now.
                return
            mark = self._mark()
            tag = mark.manifest.tag if mark.manifest is not None else ""
            is_done = mark.plan is None or mark.plan.is_done()
            is_as_noted = tag and is_done and (mark.push, tag) == (note.push, note.manifest)
            if is_as_noted and not look and (note.has_rows or not rows):
                return
            if not mark.is_run():
                if self._waits(note) is None:
                    discard(self.folder)
                    self._make()
                return
            self._pull(note, rows=rows)

    def fetch_rows(self) -> None:
        """Fetch the values of images where they were left out, also while the run is written."""
        with self._turn, self._alone():
            self._pull(self._note(), rows=True)

    def _pull(self, note: Note, *, rows: bool) -> None:
        """Fetch what differs until nothing has changed while it was fetched."""
        fetched = self.folder.with_name(f"{self.folder.name}.fetched")
        fetched.mkdir(exist_ok=True)
        for _ in range(N_TRIES):
            try:
                there = self._there()
                wanted, gone = differences(note, there, files_here(self.folder), rows=rows)
                self._fetch(wanted, fetched)
                if self._mark() == there.mark:
                    break
            except ChangedError:
                pass
            time.sleep(PAUSE_S)
        else:
            msg = f"{self.address} must stay as it is while it is fetched; other commands write it all the time. Wait for them, then run the same command again."
            raise StoreError(msg)
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
            note.files.pop(name, None)
        # Of a pull that is cut short here, the manifest is still the old one.
        for name in sorted(wanted, key=lambda name: name == layout.MANIFEST):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetched_name(fetched, name, wanted[name][1]).replace(target)
        here = files_here(self.folder)
        note.files |= {name: Known(there.files[name][1], here[name]) for name in wanted}
        if wins(note, there):
            self._drop_empty_folders()
            note.files = {n: k for n, k in note.files.items() if n in here}
            note.manifest, note.push = there.files[layout.MANIFEST][1].tag, there.mark.push
            note.writer = note.next_push = ""
            note.has_rows = rows or set(there.files) <= set(note.files)
        note.save(self.folder)
        discard(fetched)

    def _fetch(self, wanted: dict[str, tuple[str, Stamp]], into: Path) -> None:
        """Fetch objects, each into a file that is called by its name and tag: what is there is not fetched again."""
        missing = {
            _fetched_name(into, name, stamp): (key, stamp)
            for name, (key, stamp) in wanted.items()
            if not _fetched_name(into, name, stamp).exists()
        }
        n_bytes = sum(stamp.n_bytes for _, stamp in missing.values())
        if n_bytes >= TOLD_BYTES:
            log.info("fetching %s of %s", format_bytes(n_bytes), self.address)
        started = time.monotonic()
        at_once(lambda path: self._bucket.fetch(*missing[path], path), missing)
        if missing:
            log.info(
                "fetched %s of %s, %s",
                format_count(len(missing), "file"),
                self.address,
                _rate(n_bytes, time.monotonic() - started),
            )

    @contextlib.contextmanager
    def writing(self, *, rows: bool = True) -> Iterator[None]:
        """Hold the run against other machines, and push what has changed at the end, however it ends.

        Parameters
        ----------
        rows : bool
            Whether the values of images are wanted, too.

        Raises
        ------
        StoreError
            If another command writes the run, or the store refuses.
        """
        lock = AddressLock(self._bucket)
        lock.take()
        try:
            self._complete_left(lock)
            self.pull(rows=rows, is_writer=True)
            note = self._note()
            note.writer = this_process()
            note.save(self.folder)
            log.info("%s is worked on in %s", self.address, self.folder)
            self._lock, self._n_files, self._n_bytes, self._seconds = lock, 0, 0, 0.0
            self._plan_next(0.0)
            try:
                yield
            except BaseException:
                try:
                    if lock.is_held:
                        self.push(is_last=True)
                except StoreError as err:
                    log.warning("what was done last is in %s only: %s", self.folder, err)
                raise
            self.push(is_last=True)
            if self._n_files:
                files, rate = (
                    format_count(self._n_files, "file"),
                    _rate(self._n_bytes, self._seconds),
                )
                log.info("%s put to %s, %s", files, self.address, rate)
        finally:
            self._lock = None
            with contextlib.suppress(StoreError):
                lock.release()

    def push_if_due(self, *, step_is_done: bool = False) -> None:
        """Push where the last push was a while ago; see `push`.

        Parameters
        ----------
        step_is_done : bool
            Whether a step was just finished: then sooner.
        """
        if self._lock is not None:
            self._lock.require()
            early_s = PUSHED_S - DONE_S if step_is_done else 0.0
            if time.monotonic() >= self._next_push - early_s:
                self.push()

    def push(self, *, is_last: bool = False) -> None:
        """Bring the address to the state of the folder, all of it or nothing.

        What has changed is put beside the run; from the moment on that `push.json` lists it the new state counts;
        then each object goes to its place, and the list is emptied.

        Parameters
        ----------
        is_last : bool
            Whether the command writes nothing more.

        Raises
        ------
        StoreError
            If the lock was lost, or the store refuses.

        Notes
        -----
        Called where a kill would leave the folder sound.  Tasks that write meanwhile do no harm: their
        files show when they are whole, and no journal tells of them yet.
        """
        if self._lock is None or _has_moves(self.folder):
            return
        self._lock.require()
        started, note, here = time.monotonic(), self._note(), files_here(self.folder)
        changed = {
            name: identity
            for name, identity in here.items()
            if name not in note.files or note.files[name].identity != identity
        }
        gone = [name for name in note.files if name not in here]
        if changed or gone:
            # Always, for it is the last to get to its place.
            changed[layout.MANIFEST] = here[layout.MANIFEST]
            staging = f"{STAGED}/{uuid.uuid4().hex[:12]}"
            put = self._stage(changed, note, staging)
            plan = Plan(staging, put, gone)
            # If this is cut short, it is still known who has written it.
            note.next_push = staging
            note.save(self.folder)
            self._lock.require(renewed=True)
            self._bucket.put(PUSH, plan.as_json())
            there = self._complete(plan, self._lock)
            note.files = {n: known for n, known in note.files.items() if n in here}
            note.files |= {name: Known(there[name], changed[name]) for name in put}
            note.manifest, note.push, note.next_push = there[layout.MANIFEST].tag, staging, ""
            self._n_files += len(put)
            self._n_bytes += sum(changed[name].n_bytes for name in put)
            self._seconds += time.monotonic() - started
        # Until the command ends, what is here is newer.
        note.writer = "" if is_last else this_process()
        note.save(self.folder)
        self._plan_next(time.monotonic() - started)

    def _stage(self, changed: dict[str, Identity], note: Note, staging: str) -> list[str]:
        """Put what has changed beside the run; return the names: what a task has removed meanwhile is left out."""
        # A file that was renamed, or linked, need not travel again; but after a push that was cut
        # short, what the note knows may have got another content there.
        known = {} if note.next_push else note.files
        same = {one.identity: name for name, one in known.items()}

        def stage(name: str) -> None:
            source = same.get(changed[name])
            with contextlib.suppress(FileNotFoundError):
                if source is not None:
                    return self._bucket.copy(source, f"{staging}/{name}")
            with contextlib.suppress(FileNotFoundError):
                self._bucket.put(f"{staging}/{name}", self.folder / name)
            return None

        at_once(stage, changed)
        staged = self._bucket.listed(staging)
        return sorted(name for name in changed if f"{staging}/{name}" in staged)

    def _complete(self, plan: Plan, lock: AddressLock) -> dict[str, Stamp]:
        """Do what `push.json` lists, all or what is left of it; return the stamps of what was put."""
        put = [name for name in plan.put if is_kept(name)]
        staged = {name: f"{plan.staged}/{name}" for name in put}
        for names in in_turn(put):
            lock.require()
            at_once(lambda name: self._bucket.copy(staged[name], name), names)
        data = {name: source for name, source in staged.items() if name != layout.MANIFEST}
        there = self._copied(data)
        # Requests are tried again for three minutes: none may reach what another holder has written.
        lock.require(renewed=True)
        self._bucket.delete([name for name in plan.deleted if is_kept(name)])
        if layout.MANIFEST in staged:
            self._bucket.copy(staged[layout.MANIFEST], layout.MANIFEST)
            there = self._copied(staged)
        lock.require()
        self._bucket.put(PUSH, plan.done().as_json())
        self._bucket.delete(staged.values())
        return there

    def _copied(self, staged: dict[str, str]) -> dict[str, Stamp]:
        """Return the stamps at the address once copies are whole, which some stores make in their own time."""
        short: list[str] = []
        for _ in range(N_TRIES):
            there = self._bucket.listed()
            n_bytes = {name: stamp.n_bytes for name, stamp in there.items()}
            short = [n for n, source in staged.items() if n_bytes.get(n) != n_bytes.get(source, -1)]
            if not short:
                return there
            time.sleep(PAUSE_S)
        msg = f"{self.address} must take copies of its own objects; that of {short[0]} is not whole. Run the same command again."
        raise StoreError(msg)

    def _complete_left(self, lock: AddressLock) -> None:
        """Complete a push that was cut short, or remove what it had put before it counted."""
        plan = self._mark().plan
        if plan is not None and not plan.is_done():
            log.info("the last push to %s was cut short: it is completed", self.address)
            self._complete(plan, lock)
        self._bucket.delete(self._bucket.listed(STAGED))

    def _there(self) -> There:
        """List the run at the address as it is, or as it is about to be where a push is being done."""
        mark, listed = self._mark(), self._bucket.listed()
        files = {name: (name, stamp) for name, stamp in listed.items() if is_kept(name)}
        plan = mark.plan or Plan(STAGED, [], [])
        for name in filter(is_kept, plan.put):
            staged = f"{plan.staged}/{name}"
            if staged not in listed:
                raise changing(self.address)
            files[name] = (staged, listed[staged])
        for name in plan.deleted:
            files.pop(name, None)
        if layout.MANIFEST not in files:
            raise changing(self.address)
        return There(files, mark)

    def _mark(self) -> Mark:
        """Return what changes with every push."""
        found = self._bucket.read(PUSH)
        plan = None if found is None else Plan.of(found.content, self.address)
        return Mark(self._bucket.stamp(layout.MANIFEST), plan)

    def _note(self) -> Note:
        """Return the note of the folder; a new one where there is none, or the folder was emptied."""
        found = Note.read(self.folder)
        if found is None or (found.files and not (self.folder / layout.MANIFEST).is_file()):
            return Note(str(self.address))
        return found

    def _waits(self, note: Note) -> Path | None:
        """Return the manifest of a run that a killed command has begun here and never pushed, None where there is none."""
        manifest = self.folder / layout.MANIFEST
        return manifest if note.writer and not note.manifest and manifest.is_file() else None

    def _has_ended(self, process: str) -> bool:
        """Return whether a process that wrote here does so no more."""
        return process == this_process() or is_dead(process)

    def _plan_next(self, took_s: float) -> None:
        """Say when the next push is due."""
        self._next_push = time.monotonic() + max(PUSHED_S, WORK_TO_PUSH * took_s)

    def _make(self) -> None:
        """Make the folder and its note."""
        try:
            is_new = not self.folder.is_dir()
            self.folder.mkdir(parents=True, exist_ok=True)
            # A new folder may have the inode of the one that was deleted.
            if is_new or Note.read(self.folder) is None:
                Note(str(self.address)).save(self.folder)
        except OSError as err:
            msg = f"the working folder of a run at an address must be one that can be written; {self.folder} cannot ({err.strerror}). Set compute.working_folder to another place."
            raise StoreError(msg) from None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time fetch into the folder; the others wait."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.fetching").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._make()
            yield

    def _drop_empty_folders(self) -> None:
        """Remove the folders that nothing is left in."""
        for parent, _, _ in os.walk(self.folder, topdown=False):
            if Path(parent) != self.folder:
                with contextlib.suppress(OSError):
                    Path(parent).rmdir()


def _has_moves(folder: Path) -> bool:
    """Return whether a replacement is half done here: it must not be seen elsewhere."""
    try:
        return bool(json.loads((folder / layout.MANIFEST).read_bytes())["moves"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _fetched_name(folder: Path, name: str, stamp: Stamp) -> Path:
    """Return where an object is fetched to."""
    return folder / hashlib.sha256(f"{name} {stamp}".encode()).hexdigest()[:32]


def _rate(n_bytes: float, seconds: float) -> str:
    """Return bytes, seconds and rate for a person."""
    return f"{format_bytes(int(n_bytes))} in {seconds:.1f} s ({n_bytes / 1e6 / max(seconds, 1e-3):,.0f} MB/s)"
