"""All that other rooms need of Zarr: images where they lie, and arrays of our own.

The reading is in `zarr_read`, the writing in `zarr_write` and `zarr_rows`; no other module
imports zarr.  `image_store` opens users' images, Zarr and .npy alike.
"""

from workflow.runstore.image_store import (
    IMAGE_DTYPES,
    ImageStore,
    check_images,
    is_readable_in_place,
    missing_path,
    open_images,
    read_npy_header,
    split_key,
)
from workflow.runstore.zarr_read import (
    StoredRows,
    array_dtype,
    array_names,
    crc,
    node_kind,
    read_array,
    read_attrs,
    read_rows,
)
from workflow.runstore.zarr_rows import RowsWriter, rows_writers, shard_file, write_rows
from workflow.runstore.zarr_write import (
    compresses,
    consolidate,
    create_group,
    create_rows_array,
    write_array,
    write_attrs,
)

#: The file that makes a folder a Zarr group or array.
GROUP_METADATA = "zarr.json"

__all__ = [
    "GROUP_METADATA",
    "IMAGE_DTYPES",
    "ImageStore",
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
    "is_readable_in_place",
    "missing_path",
    "node_kind",
    "open_images",
    "read_array",
    "read_attrs",
    "read_npy_header",
    "read_rows",
    "rows_writers",
    "shard_file",
    "split_key",
    "write_array",
    "write_attrs",
    "write_rows",
]
