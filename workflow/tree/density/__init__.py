"""Method `density`: single linkage of the centroid graph on the spacing of images."""
