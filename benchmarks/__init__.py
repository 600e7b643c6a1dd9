"""The measurements behind the pages docs/performance.md, sizes.md, scaling.md and quality.md."""
