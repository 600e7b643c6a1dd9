"""One model per section; every field has a default, a range and a sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from dask.utils import parse_bytes
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A group of settings: frozen, strict about names, documented by the string under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _shape(value: Any) -> Any:
    """Read ``"16,16,3"`` as a tuple of integers."""
    if isinstance(value, str):
        return tuple(int(part) for part in value.split(","))
    return value


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


class IngestSettings(Section):
    """Reading images that are not in Zarr or .npy."""

    shape: Annotated[tuple[int, ...] | None, BeforeValidator(_shape)] = None
    """Shape of one image, H,W,C: required for folders and raw binary files."""
    dtype: Literal["uint8", "uint16", "float16", "float32", "float64"] | None = None
    """Type of the values of a raw binary file."""
    on_unreadable: Literal["skip", "fail"] = "skip"
    """Whether unreadable files of a folder are listed and left out, or end the run."""


class PcaSettings(Section):
    """Principal components of the images."""

    n_components: Annotated[int | float | Literal["auto"], BeforeValidator(_components)] = "auto"
    """A count, a share of the variance between 0 and 1, or auto: 99 % of the variance, at most 50."""
    whiten: bool = False
    """Whether scores are divided by their standard deviation (amplifies noise)."""
    max_full_features: int = Field(default=4096, ge=1, le=32_768)
    """Most features for which the full second moments are kept; wider images use low-rank states."""


class ProjectionSettings(Section):
    """Scores of the images on the components."""

    dtype: Literal["float32", "float16"] = "float32"
    """Type of the stored scores; float16 halves their size and keeps three digits."""


class OverclusterSettings(Section):
    """Mini-batch k-means with many more centroids than clusters are expected."""

    n_centroids: AutoInt = "auto"
    """Number of centroids, or auto: one for 15 images, up to 16,384; one for 2 below 5,000 images."""
    max_rounds: int = Field(default=40, ge=1, le=10_000)
    """Most rounds of assignment and update on the sample."""


class CentroidGraphSettings(Section):
    """Graph of the centroids, counted from the nearest centroids of each image."""

    dimension_rows: int = Field(default=2_000, ge=100, le=20_000)
    """Images whose neighbours are measured for the intrinsic dimension."""


class TreeSettings(Section):
    """Hierarchy of the centroids and the clusters chosen from it."""

    method: Literal["auto", "contrast", "density", "hdbscan", "modularity"] = "auto"
    """Rule that finds the clusters."""
    min_cluster_size: AutoInt = "auto"
    """Fewest images of a cluster."""
    min_samples: AutoInt = "auto"
    """Neighbours that make a core distance; auto: all in the graph for density, 5 for hdbscan."""
    flows: Literal["auto", "two", "three"] = "auto"
    """Whether an image counts for its nearest two centroids or all pairs of its nearest three; auto: the method's own."""
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    """Excess of mass, or the leaves of the condensed tree."""
    n_resamples: int = Field(default=20, ge=0, le=10_000)
    """Trees on redrawn counts that tell how sure the clusters are; 0 leaves that unknown."""


class LabelsSettings(Section):
    """Labels carried from centroids to images."""

    noise: Literal["keep", "resolve"] = "keep"
    """Whether noise keeps the label -1 or gets the cluster the graph leads to."""
    max_outlier_score: Annotated[float | Literal["off"], BeforeValidator(_score_or_off)] = 0.8
    """Images above (0.7 in noise centroids) are noise where the tree found any, 0.5 to below 1 (0.8: two radii); off: those of noise centroids."""

    @property
    def outlier_limit(self) -> float | None:
        """The largest outlier score that is not noise; None where centroids decide."""
        return None if self.max_outlier_score == "off" else float(self.max_outlier_score)


class ReportSettings(Section):
    """The page that a person looks at."""

    n_clusters_shown: int = Field(default=48, ge=0, le=1000)
    """Most clusters that get a contact sheet, the largest first."""
    images_per_cluster: int = Field(default=24, ge=1, le=200)
    """Most pictures on a contact sheet."""


class ComputeSettings(Section):
    """Where the work runs; never changes a result and never makes a step stale."""

    launcher: Literal["local", "address"] = "local"
    """Workers on this machine, or a scheduler that runs already."""
    address: str | None = None
    """Address of that scheduler, such as tcp://10.0.0.1:8786."""
    scheduler_file: str | None = None
    """File that a scheduler wrote with --scheduler-file; instead of the address."""
    n_workers: AutoInt = "auto"
    """Worker processes, or auto: one for each core."""
    threads_per_worker: int = Field(default=1, ge=1, le=256)
    """Threads of each worker; each computes with one BLAS thread."""
    memory_limit: Annotated[int | Literal["auto"], BeforeValidator(_memory)] = "auto"
    """Memory of each worker, such as 4 GiB, or auto: an equal share of the machine."""
    dashboard: bool = True
    """Whether Dask's dashboard is served, on 127.0.0.1 only."""


class Config(Section):
    """All settings of one run; a section per step."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every random draw."""
    profile: Literal["default", "reference"] = "default"
    """Our own steps, or the literal, slow way of dask-ml, scikit-learn and hdbscan."""
    block_rows: AutoInt = "auto"
    """Images of a block, the piece that a task holds; auto: by the width of the images."""
    ingest: IngestSettings = IngestSettings()
    """Reading images that are not in Zarr or .npy."""
    pca: PcaSettings = PcaSettings()
    """Principal components of the images."""
    projection: ProjectionSettings = ProjectionSettings()
    """Scores of the images on the components."""
    overcluster: OverclusterSettings = OverclusterSettings()
    """Mini-batch k-means with many more centroids than clusters are expected."""
    centroid_graph: CentroidGraphSettings = CentroidGraphSettings()
    """Graph of the centroids."""
    tree: TreeSettings = TreeSettings()
    """Hierarchy of the centroids and the clusters chosen from it."""
    labels: LabelsSettings = LabelsSettings()
    """Labels carried from centroids to images."""
    report: ReportSettings = ReportSettings()
    """The page that a person looks at."""
    compute: ComputeSettings = ComputeSettings()
    """Where the work runs."""
