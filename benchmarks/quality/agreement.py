"""How good labels are: figures that JSON can hold, None where there is nothing to measure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

#: Cluster of each image, an int array of shape (n_samples,); negative for those of none.
Labels = NDArray[np.integer]


def n_clusters(labels: Labels) -> int:
    """Return how many clusters labels name, noise not counted."""
    return len(np.unique(labels[labels >= 0]))


def agreement(truth: Labels, labels: Labels) -> dict[str, float | int | None]:
    """Compare labels with the truth.

    Parameters
    ----------
    truth : int array of shape (n_samples,)
        True cluster of each image, negative for those of none.
    labels : int array of shape (n_samples,)
        Found cluster, negative for noise.

    Returns
    -------
    dict
        ``n``, ``n_true``, ``n_found``; ``ari`` and ``ami`` over the images that
        belong to a cluster, among which those called noise count as one group
        more; ``ari_kept`` and ``purity`` over those of them that are not called
        noise, and their share ``kept``; ``noise_share``, ``noise_precision``
        and ``noise_recall``.  The purity is the share of images whose true
        cluster is the most frequent one of their found cluster.
    """
    known, noise = truth >= 0, labels < 0
    kept = known & ~noise
    grouped = np.where(noise, -1, labels)
    is_any = bool(kept.any())
    return {
        "n": len(truth),
        "n_true": n_clusters(truth),
        "n_found": n_clusters(labels),
        "ari": float(adjusted_rand_score(truth[known], grouped[known])),
        "ami": float(adjusted_mutual_info_score(truth[known], grouped[known])),
        "ari_kept": float(adjusted_rand_score(truth[kept], labels[kept])) if is_any else None,
        "purity": _purity(truth[kept], labels[kept]) if is_any else None,
        "kept": _share(kept, known),
        "noise_share": float(noise.mean()),
        "noise_precision": _share(~known, noise),
        "noise_recall": _share(noise, ~known),
    }


def _purity(truth: Labels, labels: Labels) -> float:
    counts = contingency_matrix(truth, labels, sparse=True)
    return float(counts.max(axis=0).sum() / len(truth))


def stability(one: Labels, other: Labels) -> dict[str, float | None]:
    """Return the AMI of two labellings over the images that neither calls noise, and their share."""
    both = (one >= 0) & (other >= 0)
    ami = float(adjusted_mutual_info_score(one[both], other[both])) if both.any() else None
    return {"ami": ami, "share": float(both.mean())}


def _share(wanted: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    """Return the share of some images among others; None where there are no others."""
    return float(wanted[among].mean()) if among.any() else None
