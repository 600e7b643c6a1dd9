"""Turn command-line words into one call; print our own errors in one line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow.cli.ingest import (
    ingest_command,
    ingest_finish_command,
    ingest_init_command,
    ingest_part_command,
)
from workflow.cli.options import given, print_result, shared_options
from workflow.cli.stop import Stopping
from workflow.config import flatten
from workflow.errors import WorkflowError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.config import LoadedConfig

#: What is said after Ctrl-C or a scheduler's SIGTERM.
STOPPED = "stopped; the same command goes on from here"
#: Exit statuses.
DONE, UNEXPECTED, USER_MISTAKE = 0, 1, 2


@click.group(
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="overcluster", prog_name="overcluster")
def program() -> None:
    """Find the natural clusters of very many images.

    Start with `demo`, then `run IMAGES --out RUN`.
    """


@program.command("demo")
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
    """Run the workflow on images made here; compare with their truth."""
    from workflow.commands.demo import describe, run_demo

    found = run_demo(out, n_images, loaded)
    print_result(describe(found), found, as_json=as_json)


for command in (ingest_command, ingest_init_command, ingest_part_command, ingest_finish_command):
    program.add_command(command)


@program.command("plan")
@click.argument("images")
@click.option(
    "--out", metavar="RUN", type=Path, help="Run folder, for its disk; by default one made here."
)
@click.option(
    "--no-pilot",
    is_flag=True,
    help="Try no run of few images; seconds come from earlier runs only.",
)
@shared_options
def plan_command(
    images: str,
    out: Path | None,
    loaded: LoadedConfig,
    *,
    no_pilot: bool,
    as_json: bool,
) -> None:
    """Print what a run would cost here, in time, memory and disk; refuse what cannot fit."""
    from workflow.commands.plan import plan

    since_start = time.monotonic() - click.get_current_context().obj
    text, content = plan(
        images, loaded.config, out, with_pilot=not no_pilot, since_start=since_start
    )
    print_result(text, content, as_json=as_json)


@program.command("run")
@click.argument("images")
@click.option("--out", metavar="RUN", required=True, type=Path, help="Run folder.")
@shared_options
def run_command(images: str, out: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Find the clusters of IMAGES; the same command again resumes."""
    from workflow.commands.run import describe_summary, read_summary, run_workflow

    summary = read_summary(run_workflow(images, out, loaded))
    print_result(describe_summary(summary), summary, as_json=as_json)


@program.command("status")
@click.argument("run", type=Path)
@click.option("--verify", is_flag=True, help="Read everything and compare checksums.")
@shared_options
def status_command(run: Path, loaded: LoadedConfig, *, verify: bool, as_json: bool) -> None:
    """Print each step: absent, partial, complete or stale."""
    from workflow.commands.status import status

    found = status(run, verify=verify, overrides=given(loaded))
    lines = [
        f"{name:15} {step['state']:9} {step['seconds']:8.1f} s  {step['reason']}".rstrip()
        for name, step in found["steps"].items()
    ]
    if verify:
        lines += found["damaged"] or ["everything is as it was written"]
    print_result("\n".join(lines), found, as_json=as_json)
    if found["damaged"]:
        msg = f"a run folder must be as it was written; {len(found['damaged'])} parts of {run} differ, first {found['damaged'][0]}. Restore them, or delete the folder and run again."
        raise WorkflowError(msg)


@program.command("recut")
@click.argument("run", type=Path)
@click.option(
    "--n-clusters", metavar="N", type=click.IntRange(min=1), help="About so many clusters."
)
@click.option(
    "--min-cluster-size",
    metavar="P",
    type=click.IntRange(min=1),
    help="Fewest images of a cluster.",
)
@click.option(
    "--layer", metavar="L", type=click.IntRange(min=0), help="Layer of the tree, 0 is the coarsest."
)
@shared_options
def recut_command(
    run: Path,
    n_clusters: int | None,
    min_cluster_size: int | None,
    layer: int | None,
    loaded: LoadedConfig,
    *,
    as_json: bool,
) -> None:
    """Give a run other labels from its stored tree, without the images."""
    from workflow.commands.recut import recut
    from workflow.commands.run import describe_summary

    summary = recut(
        run,
        n_clusters=n_clusters,
        min_cluster_size=min_cluster_size,
        layer=layer,
        overrides=given(loaded),
    )
    print_result(describe_summary(summary), summary, as_json=as_json)


@program.command("update")
@click.argument("run", type=Path)
@click.argument("images")
@shared_options
def update_command(run: Path, images: str, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Merge new images into the stored moments of a run."""
    from workflow.commands.update import update

    found = update(run, images, overrides=given(loaded))
    text = (
        f"moments of {found['n_samples_before']:,} images became those of {found['n_samples']:,}; "
        f"{found['n_components']} components keep {found['variance_kept']:.1%} of the variance. "
        "Labels stay until `run` does the later steps again."
    )
    print_result(text, found, as_json=as_json)


@program.command("predict")
@click.argument("run", type=Path)
@click.argument("images")
@click.option(
    "--out", metavar="LABELS.zarr", required=True, type=Path, help="Where labels are written."
)
@shared_options
def predict_command(
    run: Path, images: str, out: Path, loaded: LoadedConfig, *, as_json: bool
) -> None:
    """Label new images by the clusters of a run."""
    from workflow.commands.predict import predict

    found = predict(run, images, out, overrides=given(loaded))
    text = f"{found['n_samples']:,} images in {found['n_clusters']} clusters, {found['noise_fraction']:.1%} noise: {out}"
    print_result(text, found, as_json=as_json)


@program.command("duplicates")
@click.argument("run", type=Path)
@click.option("--near", is_flag=True, help="Also those that are nearly the same.")
@click.option("--limit", metavar="N", default=100, show_default=True, help="Most groups to list.")
@shared_options
def duplicates_command(
    run: Path, limit: int, loaded: LoadedConfig, *, near: bool, as_json: bool
) -> None:
    """List groups of equal images."""
    del loaded
    from workflow.commands.duplicates import describe, duplicates

    found = duplicates(run, near=near, limit=limit)
    print_result(describe(found, near=near), found, as_json=as_json)


@program.command("neighbors")
@click.argument("run", type=Path)
@click.option("--of", metavar="INDEX", required=True, type=int, help="The image, counted from 0.")
@shared_options
def neighbors_command(run: Path, of: int, loaded: LoadedConfig, *, as_json: bool) -> None:
    """List the images most like one image."""
    del loaded
    from workflow.commands.neighbors import describe, neighbors

    found = neighbors(run, of)
    print_result(describe(found), found, as_json=as_json)


@program.command("report")
@click.argument("run", type=Path)
@shared_options
def report_command(run: Path, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Write the page RUN/report.html."""
    from workflow.commands.report import report

    path = report(run, overrides=given(loaded))
    print_result(str(path), {"report": str(path)}, as_json=as_json)


@program.group("compute", no_args_is_help=False)
def compute_group() -> None:
    """Look at the places where work can run."""


@compute_group.command("check")
@click.argument("name", metavar="NAME_OR_FILE_OR_ADDRESS")
@click.option("--images", metavar="IMAGES", type=Path, help="Images that the worker is to read.")
@click.option("--out", metavar="RUN", type=Path, help="Run folder, or where it will be.")
@shared_options
def compute_check_command(
    name: str, images: Path | None, out: Path | None, loaded: LoadedConfig, *, as_json: bool
) -> None:
    """Show a site's job script, start one small job, and say what it saw."""
    from workflow.commands.compute_check import check_site, format_check
    from workflow.steps import load_config

    checked = load_config(None, given(loaded), compute=name, environment={})
    found = check_site(checked.config, images, out)
    print_result(format_check(found), found, as_json=as_json)
    if found["problems"]:
        msg = f"a run must find at the site what it finds here; {'; '.join(found['problems'])}. Put images and runs on a shared file system, and install the same package there."
        raise WorkflowError(msg)


@program.command("config")
@shared_options
def config_command(loaded: LoadedConfig, *, as_json: bool) -> None:
    """Print the effective settings and where each came from."""
    flat = flatten(loaded.config.model_dump(mode="json"))
    content = {key: {"value": value, "origin": loaded.origins[key]} for key, value in flat.items()}
    width = max(map(len, flat))
    lines = [
        f"{key:{width}}  {_shown(value):12} {loaded.origins[key]}" for key, value in flat.items()
    ]
    print_result("\n".join(lines), content, as_json=as_json)


def _shown(value: Any) -> str:
    """Return a value as YAML would have it."""
    return json.dumps(value) if not isinstance(value, str) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words of the command line; those of the process by default.

    Returns
    -------
    int
        0 done, 2 the user's mistake, 1 anything else.
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
        program.main(
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
        click.echo(f"error: {one_line(err.format_message())} See `{command} --help`.", err=True)
        return USER_MISTAKE
    except (KeyboardInterrupt, click.Abort):
        if not stopping.was_asked:
            click.echo(STOPPED, err=True)
        return UNEXPECTED
    except WorkflowError as err:
        click.echo(f"error: {one_line(err)}", err=True)
        return USER_MISTAKE
    except Exception:
        if not stopping.was_asked:
            raise
        # Workers that were stopped in the middle of starting or closing complain in many ways.
        return UNEXPECTED
    return DONE
