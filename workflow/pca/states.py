"""Moments of the rows seen so far: exact integer, floating-point or low-rank moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from workflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class IntegerMoments:
    """Exact moments of rows of integers, about a fixed integer shift.

    Attributes
    ----------
    n_samples : int
        Number of rows seen.
    shift : int64 array of shape (n_features,)
        Subtracted from every row before anything is summed [pixel value].
    total : int64 array of shape (n_features,)
        Sum over rows of the shifted values [pixel value].
    second : int64 array of shape (n_features, n_features)
        Sum over rows of the outer product of the shifted values [pixel value squared].
    """

    n_samples: int
    shift: NDArray[np.int64]
    total: NDArray[np.int64]
    second: NDArray[np.int64]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.total.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class FloatMoments:
    """Moments of rows of floating-point numbers.

    Attributes
    ----------
    n_samples : int
        Number of rows seen.
    mean : float64 array of shape (n_features,)
        Mean of each feature [input unit].
    scatter : float64 array of shape (n_features, n_features)
        Sum over rows of the outer product of deviations from the mean [input unit squared].
    """

    n_samples: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.mean.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class LowRankMoments:
    """Moments of wide rows: the scatter matrix is kept along its largest directions only.

    Attributes
    ----------
    n_samples : int
        Number of rows seen.
    mean : float64 array of shape (n_features,)
        Mean of each feature [input unit].
    singular_values : float64 array of shape (n_known,)
        Singular values of the centred rows, falling; ``n_known <= rank`` [input unit].
    components : float64 array of shape (n_known, n_features)
        Directions that belong to them, of length one.
    total_scatter : float
        Sum of squared deviations over all rows and features, along the
        discarded directions too [input unit squared].
    rank : int
        Maximum number of directions.
    """

    n_samples: int
    mean: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    components: NDArray[np.float64]
    total_scatter: float
    rank: int

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.mean.shape[0])


MomentState: TypeAlias = IntegerMoments | FloatMoments | LowRankMoments

# Names and dtypes of the arrays of each kind; shapes are letters, "" is a number.
_FIELDS: dict[type[MomentState], dict[str, tuple[str, str]]] = {
    IntegerMoments: {
        "n_samples": ("int64", ""),
        "shift": ("int64", "D"),
        "total": ("int64", "D"),
        "second": ("int64", "DD"),
    },
    FloatMoments: {
        "n_samples": ("int64", ""),
        "mean": ("float64", "D"),
        "scatter": ("float64", "DD"),
    },
    LowRankMoments: {
        "n_samples": ("int64", ""),
        "mean": ("float64", "D"),
        "singular_values": ("float64", "r"),
        "components": ("float64", "rD"),
        "total_scatter": ("float64", ""),
        "rank": ("int64", ""),
    },
}


def to_arrays(state: MomentState) -> dict[str, NDArray[Any]]:
    """Give the moments as named arrays, to be stored.

    Parameters
    ----------
    state : IntegerMoments, FloatMoments or LowRankMoments
        Moments to store.

    Returns
    -------
    dict of str to ndarray
        One array per field, numbers as arrays of no dimension; the names tell
        the kind.  int64 and float64 only.

    See Also
    --------
    from_arrays : The way back.

    Examples
    --------
    >>> state = FloatMoments(2, np.array([1.0]), np.array([[2.0]]))
    >>> sorted(to_arrays(state))
    ['mean', 'n_samples', 'scatter']
    >>> from_arrays(to_arrays(state)).scatter.tolist()
    [[2.0]]
    """
    return {
        name: np.asarray(getattr(state, name), dtype)
        for name, (dtype, _) in _FIELDS[type(state)].items()
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> MomentState:
    """Rebuild the moments from named arrays.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What `to_arrays` gave, or a mapping with the same names that was read
        from a file.

    Returns
    -------
    IntegerMoments, FloatMoments or LowRankMoments
        Equal to the last bit.

    Raises
    ------
    StoreError
        If the names, dtypes or shapes are not those of one kind of moments.

    See Also
    --------
    to_arrays : Gives the arrays.
    """
    names = set(arrays)
    for cls, fields in _FIELDS.items():
        if names != set(fields):
            continue
        sizes: dict[str, int] = {}
        values: dict[str, Any] = {}
        for name, (dtype, letters) in fields.items():
            array = np.asarray(arrays[name])
            fits = array.ndim == len(letters) and array.dtype == dtype
            if not fits or any(
                sizes.setdefault(letter, size) != size
                for letter, size in zip(letters, array.shape, strict=True)
            ):
                msg = f"stored moments must hold `{name}` as {dtype} with dimensions ({', '.join(letters)}) that agree with the other arrays; got {array.dtype} of shape {array.shape}. Run the pca step again."
                raise StoreError(msg)
            values[name] = array if letters else array.item()
        return cls(**values)
    known = "; ".join(", ".join(fields) for fields in _FIELDS.values())
    msg = f"stored moments must hold one of these sets of arrays: {known}; got {', '.join(sorted(names)) or 'none'}. Run the pca step again."
    raise StoreError(msg)
