"""What a person looks at after a run."""

from workflow.report.data import (
    Certainty,
    CondensedTree,
    Ladder,
    ReportData,
    Sheet,
    cluster_sheet,
    noise_sheet,
    outlier_sheet,
)
from workflow.report.live import LiveRow, live_html
from workflow.report.notebook import run_html, unfinished_html
from workflow.report.page import render
from workflow.report.thumbnails import contact_sheet

__all__ = [
    "Certainty",
    "CondensedTree",
    "Ladder",
    "LiveRow",
    "ReportData",
    "Sheet",
    "cluster_sheet",
    "contact_sheet",
    "live_html",
    "noise_sheet",
    "outlier_sheet",
    "render",
    "run_html",
    "unfinished_html",
]
