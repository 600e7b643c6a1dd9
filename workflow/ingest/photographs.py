"""The photographs and digits that scikit-learn ships.

The photographs are those of `sklearn.datasets.load_sample_images`: see
`PHOTOGRAPHS` for their authors and licence.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

#: The photographs that windows are cut from, and whom they belong to.
PHOTOGRAPHS = (
    "china.jpg by danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035, CC BY 2.0",
    "flower.jpg by vultilion, https://www.flickr.com/photos/vultilion/6056698931, CC BY 2.0",
)


@lru_cache(maxsize=1)
def photographs() -> list[NDArray[np.uint8]]:
    """Return the two photographs, decoded once per process."""
    images: list[NDArray[np.uint8]] = datasets().load_sample_images().images
    return images


def datasets() -> ModuleType:
    """Import scikit-learn's pictures when they are asked for: that takes a second."""
    return importlib.import_module("sklearn.datasets")
