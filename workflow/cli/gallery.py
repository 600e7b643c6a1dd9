"""The command that lists the images of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow.cli.options import Command, print_result, shared_options

if TYPE_CHECKING:
    from workflow.config import LoadedConfig


@click.command(
    "gallery",
    cls=Command,
    example="""gallery my-run dark
gallery my-run border 3 7 --limit 20
gallery my-run blurred --out blurred.csv""",
)
@click.argument("run", type=Path)
@click.argument("kind")
@click.argument("of", metavar="[N]...", nargs=-1, type=int)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    help="Most images to list, the clearest first; by default 100, and all with --out.",
)
@click.option("--out", metavar="FILE.csv", type=Path, help="New file for the images.")
@shared_options
def gallery_command(
    run: Path,
    kind: str,
    of: tuple[int, ...],
    limit: int | None,
    out: Path | None,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """List all images of one kind.

    KIND is dark, bright, low-contrast or blurred; border, images between two clusters (their
    numbers follow, or none for any two); or outliers. `members --family N` lists a family.
    """
    del loaded
    from workflow.commands.gallery import describe, gallery

    found = gallery(run, kind, of, limit=limit, out=out)
    print_result(describe(found), found, as_json=as_json)
