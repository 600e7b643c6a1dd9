"""Turn command-line words into one call; print our own errors in one line."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from workflow.cli.edits import merge_command, name_command, split_command, undo_command
from workflow.cli.gallery import gallery_command
from workflow.cli.ingest import (
    ingest_command,
    ingest_finish_command,
    ingest_init_command,
    ingest_part_command,
)
from workflow.cli.logs import say_error
from workflow.cli.looking import (
    export_command,
    members_command,
    neighbors_command,
    open_command,
    similar_command,
)
from workflow.cli.new_images import (
    forget_command,
    predict_command,
    update_command,
    watch_command,
)
from workflow.cli.options import (
    Command,
    Layer,
    print_result,
    reading_options,
    setting_option,
    shared_options,
)
from workflow.cli.stop import Stopping
from workflow.errors import WorkflowError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.config import LoadedConfig

#: What is said after Ctrl-C or a scheduler's SIGTERM.
STOPPED = "stopped; the same command goes on from here"
#: Exit statuses.
DONE, UNEXPECTED, USER_MISTAKE = 0, 1, 2
#: Titles of the help, and the commands under them; those not named come last.
COMMANDS = {
    "From images to clusters": ("demo", "plan", "run", "status", "report"),
    "With a run": ("recut", "predict", "update", "watch", "forget"),
    "Clusters by hand": ("name", "merge", "split", "undo"),
    "Look at images": (
        "open",
        "members",
        "similar",
        "neighbors",
        "duplicates",
        "gallery",
        "export",
    ),
    "Images into Zarr": ("ingest", "ingest-init", "ingest-part", "ingest-finish"),
    "Settings and places": ("config", "compute"),
}


class Program(click.Group):
    """A group whose help lists its commands under titles."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their titles."""
        listed = {name for names in COMMANDS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        for title, names in {**COMMANDS, "More": others}.items():
            known = [(name, self.commands[name]) for name in names if name in self.commands]
            if known:
                with formatter.section(title):
                    formatter.write_dl([(name, c.get_short_help_str(70)) for name, c in known])


@click.group(
    cls=Program,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="overcluster", prog_name="overcluster")
def program() -> None:
    """Find the natural clusters of very many images.

    Start with `demo`, then `run IMAGES`. Each command has its own --help, with an example.
    """


@program.command("demo", example="demo --images 50000")
@click.option(
    "--out", metavar="RUN", default="demo-run", type=Path, show_default=True, help="Run folder."
)
@click.option(
    "--images",
    "n_images",
    metavar="N",
    default=200_000,
    show_default=True,
    type=click.IntRange(min=1000),
    help="Images to make.",
)
@shared_options
def demo_command(out: Path, n_images: int, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Cluster images made here, and compare with their truth."""
    from workflow.commands.demo import describe, run_demo

    found = run_demo(out, n_images, loaded)
    print_result(describe(found), found, as_json=as_json)


for command in (
    *(ingest_command, ingest_init_command, ingest_part_command, ingest_finish_command),
    *(name_command, merge_command, split_command, undo_command),
    *(predict_command, update_command, watch_command, forget_command),
):
    program.add_command(command)
for command in (
    *(members_command, similar_command, neighbors_command, export_command, open_command),
    gallery_command,
):
    program.add_command(command)


@program.command("plan", example="plan images.zarr")
@click.argument("images")
@click.option(
    "--out", metavar="RUN", type=Path, help="Run folder, for its disk; by default one made here."
)
@click.option(
    "--no-pilot",
    is_flag=True,
    help="Leave out the pilot, a run of few of the images; seconds come from earlier runs only.",
)
@reading_options
@shared_options
def plan_command(
    images: str,
    out: Path | None,
    loaded: LoadedConfig,
    *,
    no_pilot: bool,
    as_json: bool,
) -> None:
    """Print the time, memory and disk that a run would take.

    What cannot fit the memory of a worker or the disk is refused.
    """
    from workflow.commands.base import settings_for
    from workflow.commands.planning.plan import plan

    if out is not None:
        loaded = settings_for(out, loaded)
    since_start = time.monotonic() - click.get_current_context().obj
    text, content = plan(
        images, loaded.config, out, with_pilot=not no_pilot, since_start=since_start
    )
    print_result(text, content, as_json=as_json)


@program.command(
    "run",
    example="""run images.zarr
run photos --shape 16,16,3 --out my-run
run images.zarr --whiten --n-clusters 30 --set tree.min_cluster_size=100""",
)
@click.argument("images")
@click.option(
    "--out",
    metavar="RUN",
    type=Path,
    help="Run folder, or its address at s3://, gs:// or az://; by default NAME-run in this folder, by the name of the images.",
)
@click.option(
    "--n-clusters",
    metavar="N",
    type=click.IntRange(min=1),
    help="Cut the tree into so many clusters at the end, as `recut` does; an error names the numbers near it that the tree can give.",
)
@click.option(
    "--fresh-settings",
    is_flag=True,
    help="Leave the settings of an existing run folder aside; by default it keeps them.",
)
@setting_option(
    "--whiten",
    "pca.whiten",
    is_flag=True,
    default=None,
    help="Divide scores by their standard deviation, so that faint differences count as much as strong ones.",
)
@reading_options
@shared_options
def run_command(
    images: str,
    out: Path | None,
    n_clusters: int | None,
    loaded: LoadedConfig,
    *,
    fresh_settings: bool,
    as_json: bool,
) -> None:
    """Find the clusters of IMAGES.

    IMAGES is a Zarr array or group (GROUP::NAME), also at s3://, gs://, az:// or https://, .npy, .npz, HDF5,
    netCDF or .mat (FILE::NAME), a raw binary file, or pictures: a folder, a pattern, an @list, archives, TFRecord or Parquet. The same command again goes on where it was stopped, and does
    again only what a changed setting makes necessary.
    """
    from workflow.commands.run import default_out, read_summary, run_workflow
    from workflow.report.summary import describe_summary

    out = out or default_out(images)
    since_start = time.monotonic() - click.get_current_context().obj
    store = run_workflow(
        images,
        out,
        loaded,
        n_clusters=n_clusters,
        fresh_settings=fresh_settings,
        since_start=since_start,
    )
    summary = read_summary(store)
    print_result(describe_summary(summary), summary, as_json=as_json)


@program.command("status", example="status my-run --verify")
@click.argument("run", type=Path)
@click.option("--verify", is_flag=True, help="Read everything and compare checksums.")
@shared_options
def status_command(run: Path, loaded: LoadedConfig, *, verify: bool, as_json: bool) -> None:
    """Print the state of each step of a run.

    It is absent, partial, complete, or stale: something that it depends on has changed.
    """
    from workflow.commands.status import lines_by_hand, status

    found = status(run, verify=verify, overrides=loaded.given)
    lines = [
        f"{name:15} {step['state']:9} {step['seconds']:8.1f} s  {step['reason']}".rstrip()
        for name, step in found["steps"].items()
    ]
    lines += lines_by_hand(found)
    if verify:
        lines += found["damaged"] or ["everything is as it was written"]
    print_result("\n".join(lines), found, as_json=as_json)
    if found["damaged"]:
        msg = f"a run folder must be as it was written; {len(found['damaged'])} parts of {run} differ, first {found['damaged'][0]}. Restore them, or delete the folder and run again."
        raise WorkflowError(msg)


@program.command("recut", example="recut my-run --n-clusters 12\nrecut my-run --layer families")
@click.argument("run", type=Path)
@click.option(
    "--n-clusters",
    metavar="N",
    type=click.IntRange(min=1),
    help="So many clusters; an error names the numbers near it that the tree can give.",
)
@click.option(
    "--min-cluster-size",
    metavar="P",
    type=click.IntRange(min=1),
    help="Fewest images of a cluster.",
)
@click.option(
    "--layer",
    metavar="L",
    type=Layer(),
    help="Layer of the tree, 0 is the coarsest; `families` lie below them all.",
)
@click.option("--configured", is_flag=True, help="Bring back the cut that `run` made.")
@shared_options
def recut_command(
    run: Path,
    n_clusters: int | None,
    min_cluster_size: int | None,
    layer: int | Literal["families"] | None,
    loaded: LoadedConfig,
    *,
    configured: bool,
    as_json: bool,
) -> None:
    """Cut the stored tree of a run elsewhere.

    The labels, the summary and what follows from them are replaced in one move, and the page is
    written anew. The images are not needed.
    """
    from workflow.commands.recut import recut
    from workflow.report.summary import describe_summary

    summary = recut(
        run,
        n_clusters=n_clusters,
        min_cluster_size=min_cluster_size,
        layer=layer,
        configured=configured,
        overrides=loaded.given,
    )
    print_result(describe_summary(summary), summary, as_json=as_json)


@program.command("duplicates", example="duplicates my-run --limit 20")
@click.argument("run", type=Path)
@click.option("--near", is_flag=True, help="Also groups of near-duplicates.")
@click.option(
    "--within",
    metavar="D",
    type=float,
    help="Distance up to which images are near-duplicates; by default where the nearest distances have a dip.",
)
@click.option("--limit", metavar="N", default=100, show_default=True, help="Most groups to list.")
@shared_options
def duplicates_command(
    run: Path,
    within: float | None,
    limit: int,
    loaded: LoadedConfig,
    *,
    near: bool,
    as_json: bool,
) -> None:
    """List groups of images that are equal, or nearly so."""
    del loaded
    from workflow.commands.duplicates import describe, duplicates

    found = duplicates(run, near=near, within=within, limit=limit)
    print_result(describe(found), found, as_json=as_json)


@program.command("report", example="report my-run\nreport my-run --columns mine.csv")
@click.argument("run", type=Path)
@click.option(
    "--columns",
    metavar="TABLE",
    help="Table of yours, .csv or .parquet, whose columns colour the map, by its `sample` or `path`; none takes them away.",
)
@shared_options
def report_command(run: Path, columns: str | None, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Write the page RUN/report.html again."""
    from workflow.commands.export import columns as own
    from workflow.commands.report import report

    found = None if columns is None else own.columns(run, columns)
    path = report(run, overrides=loaded.given)
    text = str(path) if found is None else f"{own.describe(found)}\n{path}"
    print_result(text, {"report": str(path), **(found or {})}, as_json=as_json)


@program.group("compute", cls=Program, no_args_is_help=False)
def compute_group() -> None:
    """Look at a place where work can run."""


@compute_group.command("check", example="compute check slurm --images images.zarr --out my-run")
@click.argument("name", metavar="SITE")
@click.option("--images", metavar="IMAGES", type=Path, help="Images that the worker is to read.")
@click.option("--out", metavar="RUN", type=Path, help="Run folder, or where it will be.")
@shared_options
def compute_check_command(
    name: str, images: Path | None, out: Path | None, loaded: LoadedConfig, *, as_json: bool
) -> None:
    """Start one small job at a site; say what it saw."""
    from workflow.commands.compute_check import check_site, format_check
    from workflow.steps import load_config

    checked = load_config(None, loaded.given, compute=name, environment={})
    found = check_site(checked.config, images, out)
    print_result(format_check(found), found, as_json=as_json)
    if found["problems"]:
        msg = f"a run must find at the site what it finds here; {'; '.join(found['problems'])}. Put images and runs on a shared file system, and install the same package there."
        raise WorkflowError(msg)


@program.command("config", example="config --set pca.n_components=40\nconfig --compute slurm --all")
@click.option(
    "--all", "with_all", is_flag=True, help="Also settings of batch systems, SSH and encryption."
)
@shared_options
def config_command(loaded: LoadedConfig, *, with_all: bool, as_json: bool) -> None:
    """Print the settings in force and where each came from."""
    from workflow.commands.config import describe_settings, settings_content

    print_result(
        describe_settings(loaded, with_all=with_all), settings_content(loaded), as_json=as_json
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; those of the process by default.

    Returns
    -------
    int
        0 done, 3 done with what the user asked to be told of, 2 the user's mistake, 1 anything else.
    """
    with Stopping() as stopping:
        try:
            return _status_of(arguments, stopping)
        finally:
            if stopping.was_asked:
                # Here, for what was being closed may have swallowed the interrupt.
                click.echo(STOPPED, err=True)
                # Dask's own clean-up at exit stumbles over a cluster that was stopped while it
                # started, at length; workers end by themselves when this process does.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(UNEXPECTED)


def _status_of(arguments: Sequence[str] | None, stopping: Stopping) -> int:
    """Run the command line; print what is wrong."""
    try:
        # None of a command that is done; else the status that it has chosen.
        status: int | None = program.main(
            args=arguments,
            prog_name="overcluster",
            standalone_mode=False,
            obj=time.monotonic(),
        )
    except click.exceptions.Exit as err:
        return err.exit_code
    except click.ClickException as err:
        context = getattr(err, "ctx", None)
        command = context.command_path if context is not None else "overcluster"
        say_error(f"{one_line(err.format_message())} See `{command} --help`.")
        return USER_MISTAKE
    except (KeyboardInterrupt, click.Abort):
        if not stopping.was_asked:
            click.echo(STOPPED, err=True)
        return UNEXPECTED
    except WorkflowError as err:
        say_error(one_line(err))
        return USER_MISTAKE
    except Exception:
        if not stopping.was_asked:
            raise
        # Workers that were stopped in the middle of starting or closing complain in many ways.
        return UNEXPECTED
    return status or DONE
