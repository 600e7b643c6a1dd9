"""What it costs to spread a run over many workers: docs/scaling.md."""
