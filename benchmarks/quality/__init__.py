"""Whether the clusters are found that are there, and no others: docs/quality.md."""
