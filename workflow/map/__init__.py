"""The map: landmarks laid out in two dimensions by their neighbours, and rows placed around them.

The layout is t-SNE with the repulsion of all points summed on a grid; a row lies beside its nearest
landmark, in the direction in which the map goes on from there.
"""

from __future__ import annotations

from workflow.map.affinities import flow_affinities, isolated, neighbor_affinities
from workflow.map.aligning import Turn
from workflow.map.layout import lay_out
from workflow.map.placing import Places

__all__ = ["Places", "Turn", "flow_affinities", "isolated", "lay_out", "neighbor_affinities"]
