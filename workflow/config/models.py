"""One model per section; every field has a default, a range and a sentence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workflow.config.compute import ComputeSettings
from workflow.config.fields import AutoInt, Components, ScoreOrOff, Section, Shape


class IngestSettings(Section):
    """Reading images that are not in Zarr or .npy."""

    shape: Shape = None
    """Shape of one image, H,W,C: required for folders and raw binary files."""
    dtype: Literal["uint8", "uint16", "float16", "float32", "float64"] | None = None
    """Type of the values of a raw binary file."""
    on_unreadable: Literal["skip", "fail"] = "skip"
    """Whether unreadable files of a folder are listed and left out, or end the run."""


class PcaSettings(Section):
    """Principal components of the images."""

    n_components: Components = "auto"
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
    max_outlier_score: ScoreOrOff = 0.8
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
