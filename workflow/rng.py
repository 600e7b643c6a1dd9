"""Independent random generators from one seed, a step name and a block number."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, step: str, block: int = 0) -> np.random.Generator:
    """Return the generator that belongs to one block of one step.

    Parameters
    ----------
    seed : int
        Seed of the run, not negative.
    step : str
        Name of the step, or of a part of it such as ``"overcluster/sample"``.
    block : int
        Index of the block, round or batch that draws.

    Returns
    -------
    numpy.random.Generator
        The same stream for the same three values, on any worker and in any
        order; independent streams otherwise.

    Examples
    --------
    >>> first = generator(0, "overcluster", 3).integers(1 << 30, size=2)
    >>> again = generator(0, "overcluster", 3).integers(1 << 30, size=2)
    >>> bool((first == again).all())
    True
    """
    return np.random.default_rng([seed, zlib.crc32(step.encode()), block])
