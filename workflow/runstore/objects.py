"""Addresses in object stores and on the web, read with obstore; what is written there, `kept` writes.

An `Address` has those methods of a `Path` that reading Zarr takes, so what reads Zarr asks neither
which of the two it has.  It is text alone: each process opens its own client.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from workflow.errors import StoreError
from workflow.runstore.files import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore.store import ClientConfig, RetryConfig

__all__ = [
    "NODE_FILES",
    "PAUSES",
    "Address",
    "RefusedError",
    "Stamp",
    "Stored",
    "again",
    "asked",
    "client",
    "is_address",
    "refusals",
    "s3_server",
    "stamp_of",
]

#: How an address begins; a `Path` of it has one slash.
BEGINNING = re.compile(r"(s3a?|gcs|gs|az|abfss?|https?):/")
#: Schemes whose objects have addresses on the web and cannot be listed.
WEB = ("http", "https")
#: Other words for the same.
SAME = {"s3a": "s3", "gcs": "gs"}
#: How long one request may take, with all bytes of a block; slower ones are tried again.
CLIENT: ClientConfig = {"timeout": "120 seconds", "connect_timeout": "10 seconds"}
#: How often requests are tried again: obstore's own pauses add up to two seconds, a busy store takes longer.
RETRIES: RetryConfig = {
    "max_retries": 12,
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=15),
        "base": 3,
    },
    "retry_timeout": timedelta(minutes=3),
}
T = TypeVar("T")
#: Seconds before what broke off is asked for again, where a library does not do so.
PAUSES = (0.1, 0.5, 2.0, 8.0)
#: How the names of variables begin that stores read.
NAMED = ("AWS_", "GOOGLE_", "AZURE_")
#: Files that make a place a Zarr array or group.
NODE_FILES = ("zarr.json", ".zarray", ".zgroup")


def is_address(text: str | os.PathLike[str]) -> bool:
    """Return whether a text is an address, not a path."""
    return BEGINNING.match(os.fspath(text)) is not None


class RefusedError(StoreError):
    """What may not be read.  Who may read a bucket and not list it is also refused what is not there."""


class Stamp(NamedTuple):
    """What changes when an object is written: its bytes, and the store's tag for its content."""

    n_bytes: int
    tag: str


class Stored:
    """What places outside of a file system share: those methods of a `Path` that reading Zarr takes."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Self:
        raise NotImplementedError

    def stamp(self) -> Stamp:
        """Return what tells it from others; raise FileNotFoundError where there is nothing under this very name."""
        raise NotImplementedError

    def is_file(self) -> bool:
        """Return whether there is something under this very name that may be read."""
        try:
            self.stamp()
        except (FileNotFoundError, RefusedError):
            return False
        return True

    @property
    def name(self) -> str:
        """Last part of the address."""
        return str(self).rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Ending of the name."""
        _, dot, ending = self.name.rpartition(".")
        return dot + ending

    def exists(self) -> bool:
        """Return whether there is a Zarr array or group; nothing else is looked for."""
        refused = None
        for name in NODE_FILES:
            try:
                (self / name).stamp()
            except FileNotFoundError:
                continue
            except RefusedError as err:
                refused = err
            else:
                return True
        if refused is not None:
            raise refused
        return False

    def is_dir(self) -> bool:
        """Return whether there is a Zarr array or group."""
        return self.exists()


@dataclass(frozen=True, slots=True)
class Address(Stored):
    """A place in an object store: a `Path`, as far as one is read.

    Attributes
    ----------
    root : str
        Scheme and bucket, container or host, such as ``s3://bucket``.
    key : str
        What stands after it, without slashes at its ends.
    """

    root: str
    key: str

    @classmethod
    def of(cls, text: str | os.PathLike[str]) -> Address:
        """Return the address that a user means.

        Raises
        ------
        StoreError
            If it holds a password or a signature: it would be noted with the run.
        """
        written = os.fspath(text)
        found = BEGINNING.match(written)
        assert found is not None
        scheme = SAME.get(found.group(1), found.group(1))
        try:
            parts = urlsplit(f"{scheme}://{written[found.end() :].lstrip('/')}")
        except ValueError as err:
            msg = f"an address must be {scheme}://PLACE/KEY; got {written} ({err}). Check it."
            raise StoreError(msg) from None
        user, at, host = parts.netloc.rpartition("@")
        # abfss://CONTAINER@ACCOUNT.dfs.core.windows.net
        is_secret = bool(at) and not (scheme.startswith("abfs") and ":" not in user)
        if is_secret or parts.query or parts.fragment:
            msg = f"an address must hold no password, query or signature, as it is noted with the run; that of {scheme}://{host}{parts.path} does. Give the address alone, and the credentials where the store's own tools look for them."
            raise StoreError(msg)
        return cls(f"{scheme}://{parts.netloc}", parts.path.strip("/"))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.root, f"{self.key}/{name}" if self.key else name)

    def stamp(self) -> Stamp:
        """Return bytes and tag of the object; raise FileNotFoundError where there is none."""
        obstore = library()
        with self._asked():
            return stamp_of(obstore.head(client(self.root), self.key))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the text of the object; raise FileNotFoundError where there is none."""
        obstore = library()
        with self._asked():
            return bytes(obstore.get(client(self.root), self.key).bytes()).decode(encoding)

    def names(self) -> list[str]:
        """Return the names one level below; none where nothing can be listed."""
        if self.root.startswith(WEB):
            return []
        try:
            return self.listed_names()
        except RefusedError:
            return []

    def listed_names(self) -> list[str]:
        """Return the names one level below; raise RefusedError where nothing can be listed."""
        found = self._listed(lambda: library().list_with_delimiter(client(self.root), self.key))
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def files(self) -> list[tuple[str, int, Any]] | None:
        """Return name, bytes and tag of every object below, sorted; None where nothing can be listed."""
        if self.root.startswith(WEB):
            return None
        try:
            return sorted((name, *stamp) for name, stamp in self.listed().items())
        except RefusedError:
            return None

    def listed(self) -> dict[str, Stamp]:
        """Return name and stamp of every object below; raise RefusedError where nothing can be listed."""
        found = self._listed(lambda: library().list(client(self.root), self.key).collect())
        skipped = len(self.key) + 1 if self.key else 0
        return {meta["path"][skipped:]: stamp_of(meta) for meta in found}

    def _listed(self, ask: Callable[[], Any]) -> Any:
        """Ask for a list, again where the answer breaks off: obstore does that for objects alone."""
        with self._asked():
            return again(ask, library().exceptions.GenericError, "list response body")

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what requests raise into errors of ours; FileNotFoundError stays what it is."""
        with asked(self):
            yield


def again(ask: Callable[[], T], raised: type[Exception], what: str) -> T:
    """Return what is asked for; ask again after an error whose text has `what` in it."""
    for pause in PAUSES:
        try:
            return ask()
        except raised as err:
            if what not in str(err):
                raise
        time.sleep(pause)
    return ask()


def refusals(addresses: Sequence[Stored]) -> list[str]:
    """Return why addresses cannot be read where this runs.

    Parameters
    ----------
    addresses : sequence of Address or Snapshot
        Zarr arrays or groups.

    Returns
    -------
    list of str
        A sentence for each that cannot be read.
    """
    found = []
    for address in addresses:
        try:
            if not address.exists():
                found.append(f"{address} holds no Zarr there.")
        except StoreError as err:
            found.append(str(err))
    return found


@contextlib.contextmanager
def asked(place: object, done: str = "read") -> Iterator[None]:
    """Turn what requests for a place raise into errors of ours; FileNotFoundError stays what it is."""
    must = {"read": "readable", "written": "writable"}[done]
    raised = library().exceptions
    try:
        yield
    except FileNotFoundError:
        raise
    except (raised.BaseError, ValueError) as err:
        # Azure signs requests in their queries.
        said = re.sub(r"\?\S+", "", first_line(err))
        refused = raised.PermissionDeniedError, raised.UnauthenticatedError
        # Of a list, obstore tells no more.
        if isinstance(err, refused) or re.search(r"status code: 40[13]", str(err)):
            msg = f"{place} must be {must} with your credentials; the store refuses ({said}). Give credentials where the store's own tools look for them, to the workers too."
            raise RefusedError(msg) from None
        msg = f"{place} must be {must}; it cannot be {done} ({said}). Check address, region and network, then run the same command again."
        raise StoreError(msg) from None


def stamp_of(meta: Any) -> Stamp:
    """Return the stamp of what a store says of an object."""
    return Stamp(int(meta["size"]), str(meta["e_tag"] or meta["last_modified"]))


def library() -> Any:
    """Return obstore, which is an extra.

    Raises
    ------
    StoreError
        If it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
    except ImportError:
        msg = "images and runs at an address take obstore, which is not installed. Run: pip install 'overcluster[stores]'"
        raise StoreError(msg) from None
    return obstore


def client(root: str) -> Any:
    """Return the client for a bucket, container or host; credentials are as it finds them.

    Parameters
    ----------
    root : str
        Of an `Address`.

    Returns
    -------
    obstore.store.ObjectStore
        One a process, until the variables of the stores in the environment change.

    Raises
    ------
    StoreError
        If obstore cannot use the address or the environment.
    """
    return _client(root, tuple(item for item in os.environ.items() if item[0].startswith(NAMED)))


@lru_cache(maxsize=16)
def _client(root: str, environment: tuple[tuple[str, str], ...]) -> Any:
    """Open a client; another environment makes it another entry of the cache."""
    del environment
    raised = library().exceptions
    from obstore.store import HTTPStore, from_url

    options: dict[str, Any] = {**CLIENT}
    more = _aws() if root.startswith("s3:") else {}
    # Said by whoever gave the address, or the server of it.
    if more.get("endpoint", root).startswith("http://"):
        options["allow_http"] = True
    opener: Any = HTTPStore.from_url if root.startswith(WEB) else from_url
    try:
        return opener(root, client_options=options, retry_config=RETRIES, **more)
    except (raised.BaseError, ValueError, TypeError) as err:
        msg = f"{root} must be an address that obstore can open; it cannot ({first_line(err)}). Check the address and the store's variables in the environment."
        raise StoreError(msg) from None


def _aws() -> dict[str, Any]:
    """Return how S3 is asked: with the credentials of boto3, which knows profiles; without any where it finds none."""
    server = s3_server()
    said = {} if server is None else {"endpoint": server}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        # Then they are those that obstore finds.
        return said
    session = boto3.Session()
    if "AWS_SKIP_SIGNATURE" in os.environ or session.get_credentials() is None:
        return {**said, "skip_signature": True}
    return {**said, "credential_provider": Boto3CredentialProvider(session)}


def s3_server() -> str | None:
    """Return the server that speaks S3 where it is not AWS's."""
    known = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    return next(filter(None, known), None)
