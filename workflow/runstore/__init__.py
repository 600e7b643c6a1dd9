"""Everything a run keeps on disk."""

from workflow.runstore.store import RunStore

__all__ = ["RunStore"]
