"""How a stored array is described: dimensions, dtype, unit; each step declares those that it writes."""

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
