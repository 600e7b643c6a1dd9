"""Kinds of values that settings take, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from dask.utils import parse_bytes
from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """A group of settings: frozen, strict about names, documented by the string under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _shape(value: Any) -> Any:
    """Read ``"16,16,3"`` as a tuple of integers."""
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(","))
    return value


def _file_path(value: Any) -> Any:
    """Make a path absolute: a run may be gone on with from another folder."""
    return str(Path(value).absolute()) if isinstance(value, str | Path) and str(value) else value


def _memory(value: Any) -> Any:
    """Read ``"4 GiB"`` as bytes; leave ``"auto"`` and numbers alone."""
    if value == "auto":
        return value
    n_bytes = parse_bytes(value) if isinstance(value, str) else value
    if isinstance(n_bytes, bool) or not isinstance(n_bytes, int) or n_bytes < 1:
        msg = "must be auto or a positive amount of memory such as 4 GiB"
        raise ValueError(msg)
    return n_bytes


def _components(value: Any) -> Any:
    """Refuse numbers that are neither a count nor a share, in one sentence."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and (0 < value < 1 or (value >= 1 and value == int(value)))):
        return int(value) if is_number and value >= 1 else value
    msg = "must be a whole number of components, a share of the variance between 0 and 1, or auto"
    raise ValueError(msg)


def _auto_or_whole(value: Any) -> Any:
    """Refuse what is neither ``"auto"`` nor a positive whole number, in one sentence."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and value >= 1 and value == int(value)):
        return int(value) if is_number else value
    msg = "must be a whole number of at least 1, or auto"
    raise ValueError(msg)


def _score_or_off(value: Any) -> Any:
    """Refuse what is neither ``"off"`` nor a score in its range, in one sentence."""
    # YAML reads a bare off as false.
    if value is False or value == "off":
        return "off"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0.5 <= value < 1:
        return float(value)
    msg = "must be a number from 0.5 to below 1, or off"
    raise ValueError(msg)


AutoInt = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_whole)]
FilePath = Annotated[str | None, BeforeValidator(_file_path)]
Memory = Annotated[int | Literal["auto"], BeforeValidator(_memory)]
Shape = Annotated[tuple[int, ...] | None, BeforeValidator(_shape)]
Components = Annotated[int | float | Literal["auto"], BeforeValidator(_components)]
ScoreOrOff = Annotated[float | Literal["off"], BeforeValidator(_score_or_off)]
