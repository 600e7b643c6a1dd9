"""Images in, one chunked Zarr array out."""

from workflow.ingest.arrays import ArraySource, DaskSource
from workflow.ingest.base import ImageSource
from workflow.ingest.demo import DemoSource
from workflow.ingest.parts import PartsPlan, begin_parts, finish_parts, write_part
from workflow.ingest.sources import open_source
from workflow.ingest.writer import IngestReport, dims_of, ingest

__all__ = [
    "ArraySource",
    "DaskSource",
    "DemoSource",
    "ImageSource",
    "IngestReport",
    "PartsPlan",
    "begin_parts",
    "dims_of",
    "finish_parts",
    "ingest",
    "open_source",
    "write_part",
]
