"""The commands that take new images for a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workflow.cli.options import Command, print_result, shared_options

if TYPE_CHECKING:
    import pandas as pd

    from workflow.config import LoadedConfig

#: Stands for images on standard input.
STREAM = "-"
#: Exit status of an update whose images have drifted, where it was asked for.
DRIFTED = 3


@click.command(
    "update",
    cls=Command,
    example="""update my-run
update my-run more.npy
update my-run more.npy --refit-components
update my-run --undo""",
)
@click.argument("run", type=Path)
@click.argument("images", required=False)
@click.option(
    "--again", is_flag=True, help="Add all of IMAGES as new ones, whatever the run has of them."
)
@click.option(
    "--exit-code",
    is_flag=True,
    help="End with status 3 where the new images have drifted: where they are unlike the others, as the settings update.* say.",
)
@click.option(
    "--refit-components",
    is_flag=True,
    help="Find components, scores, neighbours, families and centroids anew of all images, also where none are new; ids and names stay.",
)
@click.option("--undo", is_flag=True, help="Take the last update back.")
@shared_options
def update_command(
    run: Path,
    images: str | None,
    loaded: LoadedConfig,
    *,
    again: bool,
    exit_code: bool,
    refit_components: bool,
    undo: bool,
    as_json: bool,
) -> None:
    """Make new images part of a run, with labels.

    IMAGES is what `run` takes. Of a source that the run has read before, and of that of the run, which is
    taken where IMAGES is left out, only the images are read that it has gained; the others must be
    what they were.

    The tree is made anew of the counts of all images, and labels of old and new images follow; components of
    the scores, centroids, neighbours and families stay as they were found, and images that no centroid explains get
    new ones. With --refit-components all of this is found anew of all images, which takes as long as a run of them.
    Until all is put in place at the end, the run is as it was.
    """
    from workflow.commands.predict import far_out_sentence
    from workflow.commands.update import describe, describe_undo, undo_update, update
    from workflow.commands.updating.drift import describe_drift
    from workflow.errors import ConfigError

    if undo and (images is not None or again or refit_components):
        got = images or ("--again" if again else "--refit-components")
        msg = f"`update --undo` must be given no images; got {got}. Give either."
        raise ConfigError(msg)
    if undo:
        found = undo_update(run)
        print_result(describe_undo(found), found, as_json=as_json)
        return
    found = update(
        run, images, again=again, refit_components=refit_components, overrides=loaded.given
    )
    lines = [describe(found)]
    if found["n_samples_new"]:
        lines += [
            far_out_sentence({**found, "n_samples": found["n_samples_new"]}),
            describe_drift(found),
        ]
    print_result("\n".join(filter(None, lines)), found, as_json=as_json)
    if exit_code and found["drifted"]:
        click.get_current_context().exit(DRIFTED)


@click.command("watch", cls=Command, example="watch my-run --every 10min")
@click.argument("run", type=Path)
@click.argument("images", required=False)
@click.option(
    "--every",
    metavar="TIME",
    default="10min",
    show_default=True,
    help="Time from the start of a round to that of the next.",
)
@click.option(
    "--rounds", "n_rounds", metavar="N", type=click.IntRange(min=1), help="End after so many."
)
@click.option(
    "--exit-code",
    is_flag=True,
    help="End with status 3 after a round whose images have drifted, as the settings update.* say.",
)
@shared_options
def watch_command(
    run: Path,
    images: str | None,
    loaded: LoadedConfig,
    *,
    every: str,
    n_rounds: int | None,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Update a run whenever its source has gained images.

    IMAGES is a source as `update` takes it; by default that of the run. Each round prints a line. Ctrl-C and SIGTERM end
    it, and leave the run as it was before the round or after.
    """
    from workflow.commands.updating.watch import describe_round, watch

    rounds = watch(run, images, every=every, n_rounds=n_rounds, overrides=loaded.given)
    for found in rounds:
        print_result(describe_round(found), found, as_json=as_json)
        if exit_code and found.get("drifted"):
            click.get_current_context().exit(DRIFTED)


@click.command("forget", cls=Command, example="forget my-run 1")
@click.argument("run", type=Path)
@click.argument("segment", type=int)
@shared_options
def forget_command(run: Path, segment: int, loaded: LoadedConfig, *, as_json: bool) -> None:
    """Take the images of one update out of a run, for good.

    SEGMENT is the number of the update, from 1. All sums are those of the images that stay, tree and labels are
    made anew, and no copy of the others is kept: this cannot be undone. Until all is put in place at the end,
    the run is as it was.
    """
    from workflow.commands.updating.forget import describe, forget

    found = forget(run, segment, overrides=loaded.given)
    print_result(describe(found), found, as_json=as_json)


@click.command(
    "predict",
    cls=Command,
    example="""predict my-run more.npy --out more-labels.zarr
predict my-run - < more.npy > more-labels.csv""",
)
@click.argument("run", type=Path)
@click.argument("images")
@click.option("--out", metavar="LABELS.zarr", type=Path, help="Where labels are written.")
@shared_options
def predict_command(
    run: Path, images: str, out: Path | None, loaded: LoadedConfig, *, as_json: bool
) -> None:
    """Label new images by the clusters of a run.

    IMAGES is what `run` takes, or one picture file; or -, for arrays on standard input, one after the other,
    as numpy.save writes them: a line of CSV goes to standard output for each image, as soon as it
    has come (with --json a line for each array).
    """
    from workflow.commands.predict import far_out_sentence, predict
    from workflow.errors import ConfigError
    from workflow.formatting import format_count

    if (images == STREAM) != (out is None):
        msg = "`--out` must say where labels of stored images go, and only of those; those of standard input go to standard output. Give --out LABELS.zarr, or - instead of the images."
        raise ConfigError(msg)
    if out is None:
        _label_stream(run, as_json=as_json)
        return
    found = predict(run, images, out, overrides=loaded.given)
    images_found = format_count(found["n_samples"], "image")
    clusters = format_count(found["n_clusters"], "cluster")
    text = f"{images_found} in {clusters}, {found['noise_fraction']:.1%} noise: {out}"
    print_result(f"{text}\n{far_out_sentence(found)}".rstrip(), found, as_json=as_json)


def _label_stream(run: Path, *, as_json: bool) -> None:
    """Label the arrays on standard input; print what is said of each image."""
    from workflow.commands.predict import Model, predict_stream

    has_header = True
    for labels in predict_stream(Model(run), sys.stdin.buffer):
        told: pd.DataFrame = labels.drop_dims("rank").to_dataframe()
        if as_json:
            click.echo(json.dumps({"sample": told.index.tolist(), **told.to_dict("list")}))
        else:
            click.echo(told.to_csv(header=has_header, lineterminator="\n"), nl=False)
        has_header = False
