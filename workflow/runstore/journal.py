"""Journals: files in which finished partitions are recorded; they survive a kill."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from workflow.runstore.files import crc_of_json, write_bytes, write_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Name of the checksum of a line.
LINE_CRC = "line_crc"


class Journal:
    """What finished partitions reported, one line each, appended by the client.

    After a kill the last line may be cut.  It is ignored, as is a line whose
    checksum shows an altered byte: those partitions are computed again.  The
    first line is a key: a journal made with another key is void.

    Parameters
    ----------
    path : Path
        The file; made where it is missing or void.
    key : str
        What the entries depend on, usually a digest of settings.
    extended : callable, optional
        Called whenever entries have been added.

    Attributes
    ----------
    path : Path
        The file.
    entries : dict of int to dict
        Index of a partition -> what it reported, as JSON gives it back.
    """

    def __init__(self, path: Path, key: str, extended: Callable[[], None] | None = None) -> None:
        self.path, self._extended = path, extended
        self.entries: dict[int, dict[str, Any]]
        found, self.entries = Journal.read(path)
        if found is None or found != key:
            self.entries = {}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _line({"key": key}))
            return
        # A cut last line would swallow the next one: end it.
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_ended = file.read() == b"\n"
        if not is_ended:
            with write_errors(path), path.open("ab") as file:
                file.write(b"\n")

    @staticmethod
    def read(path: Path) -> tuple[str | None, dict[int, dict[str, Any]]]:
        """Return the key and the entries of a journal without changing the file.

        Parameters
        ----------
        path : Path
            The file; may be missing.

        Returns
        -------
        key : str or None
            None where there is no journal, or its first line is cut.
        entries : dict of int to dict
            Of several lines with the same index the last one counts.
        """
        key, entries = None, {}
        if path.is_file():
            with path.open("rb") as file:
                key = (_parsed(file.readline()) or {}).get("key")
                for line in file:
                    record = _parsed(line) or {}
                    if "index" in record:
                        entries[record["index"]] = record
        return key, entries

    @staticmethod
    def key_of(path: Path) -> str | None:
        """Return the key of a journal that exists; None where its first line is cut."""
        with path.open("rb") as file:
            return (_parsed(file.readline()) or {}).get("key")

    @classmethod
    def reopen(cls, path: Path) -> Journal:
        """Open a journal that exists, whatever its key."""
        return cls(path, str(cls.key_of(path)))

    def extend(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Append reports of partitions, with one wait for the disk.

        Parameters
        ----------
        records : mapping of int to mapping
            Index of a partition -> JSON-able report.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        lines = {index: _line({"index": index, **record}) for index, record in records.items()}
        with write_errors(self.path), self.path.open("ab") as file:
            file.write(b"".join(lines.values()))
            file.flush()
            os.fsync(file.fileno())
        # As they would be read, so that a resumed run computes with the same values.
        self.entries |= {index: _parsed(line) or {} for index, line in lines.items()}
        if self._extended is not None:
            self._extended()

    def append(self, index: int, record: Mapping[str, Any]) -> None:
        """Append the report of one partition; see `extend`."""
        self.extend({index: record})


def _line(record: Mapping[str, Any]) -> bytes:
    """Return the line of a record, its checksum last."""
    return (json.dumps({**record, LINE_CRC: crc_of_json(record)}) + "\n").encode()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, None where the line is cut or altered."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    # A line of an older version has no checksum.
    checksum = record.pop(LINE_CRC, None)
    return record if checksum is None or checksum == crc_of_json(record) else None
