"""Method `modularity`: the cut of largest modularity of the dendrogram of the flows."""
