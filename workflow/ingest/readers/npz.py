"""Images in a .npz archive."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.errors import ImagesError
from workflow.ingest.readers.raw import RawSource
from workflow.ingest.source import file_identity
from workflow.runstore import paths, zarr_io
from workflow.runstore.files import DAMAGED, DISK_REFUSES, find_member
from workflow.runstore.journal import Journal
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Reading, Source
    from workflow.mapper import PartitionRunner

#: Names that are taken for images, the first one first.
NAMES = ("images", "vectors")
#: Bytes copied at a time.
COPY_BYTES = 1 << 22


@dataclass(frozen=True)
class NpzSource(RawSource):
    """One array of an archive.

    Values that are stored plain are read where they lie, after one reading
    has compared them with the archive's checksum.  Compressed ones can only
    be read from the start, so one task unpacks them to a .npy file.
    """

    key: str = ""
    is_packed: bool = False

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and the array's name."""
        known = {"kind": "npz", "array": self.key}
        return {**known, **self.shape_and_type(), **file_identity(self.path)}

    def prepare(self, folder: Path, runner: PartitionRunner) -> Source:
        """Compare the archive's checksum, and unpack the array where it is compressed."""
        journal = Journal(folder / "unpacked.jsonl", self.key)
        unpacked = folder / "unpacked.npy"
        runner.run(
            "ingest: unpack",
            self._unpack,
            {0: unpacked},
            journal=journal,
            n_rows=lambda _: self.n_samples,
        )
        return zarr_io.open_images(unpacked) if self.is_packed else self

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows.

        Raises
        ------
        ImagesError
            If the file ends before them, or they have to be unpacked first.
        """
        if self.is_packed:
            msg = f"{self.path} must be unpacked before it is read by ranges; its array {self.key} is compressed. Ingest it."
            raise ImagesError(msg)
        return super().read(start, stop)

    def _unpack(self, target: Path) -> dict[str, Any]:
        """Read the array once: to a file where it is compressed, else for its checksum."""
        try:
            with (
                paths.open_file(self.path) as file,
                zipfile.ZipFile(file) as archive,
                archive.open(f"{self.key}.npy") as member,
            ):
                if self.is_packed:
                    with target.open("wb") as unpacked:
                        shutil.copyfileobj(member, unpacked, COPY_BYTES)
                else:
                    while member.read(COPY_BYTES):
                        pass
        except DAMAGED as err:
            if getattr(err, "errno", None) in DISK_REFUSES:
                raise
            raise _damaged(self.path, err) from None
        return {}


def open_npz(path: Path, name: str | None, how: Reading) -> NpzSource:
    """Open an array: `name`, else ``images`` or ``vectors``; only headers are read.

    Raises
    ------
    ImagesError
        If the archive is damaged or holds no such array, or one that cannot
        be images.
    """
    del how
    try:
        with paths.open_file(path) as file, zipfile.ZipFile(file) as archive:
            held = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            wanted = name or next((n for n in NAMES if n in held), None)
            if wanted not in held:
                required = f"`{name}`" if name else " or ".join(f"`{n}`" for n in NAMES)
                msg = f"{path} must hold the array {required}; it holds {', '.join(held) or 'no arrays'}. Give PATH::NAME."
                raise ImagesError(msg)
            member = find_member(archive, wanted)
    except ImagesError:
        raise
    except DAMAGED as err:
        raise _damaged(path, err) from None
    zarr_io.check_images(f"{path}::{wanted}", member.shape, member.dtype)
    return NpzSource(
        n_samples=member.shape[0],
        image_shape=member.shape[1:],
        dtype=member.dtype.newbyteorder("="),
        path=path,
        stored_dtype=member.dtype,
        first_byte=member.first_byte or 0,
        key=wanted,
        is_packed=member.fortran_order or member.first_byte is None,
    )


def _damaged(path: Path, err: Exception) -> ImagesError:
    """Return the error for an archive that cannot be read."""
    text = first_line(err)
    msg = (
        f"{path} must be a whole .npz archive; it cannot be read ({text}). Copy or write it again."
    )
    return ImagesError(msg)
