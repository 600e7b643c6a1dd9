"""Input of the estimators, checked as scikit-learn checks it; of a Dask array nothing is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from sklearn.utils.validation import validate_data

from workflow.errors import ImagesError

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator


def validated_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, dtypes: list[str], finite: bool = True
) -> Any:
    """Check rows, their features' number and names; note the latter two or compare them.

    Parameters
    ----------
    estimator : BaseEstimator
        What is fitted or asked; gets `n_features_in_` and `feature_names_in_`.
    X : array_like, data frame or Dask array of shape (n_samples, n_features)
        Rows of numbers; a Dask array may have an unknown number of samples.
    reset : bool
        Whether the features are noted, as in `fit`, or compared with those noted.
    dtypes : list of str
        Types that rows keep; others become the first of them.
    finite : bool
        Whether NaN and infinity are refused here, where `X` is in memory.

    Returns
    -------
    NumPy or Dask array of shape (n_samples, n_features)
        Dask blocks hold whole rows.

    Raises
    ------
    ImagesError
        If values are masked, or a Dask array is not of two known dimensions of real numbers.
    ValueError
        If the rows are not what scikit-learn takes, or have other features.
    """
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        msg = (
            "`X` must have a value in every place; got a masked array. Fill it, or drop those rows."
        )
        raise ImagesError(msg)
    if not isinstance(X, da.Array):
        return validate_data(estimator, X, reset=reset, dtype=dtypes, ensure_all_finite=finite)
    if X.ndim != 2 or not X.shape[1] > 0:
        msg = f"`X` must have two dimensions and known features; got shape {X.shape}. Reshape your data, for instance with `X.reshape(len(X), -1)`."
        raise ImagesError(msg)
    if X.shape[0] == 0:
        msg = f"`X` must have at least 1 row; got shape {X.shape}. Pass some."
        raise ImagesError(msg)
    if X.dtype.kind not in "biufO":
        msg = f"`X` must hold real numbers; got {X.dtype}. Convert them with `astype`."
        raise ImagesError(msg)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if X.numblocks[1] > 1:
        X = X.rechunk({1: -1})
    return X if X.dtype.name in dtypes else X.astype(dtypes[0])
