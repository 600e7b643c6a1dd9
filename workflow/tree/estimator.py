"""The tree as an estimator with the conventions of scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from workflow.errors import ConfigError
from workflow.estimators import validated_rows
from workflow.graph import Graph
from workflow.tree.build import build_tree
from workflow.tree.cutting import cut
from workflow.tree.density.method import MIN_LOG_DENSITY_RISE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class CentroidTree(ClusterMixin, BaseEstimator):
    """Clusters of centroids that stand for many images each.

    Parameters
    ----------
    method : {"auto", "contrast", "density", "hdbscan", "modularity"}
        How to build the tree, as for `workflow.tree.build_tree`.
    min_cluster_size : int or "auto" [images]
        Minimum images of a cluster.
    min_samples : int or "auto"
        Smoothing of the density.
    cluster_selection_method : {"eom", "leaf"}
        How clusters are chosen.
    min_log_density_rise : float
        How much denser than a split its sides must be, in log density.
    dimension : float, optional
        Intrinsic dimension; the number of components if not given.
    n_resamples : int
        Trees on redrawn counts that tell how sure the clusters are.

    Attributes
    ----------
    tree_ : ClusterTree
        The whole result.
    labels_ : int32 array of shape (n_centroids,)
        Cluster of each centroid, -1 for noise.
    probabilities_ : float32 array of shape (n_centroids,)
        Depth in the cluster, in [0, 1].
    n_clusters_ : int
        Number of clusters.
    condensed_tree_ : CondensedTree
        Columns `parent`, `child`, `lambda_val`, `child_size` [images].
    cluster_persistence_ : float64 array of shape (n_clusters,)
        Persistence of each cluster.
    certainty_ : Certainty
        How sure the clusters are; unknown without `n_resamples`, and after `recut`.
    n_features_in_ : int
        Components of a centroid.
    feature_names_in_ : array of str of shape (n_features_in,)
        Their names, where `X` had some.
    """

    def __init__(
        self,
        *,
        method: str = "auto",
        min_cluster_size: int | str = "auto",
        min_samples: int | str = "auto",
        cluster_selection_method: str = "eom",
        min_log_density_rise: float = MIN_LOG_DENSITY_RISE,
        dimension: float | None = None,
        n_resamples: int = 0,
    ) -> None:
        self.method = method
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.cluster_selection_method = cluster_selection_method
        self.min_log_density_rise = min_log_density_rise
        self.dimension = dimension
        self.n_resamples = n_resamples

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        population: ArrayLike | None = None,
        graph: Graph | tuple[ArrayLike, ...] | None = None,
        mean_distance: ArrayLike | None = None,
    ) -> Self:
        """Build the tree.

        Parameters
        ----------
        X : float array of shape (n_centroids, n_components)
            Centroids; a Dask array is computed.
        y : None
            Ignored.
        population : int array of shape (n_centroids,), optional [images]
            Images per centroid; one each if not given.
        graph : Graph or tuple of arrays, optional
            The centroid graph, or its CSR arrays ``(indptr, indices,
            weights)`` or ``(indptr, indices, weights_two, weights)``; without
            it all centroids are joined along the Euclidean minimum spanning
            tree.
        mean_distance : float array of shape (n_centroids,), optional
            Mean distance of the images of a centroid to it.

        Returns
        -------
        CentroidTree
            The fitted estimator.

        Raises
        ------
        ValueError
            If an array or a parameter does not fit; a ConfigError where it is not `X`.
        """
        points = np.asarray(validated_rows(self, X, reset=True, dtypes=["float64"]))
        n_centroids = len(points)
        if population is None:
            population = np.ones(n_centroids, np.int64)
        if graph is None:
            graph = (np.zeros(n_centroids + 1, np.int64), np.empty(0, np.int32), np.empty(0, int))
        self.tree_ = build_tree(
            points,
            population,
            graph if isinstance(graph, Graph) else _as_graph(graph),
            dimension=float(points.shape[-1]) if self.dimension is None else self.dimension,
            method=self.method,
            min_cluster_size=self.min_cluster_size,
            min_samples=self.min_samples,
            cluster_selection_method=self.cluster_selection_method,
            min_log_density_rise=self.min_log_density_rise,
            mean_distance=mean_distance,
            n_resamples=self.n_resamples,
        )
        return self._publish()

    def recut(self, **how: Any) -> Self:
        """Label anew from the fitted tree.

        Parameters
        ----------
        **how
            Arguments of `workflow.tree.cut`.

        Returns
        -------
        CentroidTree
            The estimator with other labels.
        """
        check_is_fitted(self, "tree_")
        self.tree_ = cut(self.tree_, **how)
        return self._publish()

    def _publish(self) -> Self:
        """Set the attributes that follow from the tree."""
        self.labels_ = self.tree_.label
        self.probabilities_ = self.tree_.membership
        self.n_clusters_ = self.tree_.n_clusters
        self.condensed_tree_ = self.tree_.condensed
        self.cluster_persistence_ = self.tree_.persistence
        self.certainty_ = self.tree_.certainty
        return self


def _as_graph(arrays: tuple[ArrayLike, ...]) -> Graph:
    """Return the graph of CSR arrays with one array of weights, or with those of two and of three."""
    if len(arrays) not in {3, 4}:
        msg = (
            f"graph must be a Graph, or its three or four CSR arrays; got {len(arrays)} arrays. "
            "Pass the centroid graph."
        )
        raise ConfigError(msg)
    indptr, indices, *weights = (np.asarray(part) for part in arrays)
    return Graph(indptr, indices, weights[-1], weights[0])
