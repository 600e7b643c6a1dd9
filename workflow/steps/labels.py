"""labels: the cluster of each centroid goes to its images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.config.fields import ScoreOrOff, Section
from workflow.engine.partitions import flat_checksums, n_rows, partition_rows
from workflow.engine.plan import TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_beside, check_rows_of_step, rows_and_blocks
from workflow.labels import N_TOP, CentroidLabels, cluster_of_rows, label_rows
from workflow.runstore import layout, zarr_io
from workflow.schema import ArraySpec
from workflow.steps.base import described, is_picture
from workflow.steps.browsing.suggestions import (
    BrightnessOf,
    offered_partitions,
    suggested_layer,
    whitened_trial,
)
from workflow.steps.centroid_graph import EDGES
from workflow.steps.families import ROWS as FAMILY_ROWS
from workflow.steps.families import families_of
from workflow.steps.map import ROWS as MAP_ROWS
from workflow.steps.map import map_of
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.parts.beside import BESIDE, labels_beside, names_beside
from workflow.steps.parts.cluster_names import (
    KEY,
    are_outdated,
    lost_names,
    lost_words,
    move_names,
    note_names,
)
from workflow.steps.parts.cluster_numbers import Rule, number_clusters
from workflow.steps.parts.clusters.counts import count_labels, stored_counts, sum_counts
from workflow.steps.parts.clusters.lineage import FILE, Lineage, lineage_summary
from workflow.steps.parts.clusters.ties import Ties, ties_to_before
from workflow.steps.parts.edits import present_cut, remember
from workflow.steps.parts.family_ids import note_ids
from workflow.steps.parts.family_table import family_labels
from workflow.steps.parts.far_out import usual_distance
from workflow.steps.tree import (
    CENTROID_BYTES,
    FAMILIES,
    cut_by_hand,
    note_doubtful,
    stored_tree,
    write_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.engine.executor import Executor, StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.labels import RowLabels
    from workflow.runstore import RunStore
    from workflow.runstore.journal import Journal
    from workflow.runstore.paths import Place
    from workflow.steps.base import ModelArrays
    from workflow.steps.map import Placer
    from workflow.steps.parts.cluster_numbers import Numbered

log = logging.getLogger(__name__)

#: Bytes of the labels of an image, and of what a task holds of one.
LABEL_BYTES, TASK_BYTES = 60, 340
#: Arrays of ``RUN/labels.zarr``, and of what ``predict`` writes.
LABELS: dict[str, ArraySpec] = {
    "label": ArraySpec(("sample",), "int32", "cluster", "cluster of the image; -1 is noise"),
    "label_resolved": ArraySpec(
        ("sample",), "int32", "cluster", "cluster of the image, noise led to one along the graph"
    ),
    "strength": ArraySpec(
        ("sample",),
        "float32",
        "1",
        "how surely the image belongs to its cluster, 0 to 1; 0 for noise",
    ),
    "centroid": ArraySpec(("sample",), "int32", "centroid", "nearest centroid"),
    "second_centroid": ArraySpec(
        ("sample",), "int32", "centroid", "second-nearest centroid; -1 where there is one only"
    ),
    "distance": ArraySpec(("sample",), "float32", "score", "distance to the nearest centroid"),
    "outlier_score": ArraySpec(
        ("sample",), "float32", "1", "distance against the radius around, 0 to 1"
    ),
    "top_label": ArraySpec(
        ("sample", "rank"),
        "int32",
        "cluster",
        "the three clusters of largest share, noise resolved, by falling share; -1 where fewer",
    ),
    "top_membership": ArraySpec(
        ("sample", "rank"), "float32", "1", "their shares; what is missing to 1 is noise"
    ),
}
#: Where the answer is one cluster and the tree has useful partitions.
SUGGESTED = "label_suggested"
SUGGESTED_LABELS = {
    SUGGESTED: ArraySpec(
        ("sample",),
        "int32",
        "cluster",
        "label in the suggested partition, as `recut` would give it",
    ),
}
#: Arrays of ``model.zarr``.
ARRAYS = {
    "centroid_label": ArraySpec(("centroid",), "int32", "cluster", "cluster; -1 is noise"),
    "centroid_label_resolved": ArraySpec(
        ("centroid",), "int32", "cluster", "cluster, noise led to one along the graph"
    ),
    "centroid_membership": ArraySpec(("centroid",), "float32", "1", "membership, 0 to 1"),
    "centroid_radius_sq": ArraySpec(
        ("centroid",), "float32", "score squared", "squared radius that outliers are measured by"
    ),
    "centroid_offset_sq": ArraySpec(
        ("centroid",), "float32", "score squared", "squared distance from noise to its cluster"
    ),
}


#: What a lineage says was done where the labels step was.
DONE = "run"
#: What the step notes of the clusters and the summary repeats, where there is something to say.
FOUND = ("level", "partitions", "brightness", "whitened", KEY)


class LabelsSettings(Section):
    """Labels carried from centroids to images."""

    level: Literal["auto", "clusters", "families"] = "auto"
    """What `label` tells: the cluster of an image (auto, clusters), or its family."""
    noise: Literal["keep", "resolve"] = "keep"
    """Whether noise keeps the label -1 or gets the cluster the graph leads to."""
    max_outlier_score: ScoreOrOff = 0.8
    """Images above (0.7 in noise centroids) are noise where the tree found any, 0.5 to below 1 (0.8: two radii); off: those of noise centroids."""

    @property
    def rule(self) -> Rule:
        """How images get their labels."""
        limit = None if self.max_outlier_score == "off" else float(self.max_outlier_score)
        return Rule(self.noise, limit)


class LabelsStep(Step):
    """Give each image the label of its nearest centroid."""

    name = "labels"
    version = 3
    section = LabelsSettings
    settings = ("labels.level", "labels.noise", "labels.max_outlier_score")
    reads = ("overcluster", "centroid_graph", "tree", "families", "map")
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Label the centroids, then the images."""
        self.label(context)

    def label(
        self,
        context: Context,
        done: str = DONE,
        *,
        is_update: bool = False,
        n_left: NDArray[np.int64] | None = None,
    ) -> None:
        """Label centroids and images; of an update, ids and names follow the images that were there before.

        `n_left` says how many images of each centroid of before have left the run.
        """
        store, executor = context.store, context.executor
        settings = context.config.section(LabelsSettings)
        rule = settings.rule
        if store.manifest.cut.get("is_undone"):
            remember(store, "brought the configured cut back", cut=present_cut(store))
            store.manifest.cut = {}
        tree = stored_tree(store)
        numbered = number_clusters(executor, store, tree, rule, context.partitions)
        write_tree(store, numbered.tree)
        asked, edits = present_cut(store).values()
        recut = cut_by_hand(numbered.tree, asked)
        if edits or recut is not numbered.tree:
            numbered = number_clusters(executor, store, recut, rule, context.partitions, edits)
        chosen, found = choose_labels(store, numbered, settings.level, asked)
        lineage, key = Lineage.of(store), store.step("overcluster").key
        ties = ties_of(store)
        if is_update or are_outdated(store) or not lineage.are_of(key):
            ties = ties_to_before(executor, store, context.partitions)._replace(n_left=n_left)
            move_names(store, ties)
        chosen, lineage = with_ids(store, chosen, lineage, ties, done=done)
        if not (asked or edits or chosen.by_family):
            note_doubtful(store, recut, chosen.labels.label)
        store.write_model(self.name, label_model(chosen.labels))
        if not chosen.by_family and len(numbered.clusters.sizes) == 1:
            trial = whitened_trial(store, context.config.seed, _brightness(store))
            found |= {"whitened": trial}
        target = store.path / layout.WIP / layout.LABELS
        journal = store.journal(self.name, "blocks", needs=(target,))
        if not journal.entries:
            target = store.wip(layout.LABELS)
        labeller = Labeller.of(
            executor,
            chosen,
            rule,
            target,
            labels_beside(store) or context.paths(),
            families=families_of(store),
            map=map_of(store),
        )
        reports = label_images(executor, store, labeller, context.partitions, journal)
        context.count(self.name, reports)
        usual = {"usual_distance": usual_distance(executor, target)}
        store.step(self.name).details = found | usual
        note_names(store, chosen.labels.label, are_families=chosen.by_family)
        if words := lost_words(lost_names(store)):
            log.info("names %s", words)
        note_ids(store)
        moves = lineage.stage(store, store.wip(FILE))
        store.replace([(target, store.path / layout.LABELS), *moves])

    def outputs(self, run: Path) -> list[Path]:
        """Return the labels."""
        return [run / layout.LABELS / zarr_io.GROUP_METADATA]

    def results(self, run: Path) -> list[Path]:
        """Return the labels."""
        return [run / layout.LABELS]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the pass over each image's nearest centroids."""
        n = sizes.n_samples
        parts = {"labels": TASK_BYTES * sizes.block_rows}
        read, written = n * NEAREST_BYTES, n * LABEL_BYTES
        return [TaskPlan(self.name, sizes.n_partitions, read, written, parts)]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with images."""
        return 0.12 + 1.25e-6 * sizes.rows_per_worker

    def client_bytes(self, sizes: Sizes) -> int:
        """Return what is held of the tree and of the graph."""
        return (40 * EDGES + CENTROID_BYTES // 3) * sizes.dims["centroid"]

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the labels, and what lies beside them."""
        if store.step(self.name).state == "complete":
            yield from _check_labels(store)

    def describe(self, store: RunStore) -> str:
        """Return how many images are noise."""
        counts = stored_counts(store)
        return f"{counts.n_samples:,} images labelled, {counts.n_noise:,} of them noise"

    def stale_reason(self, store: RunStore) -> str:
        """Return that a cut by hand is undone."""
        is_undone = store.manifest.cut.get("is_undone")
        return "it was recut, the configured cut comes back" if is_undone else ""

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many images got which label, and what to look at beside it."""
        found = _found(store)
        known = {name: found[name] for name in FOUND if found.get(name)}
        return stored_counts(store).summary() | known | lineage_summary(store)


def _check_labels(store: RunStore) -> Iterator[str]:
    """Check the labels, and what lies beside them."""
    checksums: list[Any] = flat_checksums(store.noted("labels", "blocks"))
    labels = store.path / layout.LABELS
    names = [*LABELS, *(SUGGESTED_LABELS.keys() & set(zarr_io.array_names(labels)))]
    if any(len(block) != len(names) for block in checksums):
        yield f"{layout.LABELS}: another version wrote it, with other arrays; `run` writes it anew"
        return
    rows = row_ranges(*rows_and_blocks(store))
    yield from check_rows_of_step(store, "labels", "blocks", labels, names, rows=rows)
    yield from check_beside(store, labels, set(names))


class Chosen(NamedTuple):
    """What the images of a run are labelled by.

    Attributes
    ----------
    labels : CentroidLabels
        What each centroid passes on.
    suggested : CentroidLabels or None
        The same for the suggested partition, where there is one.
    by_family : bool
        Whether the label of an image is its family.
    """

    labels: CentroidLabels
    suggested: CentroidLabels | None = None
    by_family: bool = False


def choose_labels(
    store: RunStore, numbered: Numbered, level: str, asked: Mapping[str, Any]
) -> tuple[Chosen, dict[str, Any]]:
    """Return the labels of clusters, or of families where the cut by hand, or else the level, says so.

    With them comes what there is to say of them beside their sizes.
    """
    labels = numbered.clusters.labels
    if (asked.get("layer") if asked else level) == FAMILIES:
        found: dict[str, Any] = {"level": FAMILIES, "partitions": [], "brightness": None}
        return Chosen(family_labels(store, labels), by_family=True), found
    suggested, offers = None, []
    if len(numbered.clusters.sizes) == 1:
        n_samples = store.manifest.images["shape"][0]
        offers = offered_partitions(store, numbered.layers, n_samples)
        if (layer := suggested_layer(offers)) is not None:
            suggested = numbered.layers[layer].labels
    brightness, shares = _brightness(store), None
    if brightness is not None:
        mean, population = store.read_model("centroid_mean", "population")
        shown = labels if suggested is None else suggested
        shares = brightness.shares(shown.label_resolved, mean, population)
    return Chosen(labels, suggested), {"level": None, "partitions": offers, "brightness": shares}


def ties_of(store: RunStore) -> Ties:
    """Return the ties of the centroids of a run to themselves."""
    return Ties.same(store.read_model("population")[0])


def with_ids(
    store: RunStore, chosen: Chosen, lineage: Lineage, ties: Ties, *, done: str
) -> tuple[Chosen, Lineage]:
    """Return labels with ids that clusters had before, and the lineage to be kept with them; see `Lineage.follow`.

    Families as labels have ids of their own, and leave those of clusters as they are.
    """
    key = store.step("overcluster").key
    if chosen.by_family:
        return chosen, lineage.moved(ties, of=key)
    label = chosen.labels.label
    ids, followed = lineage.follow(label, ties, done=done, of=key)
    suggested = chosen.suggested
    if suggested is not None:
        # Those that `recut` would give them.
        suggested = suggested.with_ids(lineage.follow(suggested.label, ties, done=done, of=key).ids)
    return Chosen(chosen.labels.with_ids(ids), suggested), followed


def _brightness(store: RunStore) -> BrightnessOf | None:
    """Return what tells the brightness of images; None where they are vectors, or without their length."""
    attrs = store.model_attrs("projection")
    if attrs.get("normalize") or not is_picture(store.manifest.images["shape"][1:]):
        return None
    return BrightnessOf(store, is_whitened=attrs["whiten"])


def label_model(labels: CentroidLabels) -> ModelArrays:
    """Return the labels of the centroids as arrays of the model."""
    return described(ARRAYS, {name: getattr(labels, _field(name)) for name in ARRAYS})


def labels_are_families(store: RunStore) -> bool:
    """Whether the labels of a run are families and not clusters."""
    return _found(store).get("level") == FAMILIES


def _found(store: RunStore) -> dict[str, Any]:
    """Return what was noted of the labels: of the cut by hand, where there is one."""
    found: dict[str, Any] = store.manifest.cut.get("found", {})
    return store.step("labels").details | found


def stored_labels(store: RunStore) -> CentroidLabels:
    """Return the labels of the centroids of a run."""
    arrays = store.read_model(*ARRAYS)
    return CentroidLabels(**dict(zip(map(_field, ARRAYS), arrays, strict=True)))


def _field(name: str) -> str:
    """Return the field of `CentroidLabels` that an array of the model holds."""
    return name.removeprefix("centroid_")


def create_labels(
    target: Path,
    n_samples: int,
    block_rows: int,
    paths: Place | None,
    specs: Mapping[str, ArraySpec] = LABELS,
) -> None:
    """Make the empty arrays of a labels store."""
    zarr_io.create_group(target)
    for name, spec in specs.items():
        zarr_io.create_rows_array(
            target,
            name,
            n_rows=n_samples,
            tail_shape=(N_TOP,) * (len(spec.dims) - 1),
            dtype=spec.dtype,
            shard_rows=partition_rows(n_samples, block_rows),
            block_rows=block_rows,
            dims=spec.dims,
            attrs={"units": spec.unit, "long_name": spec.description},
        )
    beside = names_beside(paths)
    for name in beside:
        assert paths is not None
        zarr_io.create_rows_array(
            target,
            name,
            n_rows=n_samples,
            tail_shape=(),
            dtype=zarr_io.array_dtype(paths, name),
            shard_rows=partition_rows(n_samples, block_rows),
            block_rows=block_rows,
            dims=("sample",),
            attrs={"long_name": BESIDE[name]},
        )
    if beside:
        zarr_io.write_attrs(target, {"coordinates": " ".join(beside)})
    # Nothing is added later but rows, so xarray may read all metadata at once.
    zarr_io.consolidate(target)


@lru_cache(maxsize=2)
def _shared_labels(stored: StoredArrays) -> CentroidLabels:
    """Return the labels of the centroids, read once per process."""
    return CentroidLabels(**stored.load())


class FoundBlock(NamedTuple):
    """The nearest centroids of a block, and what it took to find them."""

    rows: RowRange
    nearest: NDArray[np.int32]
    sq_distance: NDArray[np.float32]
    bytes_read: int
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Labeller:
    """How images get their labels, and where those are written."""

    centroid_labels: StoredArrays
    suggested: StoredArrays | None
    rule: Rule
    target: Path
    paths: Place | None
    usual_distance: float | None = None
    families: Path | None = None
    map: Path | None = None
    placer: Placer | None = None
    by_family: bool = False

    @classmethod
    def of(
        cls,
        executor: Executor,
        chosen: Chosen,
        rule: Rule,
        target: Path,
        paths: Place | None,
        *,
        usual_distance: float | None = None,
        families: Path | None = None,
        map: Path | None = None,  # noqa: A002
        placer: Placer | None = None,
    ) -> Labeller:
        """Return what labels images; tasks share the labels of the centroids."""
        labels, suggested, by_family = chosen
        other = None if suggested is None else executor.share(suggested.to_arrays())
        shared = executor.share(labels.to_arrays())
        return cls(
            shared, other, rule, target, paths, usual_distance, families, map, placer, by_family
        )

    @property
    def own(self) -> dict[str, ArraySpec]:
        """The arrays that follow from the nearest centroids."""
        more = {} if self.suggested is None else SUGGESTED_LABELS
        return LABELS | more | ({} if self.placer is None else MAP_ROWS)

    @property
    def specs(self) -> dict[str, ArraySpec]:
        """The arrays that are written."""
        beside = {} if self.families is None else FAMILY_ROWS
        return self.own | beside | ({} if self.map is None else MAP_ROWS)

    def label(self, block: FoundBlock) -> dict[str, NDArray[Any]]:
        """Return the labels of a block, by the names they are stored under."""
        found, how = (block.nearest, block.sq_distance), self.rule._asdict()
        labels: RowLabels = label_rows(*found, _shared_labels(self.centroid_labels), **how)
        arrays = {name: getattr(labels, name) for name in LABELS}
        if self.suggested is not None:
            arrays[SUGGESTED] = cluster_of_rows(*found, _shared_labels(self.suggested), **how)
        if self.placer is not None and block.scores is not None:
            arrays |= self.placer.place(block.scores, block.nearest)
        if self.by_family:
            arrays |= self._by_family(block)
        return arrays

    def _by_family(self, block: FoundBlock) -> dict[str, NDArray[Any]]:
        """Return the families of a block as its labels."""
        assert self.families is not None
        label, strength = (
            zarr_io.read_rows(self.families, name, *block.rows) for name in FAMILY_ROWS
        )
        resolved = _shared_labels(self.centroid_labels).label_resolved[block.nearest[:, 0]]
        others = (len(label), N_TOP - 1)
        return {
            "label": label,
            "label_resolved": np.where(label >= 0, label, resolved),
            "strength": strength,
            "top_label": np.column_stack([label, np.full(others, -1, np.int32)]),
            "top_membership": np.column_stack([strength, np.zeros(others, np.float32)]),
        }

    def write(self, blocks: Iterable[FoundBlock], partition: Partition) -> dict[str, Any]:
        """Label the blocks of a partition, write them, copy names, families and places along; return the report."""
        checksums, counts, bytes_read, bytes_written, n_far_out = [], [], 0, 0, 0
        copied: list[tuple[Place, str]] = []
        if self.paths is not None:
            copied += [(self.paths, name) for name in names_beside(self.paths)]
        if self.families is not None:
            copied += [(self.families, name) for name in FAMILY_ROWS]
        if self.map is not None:
            copied += [(self.map, name) for name in MAP_ROWS]
        names = [*self.own, *(name for _, name in copied)]
        with zarr_io.rows_writers(self.target, names, partition.start) as writers:
            for block in blocks:
                arrays = self.label(block)
                for name, array in arrays.items():
                    writers[name].append(array)
                for group, name in copied:
                    writers[name].append(zarr_io.read_rows(group, name, *block.rows))
                checksums.append([zarr_io.crc(array) for array in arrays.values()])
                counts.append(count_labels(arrays["label"]))
                if self.usual_distance is not None:
                    is_far = arrays["distance"] > self.usual_distance
                    n_far_out += int(np.count_nonzero(is_far))
                bytes_read += block.bytes_read
                bytes_written += sum(array.nbytes for array in arrays.values())
        return {
            "crc": checksums,
            **sum_counts(counts).report(),
            **({} if self.usual_distance is None else {"n_far_out": n_far_out}),
            "bytes_read": bytes_read,
            "bytes_written": bytes_written,
        }


@dataclass(frozen=True, slots=True)
class LabelsTask:
    """Labels of the rows of a partition, from the nearest centroids that were stored."""

    nearest: Path
    labeller: Labeller

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Label the rows of each block."""
        return self.labeller.write(map(self._read, partition.blocks), partition)

    def _read(self, rows: RowRange) -> FoundBlock:
        """Return what was found of a block."""
        nearest = zarr_io.read_rows(self.nearest, "nearest", *rows)
        sq_distance = zarr_io.read_rows(self.nearest, "sq_distance", *rows)
        return FoundBlock(rows, nearest, sq_distance, nearest.nbytes + sq_distance.nbytes)


def label_images(
    executor: Executor,
    store: RunStore,
    labeller: Labeller,
    partitions: Sequence[Partition],
    journal: Journal,
) -> Mapping[int, dict[str, Any]]:
    """Write the labels of all images of a run; a journal with entries goes on."""
    task = LabelsTask(layout.nearest(store.path), labeller)
    return write_labels(executor, "labels", task, partitions, journal)


def write_labels(
    executor: Executor, name: str, task: Any, partitions: Sequence[Partition], journal: Journal
) -> Mapping[int, dict[str, Any]]:
    """Write labels of images, for a run or for new ones; return what the tasks have reported."""
    labeller: Labeller = task.labeller
    if not journal.entries:
        last = partitions[-1].blocks[-1].stop
        block_rows = partitions[0].blocks[0].n_rows
        create_labels(labeller.target, last, block_rows, labeller.paths, labeller.specs)
    items = {partition.index: partition for partition in partitions}
    return executor.run(name, task, items, journal=journal, n_rows=n_rows)
