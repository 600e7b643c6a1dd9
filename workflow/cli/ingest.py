"""The commands that ingest images: at once, or as a job array: initialise, one part, finish."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow.cli.options import given, print_result, shared_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflow.config import LoadedConfig


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add how a source is to be read to the options that every command has."""

    @click.option("--shape", metavar="H,W,C", help="Shape of one image.")
    @click.option(
        "--dtype",
        metavar="T",
        help="Type of the values of a raw binary file; uint8 or uint16 of image files.",
    )
    @shared_options
    @functools.wraps(command)
    def wrapper(shape: str | None, dtype: str | None, loaded: LoadedConfig, **rest: Any) -> None:
        asked = {"ingest.shape": shape, "ingest.dtype": dtype}
        merged = given(loaded) | {key: value for key, value in asked.items() if value is not None}
        from workflow.steps import load_config

        command(loaded=load_config(None, merged, environment={}), **rest)

    return wrapper


@click.command("ingest")
@click.argument("source")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@reading_options
def ingest_command(source: str, images: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Copy images of any supported kind into a Zarr store, resumably."""
    from workflow.commands.ingest import describe_copy, ingest_to

    found = ingest_to(source, images, loaded.config)
    print_result(describe_copy(found), found, as_json=as_json)


@click.command("ingest-init")
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
def ingest_init_command(
    source: str,
    images: Path,
    n_parts: int,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """Begin to ingest in parts; say how many there are."""
    from workflow.commands.ingest import begin_parts

    found = begin_parts(source, images, n_parts, loaded.config)
    text = (
        f"{found['n_samples']:,} images in {found['n_parts']:,} parts of up to {found['part_shards']:,} "
        f"shards; a part needs {found['part_memory'] / 2**20:,.0f} MiB of memory.\n"
        f"Now ingest-part {images} I for each I from 0 to {found['n_parts'] - 1}, "
        f"then ingest-finish {images}"
    )
    print_result(text, found, as_json=as_json)


@click.command("ingest-part")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@click.argument("index", metavar="I", type=int)
@click.option("--one-based", is_flag=True, help="The first part is 1, not 0.")
@shared_options
def ingest_part_command(
    images: Path, index: int, loaded: LoadedConfig, *, one_based: bool, as_json: bool
) -> None:
    """Ingest one part, in this process; parts may run beside each other."""
    del loaded
    from workflow.commands.ingest import write_part

    found = write_part(images, index, one_based=one_based)
    text = (
        f"part {index} of {images}: {found['n_shards_written']} shards written, "
        f"{found['n_shards_reused']} there already"
    )
    print_result(text, found, as_json=as_json)


@click.command("ingest-finish")
@click.argument("images", metavar="IMAGES.zarr", type=Path)
@shared_options
def ingest_finish_command(images: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Check that all parts are there and move the store into its place."""
    del loaded
    from workflow.commands.ingest import describe_copy, finish_parts

    found = finish_parts(images)
    print_result(describe_copy(found), found, as_json=as_json)
