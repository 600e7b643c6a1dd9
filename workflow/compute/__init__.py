"""Where the work runs: this machine or a scheduler of machines."""

from workflow.compute.launch import open_client

__all__ = ["open_client"]
