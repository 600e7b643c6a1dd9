"""Where results for other programs go: a new path, which is there once all is written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from workflow.errors import ConfigError, StoreError
from workflow.runstore.files import discard, refused, write_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def new_place(path: Path | str, option: str, endings: Collection[str] = ()) -> Path:
    """Return where to write: a path with one of some endings that nothing has yet.

    Raises
    ------
    ConfigError
        If it has another ending, or is there.
    """
    place = Path(path).absolute()
    if endings and place.suffix.lower() not in endings:
        msg = f"`{option}` must end in {' or '.join(endings)}; got {place.name}. Give another name."
        raise ConfigError(msg)
    if place.exists() or place.is_symlink():
        msg = f"`{option}` must be a new path; {place} is there. Give another one, or remove it first."
        raise ConfigError(msg)
    return place


@contextlib.contextmanager
def replaced_when_whole(target: Path) -> Iterator[Path]:
    """Give a place beside the target to write to, which is moved there at the end, or removed after an error.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    # Each process its own: two may be told the same target.
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    with write_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(target)
    except StoreError:
        raise
    except OSError as err:
        raise refused(target, err) from err
    finally:
        discard(partial)
