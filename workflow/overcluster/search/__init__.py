"""Exact searches for the nearest centroids, side by side behind one protocol.

`Search` (``base.py``) says what a search is; ``products.py`` and ``panels.py`` are one each, and
``nearest.py`` chooses between them, once, from the data.  Another search is a file beside these with
a class of that protocol, and a line in ``nearest.SEARCHES`` that says which centroids it is for.  The
contract test, ``tests/overcluster/test_search.py``, runs over all of them: the same answers, to the bit.
"""

from __future__ import annotations

from workflow.overcluster.search.base import (
    CenteredCentroids,
    Search,
    as_float_rows,
    center_centroids,
)
from workflow.overcluster.search.nearest import SEARCHES, NearestCentroids
from workflow.overcluster.search.panels import PanelSearch
from workflow.overcluster.search.products import ProductSearch
from workflow.overcluster.search.running import RunningNearest

__all__ = [
    "SEARCHES",
    "CenteredCentroids",
    "NearestCentroids",
    "PanelSearch",
    "ProductSearch",
    "RunningNearest",
    "Search",
    "as_float_rows",
    "center_centroids",
]
