"""How a run takes in new images, and lets go of them."""

#: Steps whose results grow or are made anew.
CHANGED = (
    "pca",
    "projection",
    "families",
    "overcluster",
    "centroid_graph",
    "map",
    "tree",
    "labels",
)
