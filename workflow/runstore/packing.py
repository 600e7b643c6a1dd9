"""Values packed by the CF conventions (scale, offset, fill values), decoded by xarray and as xarray decodes them."""

from __future__ import annotations

import base64
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Attributes by which stored numbers mean others.  ``valid_range`` is not among them: xarray does not apply it.
ATTRIBUTES = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")
#: Values that are decoded at a time: decoding takes a few times their memory.
DECODED_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """How the values of an array are packed.

    Attributes
    ----------
    stored : numpy.dtype
        Type of the stored numbers, in native byte order.
    dtype : numpy.dtype
        Type of the decoded values.
    attributes : tuple of (str, object)
        The array's `ATTRIBUTES`.
    """

    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    attributes: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, name: str, stored: np.dtype[Any], attributes: Mapping[str, Any]) -> Packing | None:
        """Return the packing of an array; None where the numbers mean themselves.

        Parameters
        ----------
        name : str
            What to call the array in the error.
        stored : numpy.dtype
            Type of the stored numbers, of any byte order.
        attributes : mapping of str to object
            All attributes of the array.

        Returns
        -------
        Packing or None
            None, too, where NaN stands for missing values: they are NaN without decoding.

        Raises
        ------
        ImagesError
            If an attribute cannot be used.
        """
        if stored.kind not in "iuf":
            return None
        stored = stored.newbyteorder("=")
        held = {key: attributes[key] for key in ATTRIBUTES if key in attributes}
        try:
            for key in ("_FillValue", "missing_value"):
                if isinstance(held.get(key), str):
                    # So xarray writes the numbers of floating-point arrays into Zarr 3.
                    held[key] = struct.unpack("<d", base64.b64decode(held[key]))[0]
            if all(stored.kind == "f" and np.isnan(value).all() for value in held.values()):
                return None
            empty = _decoded(np.empty(0, stored), held)
        except (ValueError, TypeError, OverflowError, struct.error) as err:
            msg = f"the attributes {', '.join(held)} must tell how values are packed; those of {name} cannot be used ({err}). Correct them, or remove them if the values are not packed."
            raise ImagesError(msg) from None
        return cls(stored, empty.dtype, tuple(held.items()))

    def decode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values that stored numbers mean; NaN where they are missing.

        Parameters
        ----------
        values : ndarray
            Stored numbers.

        Returns
        -------
        ndarray of the same shape
            In `dtype`.
        """
        stored, found = values.reshape(-1), np.empty(values.size, self.dtype)
        for start in range(0, stored.size, DECODED_VALUES):
            part = slice(start, start + DECODED_VALUES)
            found[part] = _decoded(stored[part], dict(self.attributes))
        return found.reshape(values.shape)

    def describe(self) -> dict[str, Any]:
        """Return the attributes, JSON-able, for fingerprints."""
        return {key: str(np.asarray(value).tolist()) for key, value in self.attributes}


def decode_variable(variable: Any) -> Any:
    """Return an xarray Variable decoded; as lazily as it was given."""
    # Slow to import, and rarely wanted.
    from xarray.conventions import decode_cf_variable

    held = {key: value for key, value in variable.attrs.items() if key in ATTRIBUTES}
    if not held:
        return variable
    bare = type(variable)(variable.dims, variable.data, held)
    with warnings.catch_warnings():
        # Several fill values are all missing values; fill values that cannot occur are none.
        warnings.simplefilter("ignore")
        return decode_cf_variable("images", bare)


def _decoded(values: NDArray[Any], attributes: Mapping[str, Any]) -> NDArray[Any]:
    """Return decoded values of one dimension."""
    from xarray import Variable

    found: NDArray[Any] = decode_variable(Variable(("value",), values, attributes)).values
    return found
