"""The lock of a run at an address: an object that its holder renews."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import StoreError
from workflow.runstore import layout
from workflow.runstore.kept.bucket import OvertakenError

if TYPE_CHECKING:
    from workflow.runstore.kept.bucket import Bucket, Small

log = logging.getLogger(__name__)

#: Seconds between renewals.
RENEWED_S = 30.0
#: Seconds without a renewal after which another command may take a lock over.
STALE_S = 300.0
#: Seconds without a renewal after which its holder writes nothing more: before another one may begin.
UNSURE_S = 240.0
#: Seconds between looks at a lock that two renewals are missing of.
LOOKED_S = 5.0


def this_process() -> str:
    """Return what no other process is called: boot of the machine, its space of process numbers, and the number."""
    known = [str(uuid.getnode())]
    with contextlib.suppress(OSError):
        known = [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()]
        known.append(str(os.stat("/proc/self/ns/pid").st_ino))  # noqa: PTH116 - of the link's target
    return ":".join([*known, str(os.getpid())])


def is_dead(process: str) -> bool:
    """Return whether a process is known to have ended: one of this machine, among numbers that are seen here."""
    space, _, number = process.rpartition(":")
    if space != this_process().rpartition(":")[0] or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class AddressLock:
    """The object ``.lock`` of a run at an address, held by one command at a time.

    Parameters
    ----------
    bucket : Bucket
        The objects of the run.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._token = uuid.uuid4().hex
        self._version: dict[str, str] = {}
        self._renewed_at = 0.0
        self._is_lost = False
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Take the lock, and renew it from now on.

        Raises
        ------
        StoreError
            If another command holds it, or the store refuses.
        """
        has_waited = False
        while not self._took():
            found = self._bucket.read(layout.LOCK)
            if found is None:
                continue
            age, holder = _age_s(found), _holder(found)
            # One without a token is that of a run folder on disk, which was copied there.
            is_left = "token" not in holder or is_dead(str(holder.get("process")))
            if age >= STALE_S or is_left:
                if self._put_over(found.version):
                    if "token" in holder:
                        log.info("%s has ended: its lock is taken over", _name(holder))
                    break
            elif age < 2 * RENEWED_S:
                raise self._refused(holder, age)
            elif not has_waited:
                has_waited = True
                log.warning(
                    "%s has not renewed its lock of %s for %.0f s: waiting up to %.0f s for it to do so, or for the lock",
                    _name(holder),
                    self._place,
                    age,
                    STALE_S - age,
                )
            time.sleep(LOOKED_S if has_waited else 0.0)
        self._ended.clear()
        self._thread = threading.Thread(target=self._renew_again, daemon=True)
        self._thread.start()

    def require(self, *, renewed: bool = False) -> None:
        """Refuse to go on without the lock.

        Parameters
        ----------
        renewed : bool
            Whether it is renewed first, to be sure of the next minutes.

        Raises
        ------
        StoreError
            If another command has taken it, or it could not be renewed for long.
        """
        if renewed:
            self._renew()
        if not self.is_held:
            msg = f"a command must hold the lock of {self._place} as long as it writes; it was lost, as it could not be renewed for minutes, or was deleted. Nothing more is written; run the same command again."
            raise StoreError(msg)

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have taken it."""
        return not self._is_lost and time.time() - self._renewed_at <= UNSURE_S

    def release(self) -> None:
        """Give the lock back, and end its renewal."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        found = None if self._is_lost else self._bucket.read(layout.LOCK)
        if found is not None and _holder(found).get("token") == self._token:
            self._bucket.delete([layout.LOCK])

    @property
    def _place(self) -> str:
        """The run, for a message."""
        return str(self._bucket.address)

    def _took(self) -> bool:
        """Put the lock where there is none; return whether it is ours."""
        return self._put_over(None)

    def _put_over(self, version: dict[str, str] | None) -> bool:
        """Put the lock over nothing, or over one that is still the same; return whether it was put."""
        content = {
            "holder": f"process {os.getpid()} on {os.uname().nodename}",
            "process": this_process(),
            "token": self._token,
            "time": datetime.now(UTC).isoformat(),
        }
        now = time.time()
        try:
            put = self._bucket.put_if(layout.LOCK, json.dumps(content).encode(), version)
        except OvertakenError:
            return False
        self._version, self._renewed_at = put, now
        return True

    def _renew(self) -> None:
        """Renew the lock; note where it is another's."""
        with self._turn:
            if self._is_lost or self._put_over(self._version):
                return
            found = self._bucket.read(layout.LOCK)
            is_ours = found is not None and _holder(found).get("token") == self._token
            self._is_lost = not (is_ours and found is not None and self._put_over(found.version))

    def _renew_again(self) -> None:
        """Renew the lock until it is given back."""
        while not self._ended.wait(RENEWED_S) and not self._is_lost:
            # What the network does not let through now is tried again; `require` knows for how long.
            with contextlib.suppress(StoreError):
                self._renew()

    def _refused(self, holder: dict[str, Any], age: float) -> StoreError:
        """Return the error for a run that another command writes."""
        msg = f"one command at a time may write {self._place}; {_name(holder)} does (seen {max(age, 0):.0f} s ago). Wait for it, or, if it was killed, until {STALE_S / 60:.0f} minutes have gone by since; or give another run folder."
        return StoreError(msg)


def _holder(found: Small) -> dict[str, Any]:
    """Return what a lock says of its holder; nothing where it is no lock of ours."""
    try:
        content = json.loads(found.content)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _name(holder: dict[str, Any]) -> str:
    """Return the holder of a lock, for a message."""
    return str(holder.get("holder") or "another process")


def _age_s(found: Small) -> float:
    """Return for how long a lock was not renewed, by the clock of the store [s]."""
    return (datetime.now(UTC) - found.put_at).total_seconds()
