"""Images in, one chunked Zarr array out."""

from workflow.ingest.arrays import ArraySource, DaskSource, array_source
from workflow.ingest.demo import DemoSource
from workflow.ingest.embedding import FunctionEmbedder, embedded, open_source
from workflow.ingest.grown import (
    file_of,
    files_of,
    noted_of_images,
    possible_files,
    some_files,
    some_rows,
)
from workflow.ingest.images import ImagesInput, open_input
from workflow.ingest.parts import PartsPlan, begin_parts, finish_parts, write_part
from workflow.ingest.sameness import first_difference, may_be_same, same_values
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
    "file_of",
    "files_of",
    "finish_parts",
    "first_difference",
    "ingest",
    "may_be_same",
    "noted_of_images",
    "open_input",
    "open_source",
    "possible_files",
    "remarks",
    "same_values",
    "some_files",
    "some_rows",
    "write_part",
]
