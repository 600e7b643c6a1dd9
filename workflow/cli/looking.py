"""The commands that show the images of a run, or hand them to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from workflow.cli.options import Command, print_result, shared_options

if TYPE_CHECKING:
    from workflow.config import LoadedConfig
    from workflow.server.serving import Opened


@click.command(
    "members",
    cls=Command,
    example="""members my-run 3
members my-run noise --order weakest --limit 20
members my-run 3 --out cluster-3.csv""",
)
@click.argument("run", type=Path)
@click.argument("cluster", required=False)
@click.option("--family", metavar="F", type=int, help="A family instead of a cluster.")
@click.option(
    "--region",
    metavar="X0,Y0,X1,Y1",
    help="A rectangle of the map instead: left, bottom, right and top.",
)
@click.option(
    "--limit", metavar="N", type=int, help="Most images; 100 by default, or all with --out."
)
@click.option(
    "--offset",
    metavar="N",
    type=int,
    default=0,
    show_default=True,
    help="Images left out before them.",
)
@click.option(
    "--order",
    type=click.Choice(["strongest", "weakest"]),
    default="strongest",
    show_default=True,
    help="Which come first.",
)
@click.option("--out", metavar="FILE", type=Path, help="New file for them, .csv or .parquet.")
@shared_options
def members_command(
    run: Path,
    cluster: str | None,
    family: int | None,
    region: str | None,
    limit: int | None,
    offset: int,
    order: Literal["strongest", "weakest"],
    out: Path | None,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """List the images of a cluster, the strongest first.

    CLUSTER is the number of a cluster, a name that was given to it, or `noise`, whose least outlying
    images come first.
    """
    del loaded
    from workflow.commands.members import describe, members

    found = members(
        run,
        cluster,
        family=family,
        region=region,
        limit=limit,
        offset=offset,
        order=order,
        out=out,
    )
    print_result(describe(found), found, as_json=as_json)


@click.command(
    "similar", cls=Command, example="similar my-run 123\nsimilar my-run photo.png --limit 30"
)
@click.argument("run", type=Path)
@click.argument("image", metavar="SAMPLE|FILE")
@click.option("--limit", metavar="N", type=int, help="Most images; 15 by default.")
@shared_options
def similar_command(
    run: Path, image: str, limit: int | None, loaded: LoadedConfig, *, as_json: bool
) -> None:
    """List the images most like one of the run, or like a new one.

    The image is a number, counted from 0, or a file like those that `predict` takes; write ./123 for a
    file whose name is a number.
    """
    del loaded
    from workflow.commands.similar import describe, similar

    found = similar(run, _sample_or_file(image), limit=limit)
    print_result(describe(found), found, as_json=as_json)


@click.command("neighbors", cls=Command, example="neighbors my-run --of 123")
@click.argument("run", type=Path)
@click.option(
    "--of", metavar="SAMPLE|FILE", required=True, help="The image: its number from 0, or a file."
)
@shared_options
def neighbors_command(run: Path, of: str, loaded: LoadedConfig, *, as_json: bool) -> None:
    """List the images most like one image, as `similar` does."""
    del loaded
    from workflow.commands.similar import describe, similar

    found = similar(run, _sample_or_file(of))
    print_result(describe(found), found, as_json=as_json)


def _sample_or_file(text: str) -> int | str:
    """Return a number where there is one, else a path."""
    return int(text) if text.removeprefix("-").isdecimal() else text


@click.command(
    "export",
    cls=Command,
    example="""export my-run --to labels.csv
export my-run --to labels.parquet --columns mine.csv --clusters 3,7
export my-run --to folders --format folder --limit 100""",
)
@click.argument("run", type=Path)
@click.option("--to", metavar="PATH", required=True, type=Path, help="New file or folder.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "parquet", "folder", "fiftyone", "atlas"]),
    help="By default what PATH ends in, or a folder for each cluster.",
)
@click.option(
    "--columns",
    metavar="TABLE",
    type=Path,
    help="Table of yours, .csv or .parquet, whose columns are added by its `sample` or `path`.",
)
@click.option("--clusters", metavar="A,B", help="These clusters only: numbers, names, or noise.")
@click.option("--limit", metavar="N", type=int, help="Most images of each cluster, the strongest.")
@click.option(
    "--link",
    type=click.Choice(["symlink", "hardlink", "copy"]),
    default="symlink",
    show_default=True,
    help="How image files come into folders; other images are written as PNG.",
)
@click.option(
    "--files",
    metavar="FOLDER",
    type=Path,
    help="Where the image files lie, if not where the run was given them.",
)
@shared_options
def export_command(
    run: Path,
    to: Path,
    kind: str | None,
    columns: Path | None,
    clusters: str | None,
    limit: int | None,
    link: str,
    files: Path | None,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """Write images and labels for other programs.

    A table has a line for each image: number, path, cluster, strength, outlier score, family, place on the
    map. `folder` makes a folder of links for each cluster; `fiftyone` and `atlas` write what FiftyOne and
    Embedding Atlas open.
    """
    del loaded
    from workflow.commands.export import describe, export

    found = export(
        run,
        to,
        format=kind,
        columns=columns,
        clusters=None if clusters is None else clusters.split(","),
        limit=limit,
        link=link,
        files=files,
    )
    print_result(describe(found), found, as_json=as_json)


@click.command("open", cls=Command, example="open my-run\nopen my-run --edit --port 8000")
@click.argument("run", type=Path)
@click.option("--port", metavar="N", type=int, default=0, help="Port; by default one that is free.")
@click.option("--edit", is_flag=True, help="Clusters can be named, merged and split in the page.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@shared_options
def open_command(
    run: Path, port: int, loaded: LoadedConfig, *, edit: bool, no_browser: bool, as_json: bool
) -> None:
    """Open the page of a run, with all images behind it.

    It is served to this machine alone, until Ctrl-C.
    """
    del loaded
    from workflow.commands.open import open_run, reach, show

    def ready(opened: Opened) -> None:
        content = {"url": opened.url, "port": opened.port, "edit": edit}
        print_result("\n".join([opened.url, *reach(opened.port)]), content, as_json=as_json)
        if not no_browser:
            show(opened.url_once)

    open_run(run, port=port, edit=edit, ready=ready)
