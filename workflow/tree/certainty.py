"""What is known of how sure the clusters of a tree are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A cluster that is found again in a smaller share of the redrawn trees is doubtful.
DOUBTFUL = 0.9
#: Shares of redrawn numbers of clusters below and above the interval.
TAILS = (0.05, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """How sure a tree and its clusters are.

    Attributes
    ----------
    resampled_n_clusters : int64 array of shape (n_resamples,)
        Number of clusters on each set of redrawn counts.
    recovery : float64 array of shape (n_clusters,)
        Share of the redrawn trees in which a cluster is found again.
    border : float64 array of shape (n_clusters,)
        Confidence of its weakest border, in [0, 1]: one minus the ratio of the
        contrast test; 1 where nothing crosses.
    nearest : int32 array of shape (n_clusters,)
        The cluster behind that border, else the one with the nearest centroid;
        -1 where there is no other.
    """

    resampled_n_clusters: NDArray[np.int64]
    recovery: NDArray[np.float64]
    border: NDArray[np.float64]
    nearest: NDArray[np.int32]

    @property
    def is_doubtful(self) -> NDArray[np.bool_]:
        """True for clusters that vanish in more than a tenth of the redrawn trees."""
        return self.recovery < DOUBTFUL

    @classmethod
    def unknown(cls) -> Self:
        """Return the certainty of a tree that was not assessed: every array is empty."""
        none = np.empty(0)
        return cls(none.astype(np.int64), none, none, none.astype(np.int32))

    def bounds(self, n_clusters: int) -> tuple[int, int]:
        """Return the numbers of clusters that most redrawn trees lie between.

        Parameters
        ----------
        n_clusters : int
            Clusters of the tree, which lies between as well.

        Returns
        -------
        tuple of int
            5th and 95th percentile.
        """
        found = [n_clusters]
        if len(self.resampled_n_clusters):
            quantiles = np.quantile(self.resampled_n_clusters, TAILS, method="inverted_cdf")
            found += quantiles.astype(int).tolist()
        return min(found), max(found)
