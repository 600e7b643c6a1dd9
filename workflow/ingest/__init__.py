"""Images in, one chunked Zarr array out."""

from workflow.ingest.arrays import ArraySource, DaskSource, array_source
from workflow.ingest.demo import DemoSource
from workflow.ingest.embedding import FunctionEmbedder, embedded, open_source
from workflow.ingest.images import ImagesInput, open_input
from workflow.ingest.parts import PartsPlan, begin_parts, finish_parts, write_part
from workflow.ingest.sameness import may_be_same, same_values
from workflow.ingest.source import BaseSource, Source, remarks
from workflow.ingest.writer import IngestReport, dims_of, ingest

__all__ = [
    "ArraySource",
    "BaseSource",
    "DaskSource",
    "DemoSource",
    "FunctionEmbedder",
    "ImagesInput",
    "IngestReport",
    "PartsPlan",
    "Source",
    "array_source",
    "begin_parts",
    "dims_of",
    "embedded",
    "finish_parts",
    "ingest",
    "may_be_same",
    "open_input",
    "open_source",
    "remarks",
    "same_values",
    "write_part",
]
