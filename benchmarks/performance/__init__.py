"""Each step against a peer, in the same run on the same images: docs/performance.md."""
