"""The commands that ingest images: at once, or as a job array: initialise, one part, finish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow.cli.options import Command, print_result, reading_options, shared_options

if TYPE_CHECKING:
    from workflow.config import LoadedConfig


@click.command(
    "ingest",
    cls=Command,
    example="ingest photos photos.zarr --shape 16,16,3\ningest photos vectors.zarr --model model.onnx",
)
@click.argument("source")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@reading_options
@shared_options
def ingest_command(source: str, images: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Copy images into a Zarr store.

    SOURCE is a folder of image files (PNG, JPEG, TIFF, GIF, WebP and others), .npz, HDF5
    (FILE::DATASET) or a raw binary file. The same command again goes on where it was stopped.
    """
    from workflow.commands.ingest import describe_copy, ingest_to

    found = ingest_to(source, images, loaded.config)
    print_result(describe_copy(found), found, as_json=as_json)


@click.command(
    "ingest-init", cls=Command, example="ingest-init photos photos.zarr --shape 16,16,3 --parts 32"
)
@click.argument("source")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@click.option(
    "--parts",
    "n_parts",
    metavar="N",
    required=True,
    type=click.IntRange(min=1),
    help="Parts, which are tasks of the job array.",
)
@reading_options
@shared_options
def ingest_init_command(
    source: str,
    images: Path,
    n_parts: int,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """Begin a copy in parts, for a job array."""
    from workflow.commands.ingest import begin_parts

    found = begin_parts(source, images, n_parts, loaded.config)
    text = (
        f"{found['n_samples']:,} images in {found['n_parts']:,} parts of up to {found['part_shards']:,} "
        f"shards; a part needs {found['part_memory'] / 2**20:,.0f} MiB of memory.\n"
        f"Now ingest-part {images} I for each I from 0 to {found['n_parts'] - 1}, "
        f"then ingest-finish {images}"
    )
    print_result(text, found, as_json=as_json)


@click.command("ingest-part", cls=Command, example="ingest-part photos.zarr 0")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@click.argument("index", metavar="I", type=int)
@click.option("--one-based", is_flag=True, help="The first part is 1, not 0.")
@shared_options
def ingest_part_command(
    images: Path, index: int, loaded: LoadedConfig, *, one_based: bool, as_json: bool
) -> None:
    """Copy one part, in this process, beside others."""
    del loaded
    from workflow.commands.ingest import write_part

    found = write_part(images, index, one_based=one_based)
    text = (
        f"part {index} of {images}: {found['n_shards_written']} shards written, "
        f"{found['n_shards_reused']} there already"
    )
    print_result(text, found, as_json=as_json)


@click.command("ingest-finish", cls=Command, example="ingest-finish photos.zarr")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@shared_options
def ingest_finish_command(images: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Check that all parts are there; make the store whole."""
    del loaded
    from workflow.commands.ingest import describe_copy, finish_parts

    found = finish_parts(images)
    print_result(describe_copy(found), found, as_json=as_json)
