"""The run's JSON record: format version, configuration, seed, versions, state and seconds of each step."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflow.errors import StoreError
from workflow.runstore import layout
from workflow.runstore.files import crc_of_json, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Keys with a list of records.
LISTS = ("updates", "forgotten", "names", "history", "lineage")
#: Names that runs of earlier versions bear -> present ones: of settings, of what steps found, of a cut.
RENAMED = {
    "overcluster.max_rounds": "overcluster.max_iter",
    "n_rounds": "n_iter",
    "n_centroids_asked": "n_centroids_requested",
    "tree_opinions": "n_clusters_by_method",
    "ladder": "n_clusters_by_threshold",
    "asked": "requested",
}


@dataclass
class StepRecord:
    """What the manifest knows of one step.

    Attributes
    ----------
    state : str
        ``absent``, ``partial`` or ``complete``; staleness is a comparison, not
        a state.
    key : str
        Digest of the settings and of the steps before, at the last start.
    settings : dict
        The settings that the step depends on.
    reads : dict of str to str
        The steps whose results it was made from -> their keys.
    seconds : float
        Time spent, over all starts [s].
    counters : dict of str to int
        Rows, bytes read, bytes written, peak resident bytes.
    checksums : dict of str to int
        crc32c of each array or file the step leaves.
    details : dict
        What the step found: numbers and short texts.
    """

    state: str = "absent"
    key: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Manifest:
    """The whole record; saved in one move whenever it changes.

    Steps that the run was made without have no record, and are absent.  Records of steps that this
    version does not know are kept.
    """

    config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    start_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    cut: dict[str, Any] = field(default_factory=dict)
    names: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    lineage: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    forgotten: list[dict[str, Any]] = field(default_factory=list)
    n_family_ids: int = 0
    moves: list[list[str]] = field(default_factory=list)
    steps: dict[str, StepRecord] = field(default_factory=dict)

    def save(self, run: Path) -> None:
        """Write ``manifest.json`` in one move."""
        content = {"format_version": layout.FORMAT_VERSION, **vars(self)}
        content["steps"] = {name: vars(record) for name, record in self.steps.items()}
        write_json(run / layout.MANIFEST, {**content, "checksum": crc_of_json(content)})

    @classmethod
    def load(cls, run: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises
        ------
        StoreError
            If it is missing, damaged or of another format version.
        """
        content = read_json(run / layout.MANIFEST)
        # A manifest of an older version has no checksum.
        checksum = content.pop("checksum", None) if isinstance(content, dict) else None
        is_as_written = checksum is None or checksum == crc_of_json(content)
        found = content.pop("format_version", None) if isinstance(content, dict) else None
        if found != layout.FORMAT_VERSION:
            msg = f"{run / layout.MANIFEST} must have format version {layout.FORMAT_VERSION}; got {found}. Use the version of overcluster that made it, or another run folder."
            raise StoreError(msg)
        if not is_as_written:
            msg = f"{run / layout.MANIFEST} must be as it was written; it is damaged (its checksum differs). Restore it, or give another run folder."
            raise StoreError(msg)
        try:
            steps = {
                name: StepRecord(**_with_present_names(record, "settings", "details"))
                for name, record in content.pop("steps").items()
            }
            found = cls(**_with_present_names(content, "config", "cut"), steps=steps)
            _require_sound(found)
        except (TypeError, KeyError, AttributeError, ValueError) as err:
            msg = f"{run / layout.MANIFEST} must hold what a run records; it is damaged ({err}). Restore it, or give another run folder."
            raise StoreError(msg) from None
        return found


def present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an earlier version may have written, with the present names."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def _with_present_names(content: dict[str, Any], *parts: str) -> dict[str, Any]:
    """Return a record with the present names in some parts of it."""
    return content | {part: present_names(content[part]) for part in parts if part in content}


def _require_sound(manifest: Manifest) -> None:
    """Refuse what no run records; a stranger may have written it."""
    kinds: dict[str, type] = {"config": dict, "versions": dict, "images": dict, "cut": dict}
    kinds |= dict.fromkeys(LISTS, list)
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(manifest, name), kind)]
    for name in LISTS:
        items: list[Any] = list(getattr(manifest, name))
        wrong += [name for item in items if not isinstance(item, dict)]
    pairs: list[Any] = list(manifest.moves)
    wrong += ["moves" for move in pairs if [type(part) for part in move] != [str, str]]
    if wrong:
        msg = f"`{wrong[0]}` is of another kind"
        raise ValueError(msg)


def digest(content: Mapping[str, Any]) -> str:
    """Return a short hex digest of JSON-able content."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
