"""The literal way of the named packages: an oracle and a baseline, slow by design.

`dask_ml.decomposition.IncrementalPCA` goes through the images batch by batch,
`dask_ml.wrappers.Incremental` feeds scikit-learn's `MiniBatchKMeans` block by
block, and `hdbscan.HDBSCAN` clusters the centroids (the tree's method
``hdbscan``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from dask_ml.decomposition import IncrementalPCA
from dask_ml.wrappers import Incremental
from sklearn.cluster import MiniBatchKMeans

from workflow.errors import ConfigError
from workflow.pca import AUTO_MAX_COMPONENTS, PrincipalComponents
from workflow.runstore.stored_rows import rows_as_dask

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

    from workflow.mapper import Rows

#: `IncrementalPCA` divides by the number of rows before its first batch, which is zero.
HARMLESS_WARNING = "invalid value encountered in divide"


def components(
    images: Rows, block_rows: int, n_components: float | Literal["auto"]
) -> PrincipalComponents:
    """Fit dask-ml's `IncrementalPCA` on the images.

    Parameters
    ----------
    images : Rows
        The images.
    block_rows : int
        Rows of a Dask block.
    n_components : int, float or str
        A count; ``"auto"`` is 50 or as many as there are features or images.
        A share of the variance is refused: `IncrementalPCA` takes none.

    Returns
    -------
    PrincipalComponents
        With the spectrum as far as it is known: the components kept.
    """
    if n_components != "auto" and n_components < 1:
        msg = f"`pca.n_components` must be a whole number or auto in profile reference; got {n_components}. IncrementalPCA takes no share of the variance."
        raise ConfigError(msg)
    limit = min(images.n_features, images.n_samples)
    wanted = min(AUTO_MAX_COMPONENTS, limit) if n_components == "auto" else int(n_components)
    if wanted > limit:
        msg = f"`pca.n_components` must be at most {limit}, the smaller of features and images; got {wanted}. Lower it."
        raise ConfigError(msg)
    array = rows_as_dask(images, block_rows).astype(np.float64)
    estimator = IncrementalPCA(n_components=wanted, batch_size=max(block_rows, 5 * wanted))
    fitted = estimator.fit(array)
    variance = np.asarray(fitted.explained_variance_)
    ratio = np.asarray(fitted.explained_variance_ratio_)
    total = float(variance.sum() / ratio.sum()) if ratio.sum() > 0 else 0.0
    return PrincipalComponents(
        n_samples=images.n_samples,
        mean=np.asarray(fitted.mean_),
        components=np.asarray(fitted.components_),
        explained_variance=variance,
        explained_variance_ratio=ratio,
        singular_values=np.asarray(fitted.singular_values_),
        spectrum=variance,
        total_variance=total,
    )


def centroids(scores: Rows, block_rows: int, n_centroids: int, seed: int) -> NDArray[np.float32]:
    """Fit scikit-learn's `MiniBatchKMeans` through dask-ml's `Incremental` on the scores."""
    array: Any = rows_as_dask(scores, max(block_rows, n_centroids)).astype(np.float32)
    array = array.rechunk({0: _whole_blocks(array, n_centroids), 1: -1})
    estimator = MiniBatchKMeans(n_clusters=n_centroids, random_state=seed, n_init=1)
    fitted = Incremental(estimator, shuffle_blocks=False).fit(array)
    return np.unique(np.asarray(fitted.cluster_centers_, dtype=np.float32), axis=0)


def _whole_blocks(array: da.Array, least: int) -> tuple[int, ...]:
    """Return block sizes of which none is below `least`: `partial_fit` seeds from its first block."""
    sizes = list(array.chunks[0])
    if len(sizes) > 1 and sizes[-1] < least:
        last = sizes.pop()
        sizes[-1] += last
    return tuple(sizes)
