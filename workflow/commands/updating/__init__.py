"""How a run takes in new images."""
