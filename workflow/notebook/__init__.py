"""What a run shows in Jupyter: progress under the cell, itself as HTML, plots and rows; never on workers."""
