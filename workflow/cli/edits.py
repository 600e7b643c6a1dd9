"""The commands of a person's say: names of clusters, merging and splitting, and taking it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow.cli.options import Command, print_result, shared_options
from workflow.errors import ConfigError

if TYPE_CHECKING:
    from workflow.config import LoadedConfig

#: Lets -1, which is noise, be a number and no option; what is no number is still refused.
NUMBERS = {"ignore_unknown_options": True}


@click.command(
    "name",
    cls=Command,
    context_settings=NUMBERS,
    example='name my-run 12 "blue sky"\nname my-run 12 --remove\nname my-run',
)
@click.argument("run", type=Path)
@click.argument("cluster", type=int, required=False)
@click.argument("text", required=False)
@click.option("--remove", is_flag=True, help="Take the name of the cluster away.")
@shared_options
def name_command(
    run: Path,
    cluster: int | None,
    text: str | None,
    loaded: LoadedConfig,
    *,
    remove: bool,
    as_json: bool,
) -> None:
    """Name a cluster, or list the names.

    The name stays with its images: after a recut or another run it is shown at the cluster that is mostly
    made of them.
    """
    from workflow.commands.name import describe, name, names

    if cluster is None:
        found = names(run)
        print_result(describe(found), found, as_json=as_json)
        return
    if remove == (text is not None):
        got = "both" if remove else f"cluster {cluster} alone"
        msg = f"`name` must be told a name, or --remove; got {got}. Give one of them."
        raise ConfigError(msg)
    found = name(run, cluster, text, overrides=loaded.given)
    print_result(found["changed"], found, as_json=as_json)


@click.command("merge", cls=Command, context_settings=NUMBERS, example="merge my-run 3 7")
@click.argument("run", type=Path)
@click.argument("clusters", metavar="CLUSTER...", type=int, nargs=-1, required=True)
@shared_options
def merge_command(
    run: Path, clusters: tuple[int, ...], loaded: LoadedConfig, *, as_json: bool
) -> None:
    """Make one cluster of two or more.

    All else stays as it is, but for the numbers, which go by size. `undo` takes it back.
    """
    from workflow.commands.merge import merge

    found = merge(run, clusters, overrides=loaded.given)
    print_result(found["changed"], found, as_json=as_json)


@click.command("split", cls=Command, context_settings=NUMBERS, example="split my-run 5")
@click.argument("run", type=Path)
@click.argument("cluster", type=int)
@shared_options
def split_command(run: Path, cluster: int, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Part a cluster where the stored tree parts it next.

    Where the tree has no border in it, it is divided in two where the fewest images lie between. All else
    stays as it is, but for the numbers, which go by size. `undo` takes it back.
    """
    from workflow.commands.split import split

    found = split(run, cluster, overrides=loaded.given)
    print_result(found["changed"], found, as_json=as_json)


@click.command("undo", cls=Command, example="undo my-run")
@click.argument("run", type=Path)
@shared_options
def undo_command(run: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Take the last name, merge, split or recut back.

    Again and again it goes back to the first. `name RUN` lists what there is to take back.
    """
    from workflow.commands.undo import undo

    found = undo(run, overrides=loaded.given)
    print_result(found["changed"], found, as_json=as_json)
