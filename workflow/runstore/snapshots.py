"""Snapshots of Icechunk repositories, on disk or at an address: read as they were, whatever is written there later."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from workflow.errors import ImagesError, StoreError
from workflow.runstore.files import first_line
from workflow.runstore.objects import PAUSES, Address, Stamp, Stored, again, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["Snapshot", "snapshot_of"]

T = TypeVar("T")
#: What Icechunk says of an answer that breaks off.
BROKEN_OFF = "streaming"


@dataclass(frozen=True, slots=True)
class Snapshot(Stored):
    """A place in an Icechunk repository at one snapshot: a `Path`, as far as one is read.

    Attributes
    ----------
    repository : Path or Address
        The repository.
    snapshot : str
        Name that Icechunk gave the snapshot; what it holds never changes.
    key : str
        Array or group, without slashes at the ends; empty for the root.
    """

    repository: Path | Address
    snapshot: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.repository}@{self.snapshot}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, name: str) -> Self:
        return type(self)(
            self.repository, self.snapshot, f"{self.key}/{name}" if self.key else name
        )

    @property
    def store(self) -> Any:
        """Zarr's store of the snapshot, one a process."""
        return _store(self.repository, self.snapshot)

    def asked(self) -> contextlib.AbstractContextManager[None]:
        """Turn what Icechunk raises inside into errors of ours."""
        return _asked(self)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the text under this name; raise FileNotFoundError where there is none."""
        with self.asked():
            found = sync(self.store.get(self.key, default_buffer_prototype()))
        if found is None:
            raise FileNotFoundError(str(self))
        return bytes(found.to_bytes()).decode(encoding)

    def stamp(self) -> Stamp:
        """Return what tells it from others; raise FileNotFoundError where it is no metadata of a node."""
        with self.asked():
            # Icechunk raises where it is asked for files of format 2, which it never has.
            is_there = self.name == "zarr.json" and _again(
                lambda: bool(sync(self.store.exists(self.key)))
            )
        if not is_there:
            raise FileNotFoundError(str(self))
        return Stamp(0, self.snapshot)

    def names(self) -> list[str]:
        """Return the names one level below."""

        async def listed() -> list[str]:
            return [name async for name in self.store.list_dir(self.key)]

        with self.asked():
            return [name.rstrip("/").rpartition("/")[2] for name in _again(lambda: sync(listed()))]

    def files(self) -> list[tuple[str, int, str]]:
        """Return the name of the snapshot: it stands for all that it holds."""
        return [("snapshot", 0, self.snapshot)]


def snapshot_of(repository: Path | Address, version: str) -> Snapshot:
    """Return the root of a repository as a user means it.

    Parameters
    ----------
    repository : Path or Address
        The repository.
    version : str
        A branch, a tag or a snapshot.

    Returns
    -------
    Snapshot
        Of a branch the newest.

    Raises
    ------
    ImagesError
        If there is no such version.
    StoreError
        If there is no repository, or it cannot be read.
    """
    with _asked(repository):
        opened = _repository(repository)
        branches, tags = _again(opened.list_branches), _again(opened.list_tags)
        if version in branches:
            return Snapshot(repository, _again(lambda: opened.lookup_branch(version)))
        if version in tags:
            return Snapshot(repository, _again(lambda: opened.lookup_tag(version)))
        with contextlib.suppress(*_raised()):
            session = _again(lambda: opened.readonly_session(snapshot_id=version))
            return Snapshot(repository, session.snapshot_id)
    known = ", ".join([*sorted(branches), *sorted(tags)])
    msg = f"a version must be a branch, a tag or a snapshot of the repository; {repository} has no {version!r}. It has {known}."
    raise ImagesError(msg)


class _Patient(WrapperStore[Any]):
    """Icechunk's store, which does not ask again for an object that breaks off."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return bytes of an object; None where there is none."""
        for pause in PAUSES:
            try:
                return await super().get(key, prototype, byte_range)
            except _raised() as err:
                if BROKEN_OFF not in str(err):
                    raise
            await asyncio.sleep(pause)
        return await super().get(key, prototype, byte_range)


@lru_cache(maxsize=16)
def _store(repository: Path | Address, snapshot: str) -> Any:
    """Open a snapshot for reading."""
    opened = _repository(repository)
    session = _again(lambda: opened.readonly_session(snapshot_id=snapshot))
    return _Patient(session.store)


def _again(ask: Callable[[], T]) -> T:
    """Return what is asked for, also where an answer breaks off."""
    (raised,) = _raised()
    return again(ask, raised, BROKEN_OFF)


def _repository(place: Path | Address) -> Any:
    """Open a repository; credentials are as Icechunk finds them."""
    icechunk = _library()
    if isinstance(place, Path):
        return icechunk.Repository.open(icechunk.local_filesystem_storage(str(place)))
    scheme, _, bucket = place.root.partition("://")
    if scheme == "s3":
        server = s3_server()
        own = {"endpoint_url": server, "force_path_style": True, "allow_http": True}
        is_open = "AWS_SKIP_SIGNATURE" in os.environ
        storage = icechunk.s3_storage(
            bucket=bucket,
            prefix=place.key,
            **(own if server else {}),
            **({"anonymous": True} if is_open else {"from_env": True}),
        )
    elif scheme == "gs":
        storage = icechunk.gcs_storage(bucket=bucket, prefix=place.key, from_env=True)
    else:
        msg = f"an Icechunk repository must be on disk, at s3:// or gs://; got {place}. Copy it."
        raise StoreError(msg)
    return _again(lambda: icechunk.Repository.open(storage))


def _library() -> Any:
    """Return Icechunk, which is an extra."""
    try:
        import icechunk
    except ImportError:
        msg = "snapshots of Icechunk take icechunk, which is not installed. Run: pip install 'overcluster[icechunk]'"
        raise StoreError(msg) from None
    return icechunk


def _raised() -> tuple[type[Exception], ...]:
    """Return what Icechunk raises."""
    return (_library().IcechunkError,)


@contextlib.contextmanager
def _asked(place: object) -> Iterator[None]:
    """Turn what Icechunk raises into errors of ours."""
    raised = _raised()
    try:
        yield
    except raised as err:
        msg = f"{place} must be readable as an Icechunk repository; it is not ({first_line(err)}). Check the place and the credentials."
        raise StoreError(msg) from None
