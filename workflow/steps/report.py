"""report: the page that a person looks at, ``report.html``, and the images that it shows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from pydantic import Field

from workflow.config.compute import has_use
from workflow.config.fields import Section
from workflow.engine.segments import is_updated
from workflow.engine.step import Step
from workflow.engine.summary import summarize
from workflow.runstore import layout
from workflow.runstore.files import crc_of_file, read_json, write_bytes
from workflow.steps.base import is_picture
from workflow.steps.browsing.explorer_data import explorer_bytes, explorer_data
from workflow.steps.browsing.galleries import (
    find_galleries,
    gallery_command,
    gallery_counts,
    gallery_sheets,
    lacks_statistics,
    outlier_words,
    with_words,
)
from workflow.steps.browsing.map_data import map_data
from workflow.steps.browsing.members import values_at
from workflow.steps.browsing.odd_images import find_outliers, near_copies
from workflow.steps.browsing.own_columns import has_columns_of_others
from workflow.steps.browsing.previews import Previews
from workflow.steps.labels import LabelsSettings, labels_are_families
from workflow.steps.parts.cluster_names import cluster_names
from workflow.steps.parts.clusters.counts import stored_counts
from workflow.steps.parts.clusters.lineage import told_changes
from workflow.steps.parts.family_table import family_table, images_of_families
from workflow.steps.parts.near_duplicates import BUCKET_ROWS
from workflow.steps.parts.near_summary import near_summary
from workflow.steps.projection import n_previews
from workflow.steps.tree import ids_of_clusters, shown_clusters, stored_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.engine.context import Context
    from workflow.engine.plan import Sizes
    from workflow.report import (
        Certainty,
        ClustersByThreshold,
        CondensedTree,
        FamilyTable,
        Sheet,
    )
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.tree import ClusterTree

#: What the maker of demo images knows, put into the run folder by the demo.
TRUTH = "truth.json"
#: Pictures on the sheets of noise and of outliers.
N_ODD = 48
#: Largest clusters with a picture on the map.
MAP_PICTURES = 20
#: Families with a sheet, the largest ones, and pictures on each.
N_FAMILIES, FAMILY_IMAGES = 12, 18
#: Most pictures fetched one by one from the images, for clusters too small to be among the kept ones.
MAX_FETCHED = 600
#: What drawing the page takes, and what is held of the label of a preview [bytes].
PAGE_BYTES, PREVIEW_BYTES = 32 * 2**20, 64
#: What is held of a near-duplicate while its group is found [bytes].
NEAR_BYTES = 600


class ReportSettings(Section):
    """The page that a person looks at."""

    n_clusters_shown: int = Field(default=48, ge=0, le=1000)
    """Most clusters that get a contact sheet, the largest first."""
    images_per_cluster: int = Field(default=24, ge=1, le=200)
    """Most pictures on a contact sheet."""


class ReportStep(Step):
    """Write the page that a person looks at."""

    name = "report"
    version = 3
    section = ReportSettings
    settings = ("report.n_clusters_shown", "report.images_per_cluster")
    reads = (
        "pca",
        "projection",
        "neighbors",
        "families",
        "overcluster",
        "centroid_graph",
        "tree",
        "labels",
    )

    def run(self, context: Context) -> None:
        """Gather what there is to see, and draw it."""
        write_report(context.steps, context.store, context.config, context.images)

    def outputs(self, run: Path) -> list[Path]:
        """Return the page."""
        return [run / layout.REPORT]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with the labels that are read; drawing takes the same time for all."""
        return 1.0 + 5e-8 * sizes.n_samples

    def client_bytes(self, sizes: Sizes) -> int:
        """Return the labels of the previews; the images themselves are few at a time."""
        near = NEAR_BYTES * min(sizes.n_samples, BUCKET_ROWS)
        previews = PREVIEW_BYTES * n_previews(sizes.n_samples, sizes.image_bytes)
        return previews + PAGE_BYTES + near + explorer_bytes(sizes.image_bytes)

    def describe(self, store: RunStore) -> str:
        """Return the name of the page."""
        del store
        return layout.REPORT

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return where the page is, and what was found and counted for it."""
        near = store.step(self.name).details.get("near")
        counts = {name: near[name] for name in ("within", "groups", "images")} if near else None
        return {
            "near_duplicates": counts,
            "gallery_counts": gallery_counts(store),
            "report": str(store.path / layout.REPORT),
        }


def write_report(
    steps: Sequence[Step], store: RunStore, config: Config, images: ImageStore | None
) -> None:
    """Write ``report.html`` in one move.

    Parameters
    ----------
    steps : sequence of Step
        All steps of the workflow.
    store : RunStore
        A run whose labels are complete.
    config : Config
        The settings.
    images : ImageStore or None
        The images; None where they are gone: then only the pictures that were
        kept while reading are shown.
    """
    # Matplotlib is slow to import, and workers draw nothing.
    from workflow.report import ReportData, render

    settings = config.section(ReportSettings)
    store.step("report").details["near"] = near_summary(store, N_ODD)
    store.step("report").details["galleries"] = find_galleries(store, partial(Previews, store))
    summary = summarize(steps, store)
    tree = stored_tree(store)
    families = family_table(store, tree.label if labels_are_families(store) else None)
    sheets = ContactSheets(
        store,
        images,
        summary,
        n_clusters=settings.n_clusters_shown,
        n_images=settings.images_per_cluster,
        families=families,
    )
    ratio, spectrum, population, radius, label, resolved = store.read_model(
        "explained_variance_ratio",
        "spectrum",
        "population",
        "rms_radius",
        "centroid_label",
        "centroid_label_resolved",
    )
    shown = resolved if config.section(LabelsSettings).noise == "resolve" else label
    truth = store.path / TRUTH
    # It tells of the images that were made, and of their labels of then.
    has_truth = truth.is_file() and not is_updated(store)
    manifest = store.manifest
    data = ReportData(
        title="overcluster report",
        run_path=str(store.path),
        summary=summary,
        settings={
            key: (value, "")
            for key, value in manifest.config.items()
            if has_use(key, config.compute.launcher)
        },
        versions=manifest.versions,
        explained_variance_ratio=ratio,
        spectrum=spectrum,
        total_variance=store.model_attrs("pca").get("total_variance"),
        cluster_size=np.asarray(summary["cluster_sizes"], dtype=np.int64),
        population=population,
        rms_radius=radius,
        centroid_label=shown,
        tree=shown_tree_data(store),
        cluster_persistence=_persistence(store, tree),
        clusters_by_threshold=clusters_by_threshold(store, tree),
        certainty=certainty_of(store, tree),
        families=families,
        map=map_data(store, sheets=sheets[:MAP_PICTURES]),
        explorer=explorer_data(store, images, shown),
        sheets=sheets,
        steps=_steps(store),
        notes=_notes(store, summary),
        lineage=told_changes(store),
        truth=read_json(truth) if has_truth else None,
    )
    if truth.is_file():
        store.step("report").checksums[TRUTH] = crc_of_file(truth)
    _write_page(store, render(data))


def put_names(
    steps: Sequence[Step], store: RunStore, config: Config, images: Callable[[], ImageStore | None]
) -> None:
    """Put the names of clusters into the page, in place; a page that has no place for them is written anew."""
    from workflow.report.names import with_names

    page, text = store.path / layout.REPORT, None
    if page.exists():
        text = with_names(page.read_text(encoding="utf-8"), cluster_names(store))
    if text is None:
        write_report(steps, store, config, images())
    else:
        _write_page(store, text)


def tell_times(steps: Sequence[Step], store: RunStore) -> None:
    """Put the times of a run that is complete into its page, that of the report among them."""
    from workflow.report import with_times

    page = store.path / layout.REPORT
    if page.exists():
        _write_page(store, with_times(page.read_text(encoding="utf-8"), summarize(steps, store)))


def _write_page(store: RunStore, text: str) -> None:
    """Write the page in one move, and its checksum."""
    page = store.path / layout.REPORT
    write_bytes(page, text.encode())
    store.step("report").checksums[layout.REPORT] = crc_of_file(page)
    store.save()


def shown_tree_data(store: RunStore) -> CondensedTree | None:
    """Return the condensed tree as the report takes it; None where it has one centroid, or families are shown."""
    from workflow.report import CondensedTree

    # Its colours are those of clusters.
    if labels_are_families(store):
        return None
    condensed, selected, cluster = shown_clusters(store)
    if not len(condensed.parent):
        return None
    return CondensedTree(
        parent=condensed.parent.astype(np.int64),
        child=condensed.child.astype(np.int64),
        lambda_val=condensed.lambda_val,
        child_size=condensed.child_size,
        selected=selected,
        selected_cluster=cluster,
    )


def is_another_cut(store: RunStore) -> bool:
    """Whether the labels are no clusters of the configured tree: of a cut by hand, or families."""
    return bool(store.manifest.cut) or labels_are_families(store)


def _persistence(store: RunStore, tree: ClusterTree) -> NDArray[np.float64] | None:
    """Return the persistence of the clusters shown; None for another cut, whose nodes are others."""
    if is_another_cut(store):
        return None
    ids, n_ids = _ids(store, tree)
    return _by_id(tree.persistence, ids, n_ids, 0)


def clusters_by_threshold(store: RunStore, tree: ClusterTree) -> ClustersByThreshold | None:
    """Return the number of clusters at each threshold; None where it did not decide those shown."""
    from workflow.report import ClustersByThreshold
    from workflow.tree import DEFAULT_RATIO

    by_threshold = tree.n_clusters_by_threshold
    if not len(by_threshold):
        return None
    numbers = by_threshold[:, 1].astype(np.int64)
    # Another method or cut made other clusters, and borders that are found may not be believed.
    same = bool((numbers[by_threshold[:, 0] == DEFAULT_RATIO] == tree.n_clusters).any())
    if is_another_cut(store) or not tree.has_threshold or not same:
        return None
    return ClustersByThreshold(
        by_threshold[:, 0],
        numbers,
        chosen=DEFAULT_RATIO,
        name="threshold (low: strict, high: mild)",
        plateau=tree.plateau,
    )


def certainty_of(store: RunStore, tree: ClusterTree) -> Certainty | None:
    """Return how sure the clusters shown are; None where that was not looked into."""
    from workflow.report import Certainty

    certainty = tree.certainty
    if is_another_cut(store) or not len(certainty.resampled_n_clusters):
        return None
    ids, n_ids = _ids(store, tree)
    nearest = np.append(ids, -1)[certainty.nearest].astype(np.int32)
    return Certainty(
        resampled_n_clusters=certainty.resampled_n_clusters,
        recovery=_by_id(certainty.recovery, ids, n_ids, np.nan),
        border=_by_id(certainty.border, ids, n_ids, 0),
        nearest=_by_id(nearest, ids, n_ids, -1),
        is_doubtful=_by_id(certainty.is_doubtful, ids, n_ids, fill=False),
    )


def _ids(store: RunStore, tree: ClusterTree) -> tuple[NDArray[np.int64], int]:
    """Return the ids of the clusters of the configured tree, and how many numbers there are to the highest with an image."""
    ids = ids_of_clusters(tree, store.read_model("centroid_label")[0])
    return ids, len(stored_counts(store).summary()["cluster_sizes"])


def _by_id(values: NDArray[Any], ids: NDArray[np.int64], n_ids: int, fill: Any) -> NDArray[Any]:
    """Return values of clusters by id; those of ids that no image has are left out."""
    found = np.full(n_ids, fill, values.dtype)
    there = (ids >= 0) & (ids < n_ids)
    found[ids[there]] = values[there]
    return found


def _steps(store: RunStore) -> list[dict[str, Any]]:
    """Return time, bytes and memory of the steps, after the start; what is not counted is None."""
    start = {"name": "start", "seconds": store.manifest.start_seconds}
    counted = ("bytes_read", "bytes_written", "peak_rss_bytes")
    steps = []
    for name, record in store.manifest.steps.items():
        is_own = name == "report"
        # What the step that writes the page has counted is not known yet, and it is complete by
        # the time that somebody reads this.
        counters = {} if is_own else record.counters
        steps.append(
            {
                "name": name,
                "state": "complete" if is_own else record.state,
                # As the summary has them: rounded once more they may be others.
                "seconds": round(record.seconds, 3),
                # And so no rate.
                "rows": None if is_own else store.manifest.images["shape"][0],
                **{key: counters.get(key) for key in counted},
            }
        )
    return [start, *steps]


def _notes(store: RunStore, summary: dict[str, Any]) -> list[str]:
    """Return what a person should know before trusting the page."""
    notes = []
    if summary["n_unreadable"]:
        some = ", ".join(store.step("ingest").details.get("unreadable", [])[:5])
        notes.append(f"{summary['n_unreadable']} files could not be read and were left out: {some}")
    if has_columns_of_others(store):
        words = f"overcluster report {shlex.quote(str(store.path))} --columns TABLE"
        notes.append(
            "Columns of a table were given for other images than the run has now, and colour nothing. "
            f"`{words}` gives them for these."
        )
    if lacks_statistics(store):
        notes.append(
            "This run keeps no brightness, contrast and sharpness of its images: dark, bright, low-contrast and "
            f"blurred ones are not counted. `{gallery_command(store, 'dark')}`, and then `report`, counts them."
        )
    return notes


class Shown(NamedTuple):
    """What a sheet shows.

    Attributes
    ----------
    rows : int64 array
        The images.
    sheet : callable
        Makes the sheet of their pictures.
    """

    rows: NDArray[np.int64]
    sheet: Callable[[NDArray[Any]], Sheet]


class ContactSheets(Sequence["Sheet"]):
    """Contact sheets: the largest clusters, noise, the strongest outliers, copies.

    Empty where the images are vectors.  Pictures are read, those of one sheet,
    whenever it is asked for: from the files of those kept while the run read
    its images, and from the images themselves where those do not hold them.

    Parameters
    ----------
    store : RunStore
        A run whose labels are complete.
    images : ImageStore or None
        Where pictures that were not kept are fetched; None shows kept ones only,
        and looks for outliers among them only.
    summary : mapping
        Summary of the run.
    n_clusters, n_images : int
        Clusters shown at most, and images of each.
    families : FamilyTable, optional
        The families of the run; the largest are shown.
    """

    def __init__(
        self,
        store: RunStore,
        images: ImageStore | None,
        summary: Mapping[str, Any],
        *,
        n_clusters: int,
        n_images: int,
        families: FamilyTable | None = None,
    ) -> None:
        self._image_shape = tuple(store.manifest.images["shape"][1:])
        self._n_samples, self._images = summary["n_samples"], images
        self._shown: list[Shown] = []
        if not is_picture(self._image_shape):
            return
        from workflow.report import cluster_sheet, noise_sheet
        from workflow.report.sentences import label_noun

        self._kept = Previews(store)
        labels = values_at(store, ("label", "distance", "outlier_score"), self._kept.rows)
        # Few clusters of very many are shown, and so are few of their pictures.
        n_shown, noun = min(summary["n_clusters"], n_clusters), label_noun(summary)
        names = cluster_names(store)
        fetch = _Fetcher(images, *store.read_model("exemplar", "centroid_label"))
        sizes = summary["cluster_sizes"]
        for cluster in sorted(range(len(sizes)), key=lambda c: (-sizes[c], c))[:n_shown]:
            size = sizes[cluster]
            kept = _spread(np.flatnonzero(labels["label"] == cluster), labels, n_images)
            fetched = fetch.rows_of(cluster, min(n_images, size) - len(kept))
            rows = np.concatenate([self._kept.rows[kept], fetched])
            self._show(
                rows,
                partial(
                    cluster_sheet,
                    cluster,
                    size,
                    self._n_samples,
                    noun=noun,
                    name=names.get(cluster, ""),
                ),
            )
        if families is not None and not labels_are_families(store):
            self._show_families(store, families)
        noise = np.flatnonzero(labels["label"] < 0)
        if len(noise):
            n_noise = round(summary["noise_fraction"] * self._n_samples)
            rows = self._kept.rows[_spread(noise, labels, N_ODD)]
            self._show(rows, partial(noise_sheet, n_noise, self._n_samples, noun=noun))
        self._show_odd(store)
        self._show_copies(store, summary)
        for rows, sheet in gallery_sheets(store, summary.get("cluster_names") or {}):
            if len(shown := self._at_hand(rows)):
                self._show(shown, sheet)

    def _at_hand(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the images whose pictures can be shown."""
        return rows if self._images is not None else rows[self._kept.has(rows)]

    def _show(self, rows: NDArray[np.int64], sheet: Callable[[NDArray[Any]], Sheet]) -> None:
        """Add a sheet."""
        self._shown.append(Shown(rows, sheet))

    def _show_families(self, store: RunStore, families: FamilyTable) -> None:
        """Add the sheets of the largest families."""
        from workflow.report import family_sheet

        numbers = families.number[:N_FAMILIES].tolist()
        found = images_of_families(store, numbers, FAMILY_IMAGES)
        for place, (family, rows) in enumerate(zip(numbers, found, strict=True)):
            shown = self._at_hand(rows)
            if len(shown):
                tightness = families.conductance[place], families.expected[place]
                sheet = partial(family_sheet, family, int(families.size[place]), *tightness)
                self._show(
                    shown,
                    with_words(
                        sheet,
                        f"all: overcluster members {shlex.quote(str(store.path))} --family {family}",
                    ),
                )

    def _show_odd(self, store: RunStore) -> None:
        """Add the sheets of lone outliers, and of small groups far out."""
        from workflow.report import outlier_sheet

        at_hand = None if self._images is not None else self._kept.rows
        lone, grouped, n_near = find_outliers(store, N_ODD, at_hand)
        sheet = partial(outlier_sheet, scores=lone.outlier_score)
        self._show(lone.row, with_words(sheet, outlier_words(store)))
        if len(grouped.row):
            score = grouped.outlier_score
            self._show(grouped.row, partial(outlier_sheet, scores=score, n_near=n_near))

    def _show_copies(self, store: RunStore, summary: Mapping[str, Any]) -> None:
        """Add the sheets of the largest groups of equal images, and of near-duplicates."""
        from workflow.report import copies_sheet
        from workflow.report.sentences import duplicates_command

        command, pca = duplicates_command(summary, str(store.path)), store.step("pca").details
        near, cells = store.step("report").details.get("near") or {}, near_copies(store, N_ODD)
        exact = pca.get("exact_largest", []), pca.get("exact_groups"), "group of equal images"
        close = near.get("largest", []), near.get("groups"), "group of near-duplicates"
        if not close[0]:
            close = cells, len(cells), "centroid that holds nothing but near-copies"
        for title, (found, n_found, noun) in (("Copies", exact), ("Near-duplicates", close)):
            rows, sizes = np.array(found, np.int64).reshape(-1, 2).T
            here = self._kept.has(rows) | (self._images is not None)
            if here.any():
                what = f"one image of each {noun}, {np.count_nonzero(here)} of {n_found:,}"
                how = partial(copies_sheet, sizes[here], title=title, what=what, command=command)
                self._show(rows[here], how)

    def __len__(self) -> int:
        """Return how many sheets there are."""
        return len(self._shown)

    @overload
    def __getitem__(self, index: int) -> Sheet: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sheet]: ...
    def __getitem__(self, index: int | slice) -> Sheet | list[Sheet]:
        """Return a sheet with its pictures."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        rows, sheet = self._shown[index]
        pictures = self._kept.with_images(rows, self._images, self._image_shape)
        return sheet(pictures)


def _spread(
    members: NDArray[np.int64], labels: Mapping[str, NDArray[Any]], n: int
) -> NDArray[np.int64]:
    """Return some of the kept pictures from the middle of a cell outwards, evenly spread."""
    ranked = members[np.argsort(labels["distance"][members], kind="stable")]
    picked: NDArray[np.int64] = ranked[
        np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(int)
    ]
    return picked


class _Fetcher:
    """Chooses single images of small clusters: those nearest to their centroids."""

    def __init__(
        self, images: ImageStore | None, exemplar: NDArray[np.int64], label: NDArray[np.int32]
    ) -> None:
        self.exemplar, self.label = exemplar, label
        self.left = MAX_FETCHED if images is not None else 0

    def rows_of(self, cluster: int, n: int) -> NDArray[np.int64]:
        """Return up to `n` rows of a cluster, as long as there are some left to fetch."""
        rows = self.exemplar[self.label == cluster].ravel()
        rows = np.unique(rows[rows >= 0])[: max(0, min(n, self.left))]
        self.left -= len(rows)
        return rows
