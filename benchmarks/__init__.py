"""How fast each step is against a peer, in the same run on the same images."""
