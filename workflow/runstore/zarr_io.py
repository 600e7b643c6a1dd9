"""All that other rooms need of Zarr: images where they lie, and arrays of our own.

`image_store` opens users' images, Zarr and .npy alike; `zarr_read` reads any Zarr array, and
`stored_rows` makes rows of it; `zarr_write` creates our arrays, and `rows_writer` fills them;
`shards` holds the format of their files.
"""

from workflow.runstore.image_store import (
    IMAGE_DTYPES,
    ImageStore,
    check_images,
    full_name,
    is_readable_in_place,
    missing_path,
    open_images,
    read_npy_header,
    sample_axis,
    split_key,
)
from workflow.runstore.joined_images import JoinedImages, some_images
from workflow.runstore.rows_writer import RowsWriter, rows_writers, shard_file, write_rows
from workflow.runstore.stored_rows import StoredRows
from workflow.runstore.zarr_read import (
    GROUP_METADATA,
    array_dtype,
    array_names,
    crc,
    node_kind,
    read_array,
    read_attrs,
    read_rows,
)
from workflow.runstore.zarr_write import (
    compresses,
    consolidate,
    create_group,
    create_rows_array,
    write_array,
    write_attrs,
)

__all__ = [
    "GROUP_METADATA",
    "IMAGE_DTYPES",
    "ImageStore",
    "JoinedImages",
    "RowsWriter",
    "StoredRows",
    "array_dtype",
    "array_names",
    "check_images",
    "compresses",
    "consolidate",
    "crc",
    "create_group",
    "create_rows_array",
    "full_name",
    "is_readable_in_place",
    "missing_path",
    "node_kind",
    "open_images",
    "read_array",
    "read_attrs",
    "read_npy_header",
    "read_rows",
    "rows_writers",
    "sample_axis",
    "shard_file",
    "some_images",
    "split_key",
    "write_array",
    "write_attrs",
    "write_rows",
]
