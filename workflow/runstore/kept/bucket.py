"""Requests for the objects of one run at an address: list, fetch, put, copy, delete."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from workflow.errors import StoreError
from workflow.runstore.objects import Address, Stamp, again, asked, client, library, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime
    from pathlib import Path

T = TypeVar("T")

#: Requests at a time: each waits for the network most of the time.
N_AT_ONCE = 8
#: Parts of a large file that are put at a time, of 5 MiB each.
N_PARTS_AT_ONCE = 4
#: Bytes that are written to disk at a time.
WRITTEN_BYTES = 1 << 22


class ChangedError(StoreError):
    """An object is not what the list of objects said, as a command elsewhere has written it since."""


class OvertakenError(StoreError):
    """An object was not put, as another one is there, or there is none any more."""


class Small(NamedTuple):
    """A small object: its bytes, the version of it for a conditional put, and when it was put."""

    content: bytes
    version: dict[str, str]
    put_at: datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """The objects below an address; names are relative to it.

    Attributes
    ----------
    address : Address
        Where the run is.
    """

    address: Address

    def key(self, name: str) -> str:
        """Return the key of an object."""
        return (self.address / name).key

    def listed(self, below: str = "") -> dict[str, Stamp]:
        """Return the stamps of all objects, or of those in one folder, by name."""
        if not below:
            return self.address.listed()
        found = (self.address / below).listed()
        return {f"{below}/{name}": stamp for name, stamp in found.items()}

    def holds_any(self, but: Collection[str]) -> str | None:
        """Return a name that is there besides some and what is below them; None where there is none."""
        return min(set(self.address.listed_names()) - set(but), default=None)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of an object, None where there is none."""
        try:
            return (self.address / name).stamp()
        except FileNotFoundError:
            return None

    def read(self, name: str) -> Small | None:
        """Return a small object, None where there is none."""
        place = self.address / name
        try:
            with asked(place):
                meta, content = _again(lambda: _whole(client(place.root), place.key))
        except FileNotFoundError:
            return None
        return Small(content, _version(meta), meta["last_modified"])

    def fetch(self, name: str, stamp: Stamp, target: Path) -> None:
        """Fetch an object into a new file.

        Raises
        ------
        ChangedError
            If the object is not the one with this stamp.
        """
        place = self.address / name
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            with asked(place):
                meta = _again(lambda: _written(client(place.root), place.key, temporary))
            if stamp_of(meta)._replace(n_bytes=temporary.stat().st_size) != stamp:
                raise FileNotFoundError
            temporary.replace(target)
        except FileNotFoundError:
            msg = f"{place} must stay as it is while it is fetched; another command has written it. Run the same command again."
            raise ChangedError(msg) from None
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, name: str, content: bytes | Path) -> None:
        """Put an object, whatever was there; large files go in parts, and show when they are whole."""
        place = self.address / name
        with asked(place, "written"):
            at_most = N_PARTS_AT_ONCE
            _again(
                lambda: library().put(
                    client(place.root), place.key, content, max_concurrency=at_most
                )
            )

    def put_if(self, name: str, content: bytes, version: dict[str, str] | None) -> dict[str, str]:
        """Put an object only where there is none, or where it still has a version; return its new version.

        Raises
        ------
        OvertakenError
            If another one is there.
        """
        place, raised = self.address / name, library().exceptions
        mode: Any = "create" if version is None else version
        try:
            with asked(place, "written"):
                try:
                    root, key = client(place.root), place.key
                    put = _again(lambda: library().put(root, key, content, mode=mode))
                except (raised.AlreadyExistsError, raised.PreconditionError, FileNotFoundError):
                    raise OvertakenError from None
        except OvertakenError:
            # That of a request whose answer was lost, and which was sent again.
            found = self.read(name)
            if found is not None and found.content == content:
                return found.version
            raise
        return _version(put)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the store."""
        place = self.address / target
        with asked(place, "written"):
            _again(lambda: library().copy(client(place.root), self.key(source), place.key))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, also such as are gone already."""
        keys = [self.key(name) for name in names]
        if keys:
            with asked(self.address, "written"):
                _again(lambda: library().delete(client(self.address.root), keys))


def _again(ask: Callable[[], T]) -> T:
    """Return what is asked for; ask again where the answer breaks off: obstore does so for the body of an object alone."""
    return again(ask, library().exceptions.GenericError, "response body")


def _whole(store: Any, key: str) -> tuple[Any, bytes]:
    """Return what a store says of an object, and its bytes."""
    found = library().get(store, key)
    return found.meta, bytes(found.bytes())


def _written(store: Any, key: str, path: Path) -> Any:
    """Write an object to a file; return what the store says of it."""
    found = library().get(store, key)
    with path.open("wb") as file:
        for part in found.stream(min_chunk_size=WRITTEN_BYTES):
            file.write(part)
    return found.meta


def at_once(function: Callable[[T], Any], items: Iterable[T]) -> None:
    """Call a function for all items, several at a time; raise the first error once the others have ended."""
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _version(meta: Any) -> dict[str, str]:
    """Return what a conditional put is told of an object that was put or read: stores need one or the other."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}
