"""Flows between centroids: their graph, its communities and its dendrogram."""
