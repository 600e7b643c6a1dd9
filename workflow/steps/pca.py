"""pca: moments, hashes and statistics of all images in one pass over the pixels, and their principal components."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from workflow.config.fields import Components, Section
from workflow.engine.partitions import flat_checksums, n_rows, part_path
from workflow.engine.plan import TaskPlan
from workflow.engine.segments import added, stored_blocks
from workflow.engine.step import Step
from workflow.engine.verify import (
    block_checksums,
    check_named,
    check_parts,
    check_rows,
)
from workflow.errors import ConfigError, NonFiniteError, SpreadError, value_place
from workflow.formatting import format_count
from workflow.pca import (
    AUTO_MAX_COMPONENTS,
    DEFAULT_RANK,
    about_zero,
    block_moments,
    choose_kind,
    feature_shift,
    merge_moments,
    moments_from_arrays,
    moments_to_arrays,
    principal_components,
    product_kernel,
)
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.journal import Journal
from workflow.runstore.manifest import digest
from workflow.schema import ArraySpec
from workflow.steps.base import (
    described,
    numbered_dims,
    part_files,
    prefixed,
    read_ahead,
    read_prefixed,
)
from workflow.steps.parts.duplicates import GROUPING_BYTES, CountExact, stored_hashes
from workflow.steps.parts.features import Features
from workflow.steps.parts.notes import HASH_BYTES, STATISTICS_BYTES, notes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.executor import Executor
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.mapper import Mapper, Rows
    from workflow.pca import MomentState, PrincipalComponents
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.steps.base import ModelArrays, PartFile
    from workflow.steps.parts.duplicates import ExactCounts
    from workflow.steps.parts.notes import Note, NoteWriter

#: Standard deviations whose squares stay well inside float32.
MIN_SPREAD, MAX_SPREAD = 1e-12, 1e12
#: Rows that the shift of integer moments is chosen by, which only decides how fast they are summed.
SHIFT_ROWS = 1_024
#: Rows of a tile in the inner loops.
TILE_ROWS = 4_096
#: What to change where so much memory is not there.
ADVICE = {"moments": "Lower pca.max_full_features"}
#: Names of the moments in ``model.zarr`` start so; some fields have another name there.
MOMENTS_PREFIX = "moments_"
STORED_MOMENTS = {"n_samples": "count", "total": "sum"}
#: Arrays of ``model.zarr``.
ARRAYS = {
    "mean": ArraySpec(("feature",), "float64", "pixel value", "mean of each feature"),
    "components": ArraySpec(
        ("component", "feature"), "float64", "1", "principal components, signs fixed"
    ),
    "explained_variance": ArraySpec(
        ("component",), "float64", "pixel value squared", "variance of the scores"
    ),
    "explained_variance_ratio": ArraySpec(("component",), "float64", "1", "its share of the total"),
    "singular_values": ArraySpec(("component",), "float64", "pixel value", "singular values"),
    "spectrum": ArraySpec(
        ("eigenvalue",), "float64", "pixel value squared", "all eigenvalues that are known, falling"
    ),
}


class PcaSettings(Section):
    """Principal components of the images."""

    n_components: Components = "auto"
    """A count, a share of the variance between 0 and 1, or auto: 99 % of the variance, at most 50."""
    whiten: bool = False
    """Whether scores are divided by their standard deviation (amplifies noise)."""
    normalize: bool = False
    """Whether images are divided by their lengths first, so that distances are those of the cosine; images of zeros stay zeros."""
    max_full_features: int = Field(default=4096, ge=1, le=32_768)
    """Most features for which the full second moments are kept; wider images use low-rank states."""

    @property
    def features(self) -> Features:
        """What the rows are."""
        return Features(self.normalize)


class PcaStep(Step):
    """Sum the moments of all images, note hash and statistics of each, and find their principal components."""

    name = "pca"
    section = PcaSettings
    settings = ("profile", "pca.n_components", "pca.max_full_features", "pca.normalize")
    later_settings: ClassVar = {"pca.normalize": False}
    reads = ("ingest",)
    arrays = ARRAYS
    reads_images_first = True

    def run(self, context: Context) -> None:
        """Find the principal components; the pixels are read once."""
        store = context.store
        settings = context.config.section(PcaSettings)
        wanted, rows = settings.n_components, settings.features.reading(context.images)
        details: dict[str, Any] = {"normalize": True} if settings.normalize else {}
        if context.config.profile == "reference":
            # Slow to import, and rarely wanted.
            from workflow.steps import reference

            context.executor.ignore_warning(reference.HARMLESS_WARNING)
            with context.executor.as_dask_scheduler():
                found = reference.components(rows, context.block_rows, wanted)
        else:
            state, found = checked_components(
                context.executor,
                rows,
                context.images.image_shape,
                context.partitions,
                partial(_moments, context),
                wanted,
            )
            entries = _moments_journal(context).entries.values()
            # Workers may be of several kinds; versions before did not note it.
            details["kernel"] = "; ".join(sorted({e.get("kernel", "not noted") for e in entries}))
            if settings.normalize:
                details["n_zero"] = sum(entry["n_zero"] for entry in entries)
            details |= _count_duplicates(context)._asdict()
            store.write_model(self.name, moments_model(state))
        store.write_model(self.name, components_model(found), components_attrs(found))
        store.step(self.name).details = components_details(found) | details

    def outputs(self, run: Path) -> list[Path]:
        """Return the components."""
        return [layout.model_array(run, "zarr.json"), layout.model_array(run, "components")]

    def more_key(self, store: RunStore) -> Mapping[str, Any]:
        """Return the images that `update` of earlier versions has merged."""
        return {"updates": [update["digest"] for update in _without_labels(store)]}

    def check(self, sizes: Sizes) -> None:
        """Refuse more components than there can be."""
        wanted = sizes.config.section(PcaSettings).n_components
        limit = min(sizes.n_samples, sizes.n_features)
        if wanted != "auto" and wanted > limit:
            msg = f"`pca.n_components` must be at most {limit}, the smaller of {sizes.n_samples} images and {sizes.n_features} features; got {wanted}. Lower it, or leave it auto."
            raise ConfigError(msg)

    def dims(self, sizes: Sizes) -> Mapping[str, int]:
        """Return the components that there are at most."""
        wanted = sizes.config.section(PcaSettings).n_components
        limit = min(sizes.n_samples, sizes.n_features)
        if wanted == "auto":
            return {"component": min(limit, AUTO_MAX_COMPONENTS)}
        return {"component": limit if wanted < 1 else int(wanted)}

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the pass over the pixels."""
        moments = 8 * sizes.n_features * _rank(sizes)
        features = sizes.config.section(PcaSettings).features
        noted = (HASH_BYTES + STATISTICS_BYTES) * sizes.block_rows
        parts = {
            "block": sizes.block_bytes,
            "rows": features.n_bytes(sizes.block_rows, sizes.n_features),
            "tile": tile_bytes(sizes),
            "moments": 4 * moments,
            "notes": noted,
        }
        n, read = sizes.n_partitions, sizes.n_samples * sizes.image_bytes
        hashes = sizes.n_samples * HASH_BYTES
        # Statistics are those of pictures; whether images are pictures is not known here.
        statistics = sizes.n_samples * STATISTICS_BYTES
        left = n * (moments + 16 * sizes.n_features) + hashes + statistics
        return [
            TaskPlan(self.name, n, read, left, parts, ADVICE),
            TaskPlan("pca: duplicates", 1, hashes, 0, {"bucket": GROUPING_BYTES}),
        ]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with images and squared features; the eigenvectors take the rest."""
        d_in, rank = sizes.n_features, _rank(sizes)
        dtype = sizes.config.section(PcaSettings).features.dtype_of(sizes.dtype)
        # Products of bytes are made by instructions of their own.
        row = d_in * rank * (6e-12 if dtype.itemsize == 1 else 4e-11)
        return 0.03 + 4e-10 * d_in * rank**2 + sizes.rows_per_worker * (row + 6e-10 * d_in)

    def client_bytes(self, sizes: Sizes) -> int:
        """Return the merged moments, and what the eigenvalue solver takes."""
        return 5 * 8 * sizes.n_features * _rank(sizes)

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the files of the moments, and what is noted of each image."""
        yield from check_parts(store, "pca/moments", "pca/parts")
        for update in _without_labels(store):
            file = f"pca/{update['file']}"
            yield from check_named(store.path / file, file, update["file_crc"])
        if store.step(self.name).state == "complete":
            yield from _check_notes(store)

    def describe(self, store: RunStore) -> str:
        """Return how much the components keep."""
        found = store.step(self.name).details
        n = found["n_components"]
        keep = "1 component keeps" if n == 1 else f"{n:,} components keep"
        text = (
            f"{keep} {found['variance_kept']:.1%} of the variance of {found['n_samples']:,} images"
        )
        return text + describe_length(found)

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many components there are, what they keep, and images they have from `update`."""
        details = store.step(self.name).details
        found = {name: details[name] for name in ("n_components", "variance_kept")}
        return {**found, "n_samples_merged": n_merged(store)}


def describe_length(details: Mapping[str, Any]) -> str:
    """Return that images were divided by their lengths, and how many have none, to go on with."""
    if not details.get("normalize"):
        return ""
    n_zero = details.get("n_zero", 0)
    zeros = f", {format_count(n_zero, 'image')} of zeros left so" if n_zero else ""
    return f", each divided by its length{zeros}"


def _check_notes(store: RunStore) -> Iterator[str]:
    """Check what is noted of each image; a run of a version without it notes no checksum of any."""
    _, entries = Journal.read(store.path / "pca" / "moments.jsonl")
    for note in notes_of(store.path, store.manifest.images["shape"][1:]):
        if checksums := flat_checksums(entries, note.checksums):
            yield from check_rows(note.group, note.names, checksums, stored_blocks(store))


def _rank(sizes: Sizes) -> int:
    """Return the rows of the second moments that a task holds."""
    d_in = sizes.n_features
    return d_in if d_in <= sizes.config.section(PcaSettings).max_full_features else DEFAULT_RANK


def tile_bytes(sizes: Sizes) -> int:
    """Return the bytes of rows converted to floating point."""
    return min(sizes.block_rows, TILE_ROWS) * sizes.n_features * 8


@dataclass(frozen=True, slots=True)
class MomentsTask:
    """Moments of a partition, a checksum of each of its blocks, and what is noted of its images."""

    images: ImageStore
    kind: str
    rank: int
    folder: Path
    features: Features
    notes: tuple[Note, ...] = ()

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Read each block once; leave the merged state in the folder, and the notes in their groups."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(note.opened(partition.start)) for note in self.notes]
            return self._read(partition, opened)

    def _read(self, partition: Partition, opened: Sequence[NoteWriter]) -> dict[str, Any]:
        """Read each block once, and return the report."""
        state: MomentState | None = None
        shift: NDArray[Any] | None = None
        checksums, n_bytes, n_zero = [], 0, 0
        for rows, block in read_ahead(self.images, partition.blocks):
            checksums.append(zarr_io.crc(block))
            n_bytes += block.nbytes
            for writer in opened:
                writer.append(block)
            if shift is None and self.kind == "integer":
                shift = feature_shift(block[:SHIFT_ROWS])
            try:
                values = self.features.rows_of(block)
                part = block_moments(values, kind=self.kind, shift=shift, rank=self.rank)
            except NonFiniteError as err:
                raise err.moved(rows.start, self.images.image_shape) from None
            state = part if state is None else merge_moments(state, part)
            if self.features.normalize:
                n_zero += len(block) - int(np.count_nonzero(block.any(axis=1)))
        assert state is not None
        path = part_path(self.folder, partition.index)
        return {
            "crc": checksums,
            **{writer.note.checksums: writer.checksums for writer in opened},
            # Exact about any shift, so each task has its own; about zero they merge.
            "file_crc": write_arrays(path, moments_to_arrays(about_zero(state))),
            **({"n_zero": n_zero} if self.features.normalize else {}),
            "kernel": product_kernel(values.dtype) if self.kind == "integer" else "BLAS",
            "bytes_read": n_bytes,
            "bytes_written": sum(w.n_bytes for w in opened) + path.stat().st_size,
        }


def sum_moments(
    executor: Executor,
    images: ImageStore,
    partitions: Sequence[Partition],
    *,
    folder: Path,
    journal: Journal,
    settings: PcaSettings,
    notes: tuple[Note, ...] = (),
) -> tuple[MomentState, Mapping[int, dict[str, Any]]]:
    """Sum the moments of all images and take a checksum of each block.

    Parameters
    ----------
    executor : Executor
        Runs the tasks.
    images : ImageStore
        The images.
    partitions : sequence of Partition
        All of them.
    folder : Path
        Where tasks leave the moments of their partition.
    journal : Journal
        Where finished partitions are recorded.
    settings : PcaSettings
        What the rows are, and for how many features the full second moments are kept.
    notes : tuple of Note, optional
        What is noted of each image; nothing by default.

    Returns
    -------
    state : MomentState
        Moments of all images, merged in the order of the partitions; of
        integers about zero, so that they merge with any others.
    reports : mapping of int to dict
        What each task reported.
    """
    if not journal.entries:
        discard(folder)
        for note in notes:
            note.create(partitions)
    folder.mkdir(parents=True, exist_ok=True)
    features = settings.features
    kind = choose_kind(
        features.dtype_of(images.dtype),
        images.n_features,
        max_full_features=settings.max_full_features,
    )
    task = MomentsTask(images, kind, DEFAULT_RANK, folder, features, notes)
    items = {partition.index: partition for partition in partitions}
    reports = executor.run("pca", task, items, journal=journal, n_rows=n_rows)
    return merge_part_files(executor, folder, reports), reports


def merge_part_files(
    mapper: Mapper, folder: Path, reports: Mapping[int, Mapping[str, Any]]
) -> MomentState:
    """Merge what the tasks left, always the same neighbours; one state comes back."""
    merged: MomentState = mapper.reduce(
        partial(_read_part, folder), part_files(reports), merge_moments
    )
    return merged


def _read_part(folder: Path, part: PartFile) -> MomentState:
    """Read the moments of a partition; about zero already, unless version 0.1.0 left them."""
    return about_zero(moments_from_arrays(part.read(folder)))


def _moments(context: Context) -> MomentState:
    """Return the moments of all images; they outlive a changed number of components."""
    store, notes = context.store, notes_of(context.store.path, context.images.image_shape)
    settings = context.config.section(PcaSettings)
    if any(u.get("normalize", False) != settings.normalize for u in _without_labels(store)):
        msg = "`pca.normalize` must stay as it was when images were merged by `update`: their moments are of other rows. Set it back, or start a run in a new folder."
        raise ConfigError(msg)
    state, reports = sum_moments(
        context.executor,
        context.images,
        context.partitions,
        folder=store.folder("pca") / "parts",
        # A run of a version without notes gets them when its pass is asked for again.
        journal=_moments_journal(context, *(note.group for note in notes)),
        settings=settings,
        notes=notes,
    )
    context.count("pca", reports)
    try:
        return merged_with_unlabelled(store, state)
    except ValueError:
        msg = "`pca.max_full_features` must stay as it was when images were merged by `update`: moments of another kind cannot be merged. Set it back, or start a run in a new folder."
        raise ConfigError(msg) from None


def merged_with_unlabelled(store: RunStore, state: MomentState) -> MomentState:
    """Return moments with those of the images that `update` of earlier versions has merged, in the order in which they came."""
    updates = [
        moments_from_arrays(read_arrays(store.folder("pca") / u["file"], u["file_crc"]))
        for u in _without_labels(store)
    ]
    return functools.reduce(merge_moments, updates, state)


def _count_duplicates(context: Context) -> ExactCounts:
    """Count the equal images, on a worker."""
    hashes = stored_hashes(context.store)
    assert hashes is not None
    with context.executor.task_storage() as storage:
        (counts,) = context.executor.map(CountExact(hashes), [storage.folder])
    return counts


def _moments_journal(context: Context, *needs: Path) -> Journal:
    """Return the journal of the first pass: it depends on the images, not on the components."""
    settings = context.config.section(PcaSettings)
    content = {
        "images": context.store.manifest.images["digest"],
        "max_full_features": settings.max_full_features,
        "block_rows": context.block_rows,
        "version": PcaStep.version,
        # As it was before there was this setting.
        **({"normalize": True} if settings.normalize else {}),
    }
    parts = context.store.folder("pca") / "parts"
    return context.store.journal("pca", "moments", key=digest(content), needs=(parts, *needs))


def image_checksums(context: Context) -> list[Any]:
    """Return the checksum each block had when it was first read; None where it was not, or not as this block."""
    is_known = _moments_journal(context).entries
    known = dict(block_checksums(context.store, "pca/moments") if is_known else [])
    return [known.get(rows) for part in context.partitions for rows in part.blocks]


def n_merged(store: RunStore) -> int:
    """Return how many images `update` of earlier versions has merged into the moments; they have no labels."""
    return sum(update["n_samples"] for update in _without_labels(store))


def _without_labels(store: RunStore) -> list[dict[str, Any]]:
    """Return the updates of earlier versions, whose images count in the moments only."""
    others = added(store)
    return [update for update in store.manifest.updates if update not in others]


def find_components(state: MomentState, n_components: float | str) -> PrincipalComponents:
    """Find the components; refuse images whose squared scores float32 cannot hold."""
    try:
        found = principal_components(state, n_components)
        widest = math.sqrt(found.explained_variance[0])
    except OverflowError:
        widest = math.inf
    if widest and not MIN_SPREAD < widest < MAX_SPREAD:
        raise _spread_error(widest)
    return found


def _spread_error(widest: float) -> SpreadError:
    """Return the error for images that spread too much or too little."""
    msg = f"images must spread between {MIN_SPREAD:g} and {MAX_SPREAD:g} along their first component; got {widest:.3g}. Scale them, for example to standard deviation 1."
    return SpreadError(msg)


@dataclass(frozen=True, slots=True)
class LargestTask:
    """Finds the largest value of a partition in size, or the largest difference from the first image."""

    images: Rows
    from_first: bool

    def __call__(self, partition: Partition) -> tuple[float, int, int, float]:
        """Return its size, image, feature and value; of equal ones the first."""
        first = self.images.read(0, 1) if self.from_first else np.zeros(1)
        found = (-1.0, 0, 0, 0.0)
        for rows, block in read_ahead(self.images, partition.blocks):
            for start in range(0, len(block), TILE_ROWS):
                part = block[start : start + TILE_ROWS]
                size = np.abs(part - first)
                row, feature = map(int, np.unravel_index(size.argmax(), size.shape))
                if size[row, feature] > found[0]:
                    value = float(part[row, feature])
                    found = float(size[row, feature]), rows.start + start + row, feature, value
        return found


def checked_components(
    executor: Executor,
    rows: Rows,
    image_shape: tuple[int, ...],
    partitions: Sequence[Partition],
    moments: Callable[[], MomentState],
    n_components: float | str,
) -> tuple[MomentState, PrincipalComponents]:
    """Find moments and components; where images spread too much, name the value that may be wrong.

    Parameters
    ----------
    executor : Executor
        Runs the tasks that look for that value: images are read again only where something is odd.
    rows : Rows
        The rows whose moments are taken.
    image_shape : tuple of int
        Shape of an image.
    partitions : sequence of Partition
        All of them.
    moments : callable
        Returns the moments.
    n_components : int, float or "auto"
        As `principal_components` takes it.

    Returns
    -------
    MomentState
        The moments.
    PrincipalComponents
        The components.

    Raises
    ------
    SpreadError
        If the images spread so much or so little that float32 does not hold the squares of scores.
    """

    def largest(*, from_first: bool) -> tuple[float, int, int, float]:
        found = executor.map(LargestTask(rows, from_first), partitions)
        return max(found, key=lambda one: (one[0], -one[1]))

    try:
        state = moments()
        found = find_components(state, n_components)
    except SpreadError as err:
        size, row, feature, value = largest(from_first=False)
        if size < MAX_SPREAD:
            raise
        place = value_place(row, feature, image_shape)
        msg = f"{err} The largest value is {value:g} at {place}: if that one is wrong, repair or drop that image."
        raise SpreadError(msg) from None
    if not found.total_variance and rows.dtype == np.float64:
        # Equal images have no variance, nor have differences whose squares are below 1e-323.
        difference, *_ = largest(from_first=True)
        if difference:
            raise _spread_error(difference)
    return state, found


def moments_model(state: MomentState) -> ModelArrays:
    """Return moments as arrays of the model."""
    arrays = moments_to_arrays(state)
    stored = {STORED_MOMENTS.get(name, name): array for name, array in arrays.items()}
    return numbered_dims(prefixed(MOMENTS_PREFIX, stored))


def stored_moments(store: RunStore) -> MomentState:
    """Return the moments of a run."""
    names = {stored: name for name, stored in STORED_MOMENTS.items()}
    arrays = read_prefixed(store, "pca", MOMENTS_PREFIX)
    return moments_from_arrays({names.get(name, name): array for name, array in arrays.items()})


def components_model(found: PrincipalComponents) -> ModelArrays:
    """Return principal components as arrays of the model."""
    return described(ARRAYS, {name: getattr(found, name) for name in ARRAYS})


def components_attrs(found: PrincipalComponents) -> dict[str, Any]:
    """Return what is said of principal components beside their arrays."""
    return {"n_samples": found.n_samples, "total_variance": float(found.total_variance)}


def components_details(found: PrincipalComponents) -> dict[str, Any]:
    """Return what the manifest says of principal components."""
    return {
        "n_components": len(found.components),
        "variance_kept": float(found.variance_kept),
        "n_samples": found.n_samples,
    }
