"""Where the work runs: this machine, or a scheduler of machines."""

from workflow.compute.launch import describe_dashboard, open_client
from workflow.compute.package_upload import upload_package
from workflow.compute.workers import missing_paths, run_on_workers

__all__ = ["describe_dashboard", "missing_paths", "open_client", "run_on_workers", "upload_package"]
