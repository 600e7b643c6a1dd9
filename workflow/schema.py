"""Name, dimensions, dtype and unit of every stored array."""

from __future__ import annotations

from typing import NamedTuple


class ArraySpec(NamedTuple):
    """What one stored array holds.

    Attributes
    ----------
    dims : tuple of str
        Names of its dimensions.
    dtype : str
        NumPy type; a list where it follows the images.
    unit : str
        Unit of its values.
    description : str
        One sentence.
    """

    dims: tuple[str, ...]
    dtype: str
    unit: str
    description: str


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

#: Arrays of ``RUN/model.zarr``, by the step that writes them; those of the tree are in `TREE_PREFIX`.
MODEL: dict[str, ArraySpec] = {
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
    "projection_mean": ArraySpec(
        ("feature",), "float64", "pixel value", "mean that the scores were made with"
    ),
    "projection_components": ArraySpec(
        ("component", "feature"), "float64", "1", "components that the scores were made with"
    ),
    "projection_variance": ArraySpec(
        ("component",), "float64", "pixel value squared", "variance used for whitening"
    ),
    "centroids": ArraySpec(("centroid", "component"), "float32", "score", "centroids"),
    "population": ArraySpec(("centroid",), "int64", "image", "images nearest to the centroid"),
    "centroid_mean": ArraySpec(
        ("centroid", "component"), "float64", "score", "mean of the images nearest to the centroid"
    ),
    "rms_radius": ArraySpec(
        ("centroid",), "float64", "score", "root mean square distance of its images"
    ),
    "mean_distance": ArraySpec(("centroid",), "float64", "score", "mean distance of its images"),
    "max_distance": ArraySpec(("centroid",), "float64", "score", "largest distance of its images"),
    "exemplar": ArraySpec(
        ("centroid", "rank"), "int64", "image", "index of its nearest images; -1 where fewer"
    ),
    "graph_indptr": ArraySpec(("node",), "int64", "1", "CSR row pointers of the centroid graph"),
    "graph_indices": ArraySpec(("edge",), "int32", "centroid", "CSR column indices"),
    "graph_weights_two": ArraySpec(
        ("edge",), "int64", "image", "images whose nearest two centroids are the pair"
    ),
    "graph_weights_three": ArraySpec(
        ("edge",), "int64", "image", "images with the pair among their nearest three"
    ),
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
    "layers": ArraySpec(("layer", "centroid"), "int32", "cluster", "nested labels, coarse to fine"),
}

#: Names of the tree's own arrays in ``model.zarr`` start so.
TREE_PREFIX = "tree_"
#: Names of the moments in ``model.zarr`` start so.
MOMENTS_PREFIX = "moments_"
