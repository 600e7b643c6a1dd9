"""Plain data that a report is made of: arrays, numbers and words, already read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workflow.formatting import format_count, format_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from workflow.report.explore import ExplorerData
    from workflow.report.map_plot import MapData

SheetKind = Literal["cluster", "family", "noise", "outliers"]


@dataclass(frozen=True, eq=False)
class Sheet:
    """Example images shown together under one title.

    Attributes
    ----------
    title, caption : str
        Words above and below the images.
    images : array of shape (m, height, width) or (m, height, width, channels), or None
        None where the rows are vectors and there is nothing to look at.
    kind : {"cluster", "family", "noise", "outliers"}
        Where on the page the sheet belongs.
    cluster : int or None
        Cluster shown, which gives the sheet the colour it has in the plots.
    name : str
        What a person calls it.
    """

    title: str
    caption: str
    images: NDArray[Any] | None
    kind: SheetKind = "cluster"
    cluster: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.images is not None and self.images.ndim not in (3, 4):
            msg = (
                "images of a sheet must have shape (m, height, width) or (m, height, width, channels); "
                f"got shape {self.images.shape} for {self.title!r}. Pass images=None for vectors."
            )
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class CondensedTree:
    """Condensed tree in HDBSCAN's record format, with centroids as leaves and sizes in images.

    Attributes
    ----------
    parent, child : int64 arrays of shape (n_records,)
        Node ids; a child that is nowhere a parent is a centroid (or another leaf).
    lambda_val : float64 array of shape (n_records,) [1 / distance]
        Level at which the child leaves its parent.
    child_size : int64 array of shape (n_records,) [images]
        Size of the child at that level.
    selected : int64 array of shape (n_selected,)
        Nodes that became clusters; a leaf may be one.
    selected_cluster : int array of shape (n_selected,) or None
        Cluster of each selected node; None where node i became cluster i.
    """

    parent: NDArray[np.int64]
    child: NDArray[np.int64]
    lambda_val: NDArray[np.float64]
    child_size: NDArray[np.int64]
    selected: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    selected_cluster: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = [len(a) for a in (self.parent, self.child, self.lambda_val, self.child_size)]
        if len(set(lengths)) != 1:
            msg = (
                "`parent`, `child`, `lambda_val` and `child_size` must be equally long; "
                f"got lengths {lengths}. Pass the four columns of one condensed tree."
            )
            raise ValueError(msg)
        if self.selected_cluster is not None and len(self.selected_cluster) != len(self.selected):
            msg = (
                "`selected_cluster` must name one cluster per selected node; got "
                f"{len(self.selected_cluster)} for {len(self.selected)} nodes. Pass None for 0, 1, 2 ..."
            )
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class ClustersByThreshold:
    """Number of clusters found at each threshold of the test, and the one that was used.

    Attributes
    ----------
    threshold : float64 array of shape (n_steps,)
        Rising; the higher it is, the milder is the test.
    n_clusters : int array of shape (n_steps,)
        Clusters found with each.
    chosen : float or None
        The value that made the labels.
    name : str
        What the threshold is called.
    plateau : tuple of float or None
        Values around the one used that give the same number.
    """

    threshold: NDArray[np.float64]
    n_clusters: NDArray[np.int64]
    chosen: float | None = None
    name: str = "threshold"
    plateau: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Certainty:
    """How sure the clusters are, found by building the tree again on redrawn counts.

    Attributes
    ----------
    resampled_n_clusters : int array of shape (n_resamples,)
        Number of clusters on each set of redrawn counts.
    recovery : float64 array of shape (n_ids,)
        Share of them in which a cluster is found again, in [0, 1]; NaN of an id that no cluster has.
    border : float64 array of shape (n_ids,)
        How sure its weakest border is, in [0, 1]; all 0 where no border was tested.
    nearest : int array of shape (n_ids,)
        The cluster behind that border; -1 where there is no other.
    is_doubtful : bool array of shape (n_ids,)
        Clusters that are found again too seldom.
    """

    resampled_n_clusters: NDArray[np.int64]
    recovery: NDArray[np.float64]
    border: NDArray[np.float64]
    nearest: NDArray[np.int32]
    is_doubtful: NDArray[np.bool_]

    @property
    def has_borders(self) -> bool:
        """Whether anything is known of the borders."""
        return bool(np.any((self.border > 0) & (self.nearest >= 0)))


@dataclass(frozen=True, eq=False)
class FamilyTable:
    """Groups of images of the same source, largest first; arrays of shape (n_families,).

    Attributes
    ----------
    number : int64 array
        Id of each.
    size : int64 array [images]
        Images of each.
    conductance, expected : float64 arrays
        Weight that leaves it over the weight of its images; what that is in a smooth cloud.
    dimension : float64 array
        Dimension around it.
    cluster : int32 array
        Cluster with most of its images, of equals the lowest; -1 is noise.
    cluster_share : float64 array
        Share of its images that lie there.
    """

    number: NDArray[np.int64]
    size: NDArray[np.int64]
    conductance: NDArray[np.float64]
    expected: NDArray[np.float64]
    dimension: NDArray[np.float64]
    cluster: NDArray[np.int32]
    cluster_share: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportData:
    """Everything one report page shows.

    Attributes
    ----------
    title, run_path : str
        Heading of the page, and the place of the run as text.
    summary : mapping
        ``n_samples``, ``n_clusters``, ``noise_fraction``, ``n_centroids``, ``n_components``,
        ``structure``, ``seconds`` (per step and ``total``), ``peak_rss_bytes``; what
        `workflow.report.sentences` makes sentences of; others are listed too.
    settings : mapping of str to (value, origin)
        Effective settings and where each came from (``"default"``, a file, the command line).
    versions : mapping of str to str
        Version of each program.
    explained_variance_ratio : float array of shape (n_components,)
        Share of the variance that each kept component holds.
    spectrum : float array of shape (n_eigenvalues,) [squared pixel value]
        All eigenvalues, falling.
    total_variance : float or None [squared pixel value]
        Their sum, where the spectrum is not whole.
    cluster_size : int64 array of shape (n_ids,) [images]
        Images of each cluster.
    cluster_persistence : float array of shape (n_clusters,) or None
        How long each cluster lived in the tree.
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.
    rms_radius : float array of shape (n_centroids,)
        Root mean square distance of its images to each centroid.
    centroid_label : int32 array of shape (n_centroids,)
        Cluster of each centroid, -1 for noise.
    tree : CondensedTree or None
        None where there is no tree, as with a single centroid.
    clusters_by_threshold : ClustersByThreshold or None
        Number of clusters against the threshold of the test, where there are enough images for the test.
    certainty : Certainty or None
        How sure the clusters are; None where it is not known.
    families : FamilyTable or None
        Groups of images of the same source; None where there are none.
    map : MapData or None
        Places of images; None where no map was made.
    explorer : ExplorerData or None
        Images that are shown one by one on the map; None draws it as a picture only.
    sheets : sequence of Sheet
        Pictures, the largest clusters first.
    value_range : tuple of float or None
        Values shown as black and white when images are not uint8; None: robust, from all sheets.
    steps : sequence of mapping
        ``name``, ``state``, ``seconds``, ``rows``, ``bytes_read``, ``bytes_written``, ``peak_rss_bytes``
        (of the largest process up to its end) of each step; what is missing or None stays empty.
    notes : sequence of str
        Warnings in plain words.
    lineage : sequence of (str, str, str)
        Day of each change of the clusters, what was done, what became of them; the latest first.
    truth : mapping or None
        What the maker of the images knows, such as ``ari``, ``n_sources``, ``n_clutter``.
    """

    title: str
    run_path: str
    summary: Mapping[str, Any]
    settings: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    explained_variance_ratio: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty(0))
    spectrum: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty(0))
    total_variance: float | None = None
    cluster_size: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    cluster_persistence: NDArray[np.floating[Any]] | None = None
    population: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    rms_radius: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty(0))
    centroid_label: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    tree: CondensedTree | None = None
    clusters_by_threshold: ClustersByThreshold | None = None
    certainty: Certainty | None = None
    families: FamilyTable | None = None
    map: MapData | None = None
    explorer: ExplorerData | None = None
    sheets: Sequence[Sheet] = ()
    value_range: tuple[float, float] | None = None
    steps: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    lineage: Sequence[tuple[str, str, str]] = ()
    truth: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [key for key in ("n_samples", "n_clusters") if key not in self.summary]
        if missing:
            msg = f"`summary` must hold n_samples and n_clusters; {missing} missing. Pass a run's summary."
            raise ValueError(msg)
        n_sizes = np.count_nonzero(self.cluster_size)
        if n_sizes != self.summary["n_clusters"]:
            msg = (
                f"`cluster_size` must have one entry per cluster; got {n_sizes} entries "
                f"for {self.summary['n_clusters']} clusters. Count the labels that the summary counts."
            )
            raise ValueError(msg)
        if self.cluster_persistence is not None:
            _check_equal_length(
                cluster_size=self.cluster_size, cluster_persistence=self.cluster_persistence
            )
        if self.certainty is not None:
            known = ("recovery", "border", "nearest", "is_doubtful")
            parts = {name: getattr(self.certainty, name) for name in known}
            _check_equal_length(cluster_size=self.cluster_size, **parts)
        _check_equal_length(
            population=self.population,
            rms_radius=self.rms_radius,
            centroid_label=self.centroid_label,
        )


def _check_equal_length(**arrays: NDArray[Any]) -> None:
    """Raise ValueError unless the arrays have one length."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        msg = (
            f"{', '.join(f'`{name}`' for name in lengths)} must be equally long; got lengths "
            f"{list(lengths.values())}. Pass arrays of one run."
        )
        raise ValueError(msg)


def cluster_sheet(
    cluster: int,
    size: int,
    n_samples: int,
    images: NDArray[Any] | None,
    noun: str = "cluster",
    name: str = "",
) -> Sheet:
    """Return the sheet of one cluster: its number as title, its size and share as caption.

    Parameters
    ----------
    cluster : int
        Label of the cluster.
    size, n_samples : int
        Images of the cluster and of the run.
    images : array of shape (m, height, width[, channels]), or None
        Members to show.
    noun : str
        What a label stands for.
    name : str
        What a person calls the cluster.

    Returns
    -------
    Sheet
        Of kind ``"cluster"``.

    Examples
    --------
    >>> cluster_sheet(3, 1200, 48000, None).caption
    '1,200 images, 2.5 %'
    """
    caption = f"{format_count(size, 'image')}, {format_share(size / max(1, n_samples))}"
    return Sheet(f"{noun.capitalize()} {cluster}", caption, images, "cluster", cluster, name)


def family_sheet(
    family: int,
    size: int,
    conductance: float,
    expected: float,
    images: NDArray[Any] | None,
) -> Sheet:
    """Return the sheet of one family.

    Parameters
    ----------
    family : int
        Number of the family.
    size : int
        Images of it.
    conductance, expected : float
        Its conductance, and that of a smooth cloud.
    images : array of shape (m, height, width[, channels]), or None
        Members to show.

    Returns
    -------
    Sheet
        Of kind ``"family"``.

    Examples
    --------
    >>> family_sheet(3, 57, 0.04, 0.31, None).caption
    '57 images; conductance 0.04 where a smooth cloud has 0.31'
    """
    caption = f"{format_count(size, 'image')}; conductance {conductance:.2f} where a smooth cloud has {expected:.2f}"
    return Sheet(f"Family {family}", caption, images, "family")


def noise_sheet(
    size: int, n_samples: int, images: NDArray[Any] | None, noun: str = "cluster"
) -> Sheet:
    """Return the sheet of images that belong to no cluster.

    Parameters
    ----------
    size, n_samples : int
        Images that are noise, and images of the run.
    images : array of shape (m, height, width[, channels]), or None
        Some of them, to be shown.
    noun : str
        What a label stands for.

    Returns
    -------
    Sheet
        Of kind ``"noise"``.
    """
    caption = f"{format_count(size, 'image')}, {format_share(size / max(1, n_samples))}; label -1"
    title = "Noise" if noun == "cluster" else f"In no {noun}"
    return Sheet(title, caption, images, "noise")


def outlier_sheet(
    images: NDArray[Any] | None, scores: NDArray[Any], n_near: NDArray[Any] | None = None
) -> Sheet:
    """Return a sheet of the strongest outliers, with the range of their scores as caption.

    Parameters
    ----------
    images : array of shape (m, height, width[, channels]), or None
        The images, strongest first.
    scores : float array of shape (m,)
        Their outlier scores.
    n_near : int array of shape (m,), optional
        How many other outliers are near each; by default the images are alone.

    Returns
    -------
    Sheet
        Of kind ``"outliers"``.
    """
    caption = "none at hand"
    if len(scores):
        caption = f"outlier score {float(np.max(scores)):.3g} down to {float(np.min(scores)):.3g}"
    if n_near is None:
        title, words = "Strongest outliers", "lone images, at most one of each centroid"
    else:
        title = "Small groups far out"
        words = f"one image of each; {int(np.min(n_near)) + 1:,} or more images lie together"
    return Sheet(title, f"{words}; {caption}", images, "outliers")


def copies_sheet(
    sizes: NDArray[Any], images: NDArray[Any] | None, *, title: str, what: str, command: str
) -> Sheet:
    """Return the sheet of images that come many times, the most frequent first.

    Parameters
    ----------
    sizes : int array of shape (m,) [images]
        How many there are of each.
    images : array of shape (m, height, width[, channels]), or None
        One of each.
    title, what : str
        What they are, in a word and in more.
    command : str
        What lists all groups.

    Returns
    -------
    Sheet
        Of kind ``"outliers"``.
    """
    each = " to ".join(f"{size:,}" for size in sorted({int(np.min(sizes)), int(np.max(sizes))}))
    return Sheet(title, f"{what}; {each} images each; all: {command}", images, "outliers")
