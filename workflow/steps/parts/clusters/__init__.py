"""What stays of clusters over many labellings of a run."""
