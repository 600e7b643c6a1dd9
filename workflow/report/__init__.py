"""What a person looks at after a run."""

from workflow.report.contact_sheets import contact_sheet
from workflow.report.data import (
    Certainty,
    ClustersByThreshold,
    CondensedTree,
    FamilyTable,
    ReportData,
    Sheet,
    cluster_sheet,
    copies_sheet,
    family_sheet,
    noise_sheet,
    outlier_sheet,
)
from workflow.report.explore import ExplorerData
from workflow.report.map_plot import ColumnData, MapData
from workflow.report.notebook import LiveRow, live_html, run_html, unfinished_html
from workflow.report.page import render, with_times

__all__ = [
    "Certainty",
    "ClustersByThreshold",
    "ColumnData",
    "CondensedTree",
    "ExplorerData",
    "FamilyTable",
    "LiveRow",
    "MapData",
    "ReportData",
    "Sheet",
    "cluster_sheet",
    "contact_sheet",
    "copies_sheet",
    "family_sheet",
    "live_html",
    "noise_sheet",
    "outlier_sheet",
    "render",
    "run_html",
    "unfinished_html",
    "with_times",
]
