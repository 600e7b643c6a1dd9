"""Images a second from each kind of source: ``python -m benchmarks.sources [N]``, one thread, to a local disk."""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

from workflow.ingest import DemoSource, ingest, open_source
from workflow.ingest.readers.tfrecord import masked_crc


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


def field(number, data):
    """Return a field of bytes of a protocol buffer."""
    length, found = len(data), bytes([number << 3 | 2])
    while length > 127:
        found, length = found + bytes([length & 127 | 128]), length >> 7
    return found + bytes([length]) + data


def record(picture):
    """Return a TFRecord record of an Example with the feature image/encoded."""
    value = field(1, field(1, picture))
    data = field(1, field(1, field(1, b"image/encoded") + field(2, value)))
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def write_folder(place, images, pictures):
    place.mkdir()
    for index, picture in enumerate(pictures):
        (place / f"{index:06d}.png").write_bytes(picture)


def write_tar(place, images, pictures):
    with tarfile.open(place, "w") as archive:
        for index, picture in enumerate(pictures):
            info = tarfile.TarInfo(f"{index:06d}.png")
            info.size = len(picture)
            archive.addfile(info, io.BytesIO(picture))


def write_zip(place, images, pictures):
    with zipfile.ZipFile(place, "w") as archive:
        for index, picture in enumerate(pictures):
            archive.writestr(f"{index:06d}.png", picture)


def write_records(place, images, pictures):
    place.write_bytes(b"".join(map(record, pictures)))


def write_pictures(place, images, pictures):
    pq.write_table(pa.table({"image": pa.array(pictures, pa.binary())}), place)


def write_vectors(place, images, pictures):
    values = images.reshape(len(images), -1).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])
    pq.write_table(pa.table({"vector": column}), place, row_group_size=4096)


def write_mat(place, images, pictures):
    scipy.io.savemat(place, {"X": np.moveaxis(images, 0, -1)})


def write_netcdf(place, images, pictures):
    with scipy.io.netcdf_file(place, "w") as file:
        for name, length in zip("nyxc", images.shape, strict=True):
            file.createDimension(name, length)
        file.createVariable("images", "f", tuple("nyxc"))[:] = images


SOURCES = {
    "folder of PNG": ("photos", write_folder),
    "tar of PNG": ("i.tar", write_tar),
    "zip of PNG": ("i.zip", write_zip),
    "TFRecord of PNG": ("i.tfrecord", write_records),
    "Parquet of PNG": ("i.parquet", write_pictures),
    "Parquet of vectors, float32": ("v.parquet", write_vectors),
    ".mat": ("i.mat", write_mat),
    "netCDF-3, float32": ("i.nc", write_netcdf),
}


def main(n_images=20_000):
    images = DemoSource(n_images).read(0, n_images).reshape(n_images, 16, 16, 3)
    pictures = [png(image) for image in images]
    print("| source | images a second |\n| --- | --- |")
    for name, (file, write) in SOURCES.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            write(folder / file, images, pictures)
            begun = time.perf_counter()
            report = ingest(open_source(folder / file), folder / "copy.zarr")
            seconds = time.perf_counter() - begun
            assert report.n_samples == n_images
            print(f"| {name} | {n_images / seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
