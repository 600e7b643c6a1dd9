"""How a run takes in new images, and lets go of them."""
