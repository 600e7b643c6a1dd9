"""RunStore: create, open, lock, record steps, replace results in one move."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import StoreError
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import crc_of_file, discard, disk_errors, locked, sweep
from workflow.runstore.journal import Journal
from workflow.runstore.kept import keep
from workflow.runstore.manifest import Manifest, StepRecord
from workflow.runstore.staging import StagedArrays, metadata_files, stage_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from workflow.runstore.kept.folder import Kept


class RunStore:
    """One run on disk.

    Parameters
    ----------
    path : Path
        The run folder.
    manifest : Manifest
        Its record.
    kept : Kept, optional
        The address that it is kept at, where the run folder is only worked in.
    rows : bool
        Whether values of images are fetched from there.
    """

    def __init__(
        self, path: Path, manifest: Manifest, kept: Kept | None = None, *, rows: bool = True
    ) -> None:
        self.path, self.manifest = path, manifest
        self.kept, self.rows = kept, rows

    @classmethod
    def create(cls, path: Path | str) -> RunStore:
        """Open a run folder, making it where there is none.

        Parameters
        ----------
        path : path
            The run folder, or its address: new, empty, or one that was begun.

        Returns
        -------
        RunStore
            The run.

        Raises
        ------
        StoreError
            If the path is a file, cannot be written, or is a folder of
            something else.
        """
        kept = keep("`--out`", path)
        run = Path(path).absolute() if kept is None else kept.pulled()
        if run.exists() and not run.is_dir():
            msg = f"`--out` must be a folder or a new path; {run} is a file. Give another path."
            raise StoreError(msg)
        if (run / layout.MANIFEST).is_file():
            return cls.open(run)
        if kept is not None:
            kept.begin()
        try:
            run.mkdir(parents=True, exist_ok=True)
            foreign = [p.name for p in run.iterdir() if p.name not in (layout.LOCK, layout.WIP)]
            if not foreign:
                Manifest().save(run)
        except OSError as err:
            msg = f"`--out` must be a folder that can be written; {run} cannot ({err.strerror}). Give another path."
            raise StoreError(msg) from None
        if foreign:
            msg = f"`--out` must be new, empty or a run folder; {run} holds {min(foreign)} and no {layout.MANIFEST}. Give another path."
            raise StoreError(msg)
        return cls.open(run)

    @classmethod
    def open(cls, path: Path | str, *, rows: bool = True) -> RunStore:
        """Open a run folder that exists, and finish a replacement that was cut short.

        Parameters
        ----------
        path : path
            The run folder, or its address.
        rows : bool
            Whether values of images must be there, which are fetched from an address.

        Returns
        -------
        RunStore
            The run.

        Raises
        ------
        StoreError
            If there is no run folder, or its manifest is damaged.
        """
        kept = keep("RUN", path)
        run = Path(path).absolute() if kept is None else kept.pulled(path, rows=rows)
        if not (run / layout.MANIFEST).is_file():
            told = run if kept is None else kept.address
            msg = f"RUN must be a run folder; {told} has no {layout.MANIFEST}. Make one with `run IMAGES --out {path if kept is None else told}`."
            raise StoreError(msg)
        store = cls(run, Manifest.load(run), kept, rows=rows)
        if store.manifest.moves:
            store._require_own_moves()
            # Whoever holds the lock does the moves itself; who may not write leaves them.
            with contextlib.suppress(StoreError), store.lock():
                pass
        return store

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run folder against a second writer.

        Raises
        ------
        StoreError
            If another process holds it; or if, whatever is done while it is
            held, the disk takes no more.
        """
        with disk_errors(self.path), self._locked():
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock."""
        with locked(self.path / layout.LOCK) as file:
            file.truncate(0)
            # The lock holds without its holder's name, for which a full disk has no room.
            with contextlib.suppress(OSError):
                file.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
            kept = self.kept
            try:
                with contextlib.nullcontext() if kept is None else kept.writing(rows=self.rows):
                    # Another process may have changed it since it was read.
                    self.manifest = Manifest.load(self.path)
                    if self.manifest.moves:
                        self._finish_moves()
                    yield
            finally:
                file.truncate(0)

    def step(self, name: str) -> StepRecord:
        """Return the record of a step; that of a step which the run does not have says absent.

        Parameters
        ----------
        name : str
            Name of the step.

        Returns
        -------
        StepRecord
            Part of the manifest: what is changed in it is saved with the manifest.
        """
        return self.manifest.steps.setdefault(name, StepRecord())

    def save(self) -> None:
        """Save the manifest."""
        self.manifest.save(self.path)
        self._push_if_due()

    def _push_if_due(self, *, step_is_done: bool = False) -> None:
        """Bring a run that is kept at an address there, now and then."""
        if self.kept is not None:
            self.kept.push_if_due(step_is_done=step_is_done)

    def begin(
        self,
        name: str,
        key: str,
        settings: Mapping[str, Any],
        reads: Mapping[str, str],
        dependents: Sequence[str],
    ) -> None:
        """Record that a step starts, or goes on where `key` is that of its last start.

        Parameters
        ----------
        name, key : str
            The step, and the digest of all that it depends on.
        settings : mapping
            The settings that it depends on.
        reads : mapping of str to str
            The steps whose results it reads -> their keys.
        dependents : sequence of str
            The steps that read its result, directly or not.
        """
        record = self.step(name)
        if record.key != key or record.state != "partial":
            self.manifest.steps[name] = record = StepRecord()
            # What was noted for a result that is made anew is void.
            for journal in layout.step_folder(self.path, name).glob("*.jsonl"):
                if Journal.key_of(journal) == key:
                    journal.unlink()
        record.state = "partial"
        record.key = key
        record.settings, record.reads = dict(settings), dict(reads)
        for later in dependents:
            # Made from a result that is about to be replaced: a kill must not let it pass for new.
            if self.step(later).state == "complete":
                self.step(later).state = "absent"
        self.save()

    def finish(self, name: str, results: Sequence[Path] = ()) -> None:
        """Record that a step is complete, and what its small files are.

        Parameters
        ----------
        name : str
            The step.
        results : sequence of Path
            Zarr groups that it wrote outside its folder and the model.
        """
        for place in (layout.step_folder(self.path, name), *results):
            sweep(place)
        self._seal(name, results)
        self.step(name).state = "complete"
        self.save()
        self._push_if_due(step_is_done=True)

    def _seal(self, name: str, results: Sequence[Path]) -> None:
        """Note the checksums of a step's journals, states and metadata: no task reports those."""
        folder = layout.step_folder(self.path, name)
        sealed = [*folder.glob("*.jsonl"), *folder.glob("*.npz")]
        for group in [*folder.glob("*.zarr"), *results]:
            sealed += metadata_files(group)
        checksums = self.step(name).checksums
        checksums |= {str(p.relative_to(self.path)): crc_of_file(p) for p in sorted(sealed)}

    def folder(self, name: str) -> Path:
        """Return the folder of a step's working files, made where it is missing.

        Parameters
        ----------
        name : str
            Name of the step.

        Returns
        -------
        Path
            The folder.
        """
        folder = layout.step_folder(self.path, name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def journal(
        self, name: str, part: str, key: str | None = None, needs: Sequence[Path] = ()
    ) -> Journal:
        """Return the journal of a part of a step; void unless made with the same key.

        Also void where one of the places that it tells of, `needs`, is gone.

        Parameters
        ----------
        name, part : str
            Name of the step, and of one of its passes.
        key : str, optional
            What the results depend on; the key of the step by default.
        needs : sequence of Path
            Places without which the results are gone.

        Returns
        -------
        Journal
            Empty, where it was void.
        """
        path = self.folder(name) / f"{part}.jsonl"
        if not all(place.exists() for place in needs):
            path.unlink(missing_ok=True)
        return Journal(path, key or self.step(name).key, self._push_if_due)

    def noted(self, name: str, part: str) -> Mapping[int, dict[str, Any]]:
        """Return what the journal of a part of a step holds, and leave it as it is.

        Parameters
        ----------
        name, part : str
            Name of the step, and of one of its passes.

        Returns
        -------
        mapping of int to dict
            Task -> its report; empty where the journal is of other settings.
        """
        key, entries = Journal.read(layout.step_folder(self.path, name) / f"{part}.jsonl")
        return entries if key == self.step(name).key else {}

    def wip(self, name: str) -> Path:
        """Return a fresh place for a result that is not yet real.

        Parameters
        ----------
        name : str
            Name of the place in ``wip/``.

        Returns
        -------
        Path
            Not there yet; its parent is.
        """
        place = self.path / layout.WIP / name
        discard(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    @property
    def model(self) -> Path:
        """The Zarr group of all that a run has learned."""
        return self.path / layout.MODEL

    def write_model(
        self,
        step: str,
        arrays: Mapping[str, tuple[NDArray[Any], Sequence[str]]],
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a step's arrays into ``model.zarr``, all of them or none, and note their checksums.

        Parameters
        ----------
        step : str
            The step that the arrays belong to.
        arrays : mapping of str to (ndarray, sequence of str)
            Name -> values, and the names of the dimensions.
        attrs : mapping, optional
            What is written beside them: JSON-able.
        """
        place = self.wip(f"model-{step}")
        self.replace(self.stage_model(step, arrays, attrs, place))
        discard(place)

    def stage_model(
        self,
        step: str,
        arrays: Mapping[str, tuple[NDArray[Any], Sequence[str]]],
        attrs: Mapping[str, Any] | None,
        place: Path,
    ) -> list[tuple[Path, Path]]:
        """Write a step's arrays at `place`; return the moves that make them real.

        Parameters
        ----------
        step : str
            The step that the arrays belong to.
        arrays, attrs : mapping
            As `write_model` takes them.
        place : Path
            A folder that is not part of the model.

        Returns
        -------
        list of (Path, Path)
            From where to where, for `replace`.
        """
        return self.adopt_model(step, stage_arrays(place, arrays), attrs)

    def adopt_model(
        self, step: str, staged: StagedArrays, attrs: Mapping[str, Any] | None
    ) -> list[tuple[Path, Path]]:
        """Note the checksums of a step's arrays that lie ready; return the moves that make them real.

        Parameters
        ----------
        step : str
            The step that the arrays belong to.
        staged : StagedArrays
            Arrays that lie ready, written by this process or by a task.
        attrs : mapping or None
            What is written beside them: JSON-able.

        Returns
        -------
        list of (Path, Path)
            From where to where, for `replace`.
        """
        group, record = staged.group, self.step(step)
        known = zarr_io.read_attrs(self.model) if self.model.exists() else {}
        zarr_io.write_attrs(group, known | ({step: dict(attrs)} if attrs else {}))
        record.checksums |= {f"{layout.MODEL}/{n}": crc for n, crc in staged.checksums.items()}
        metadata = f"{layout.MODEL}/{zarr_io.GROUP_METADATA}"
        for other in self.manifest.steps.values():
            other.checksums.pop(metadata, None)
        record.checksums[metadata] = crc_of_file(group / zarr_io.GROUP_METADATA)
        names = [*staged.names, zarr_io.GROUP_METADATA]
        return [(group / name, self.model / name) for name in names]

    def read_model(self, *names: str) -> list[NDArray[Any]]:
        """Return arrays of ``model.zarr``.

        Parameters
        ----------
        *names : str
            Names of arrays.

        Returns
        -------
        list of ndarray
            In the order of the names.

        Raises
        ------
        StoreError
            If one is missing or damaged.
        """
        return [zarr_io.read_array(self.model, name) for name in names]

    def model_attrs(self, step: str) -> dict[str, Any]:
        """Return what a step wrote beside its arrays.

        Parameters
        ----------
        step : str
            Name of the step.

        Returns
        -------
        dict
            Empty where it wrote nothing.
        """
        attrs: dict[str, Any] = zarr_io.read_attrs(self.model).get(step, {})
        return attrs

    def replace(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Put finished results in place of the old ones: all of them, also after a kill in between.

        The moves are recorded together with whatever else changed in the
        manifest, then done; whoever opens the run next finishes them.

        Parameters
        ----------
        moves : sequence of (Path, Path)
            From where to where, inside the run folder.
        """
        root = self.path
        self._note_moved(moves)
        self.manifest.moves = [
            [source.relative_to(root).as_posix(), target.relative_to(root).as_posix()]
            for source, target in moves
        ]
        self.save()
        self._finish_moves()

    def _note_moved(self, moves: Sequence[tuple[Path, Path]]) -> None:
        """Give files whose checksums are noted the checksums of those that take their place."""
        noted = [(r.checksums, name) for r in self.manifest.steps.values() for name in r.checksums]
        named = [(source, target.relative_to(self.path).as_posix()) for source, target in moves]
        # Names are compared as text: paths of all of them took longer than all else of a small update.
        for (checksums, name), (source, target) in itertools.product(noted, named):
            if name == target or name.startswith(f"{target}/"):
                new = source / name[len(target) + 1 :]
                if new.is_file():
                    checksums[name] = crc_of_file(new)
                elif not new.exists():
                    del checksums[name]

    def _finish_moves(self) -> None:
        """Do the recorded moves that have not been done."""
        self._require_own_moves()
        for source_name, target_name in self.manifest.moves:
            source, target = self.path / source_name, self.path / target_name
            if source.exists():
                discard(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
        self.manifest.moves = []
        self.save()

    def _require_own_moves(self) -> None:
        """Refuse moves that leave the run folder: a stranger's manifest must not delete files."""
        root = self.path.resolve()
        for name in itertools.chain.from_iterable(self.manifest.moves):
            place = self.path / name
            if ".." in place.parts or not place.parent.resolve().is_relative_to(root):
                msg = f"{self.path / layout.MANIFEST} must move files inside the run only; it names {name}. Do not use this folder."
                raise StoreError(msg)
