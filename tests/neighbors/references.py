"""Neighbours by brute force."""

from __future__ import annotations

import numpy as np


def by_brute_force(X, k, rows=None):
    """Return (index, distance) of some rows by rising (distance, index), the row itself left out."""
    X = X.astype(np.float64)
    rows = np.arange(len(X)) if rows is None else rows
    index = np.empty((len(rows), k), np.int64)
    distance = np.empty((len(rows), k))
    for place, row in enumerate(rows):
        apart = ((X - X[row]) ** 2).sum(axis=1)
        apart[row] = np.inf
        order = np.lexsort((np.arange(len(X)), apart))[:k]
        index[place], distance[place] = order, np.sqrt(apart[order])
    return index, distance
