"""What every command of the command line shares: options, help, messages, results."""

from __future__ import annotations

import difflib
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow.cli.logs import set_up_logging
from workflow.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


#: Where the options of settings are noted until the settings are loaded.
NOTED = "workflow.settings"
#: Titles of the help, and the options under them; those not named come first.
GROUPS = {
    "Settings": {"shape", "dtype", "model", "whiten", "config", "set"},
    "Where it runs": {"compute"},
    "Output": {"json", "verbose", "help"},
}


class Command(click.Command):
    """A command whose help groups its options and ends with an example.

    Parameters
    ----------
    example : str
        Words after the name of the program, one command a line.
    """

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; of an option that there is not, name the nearest one only."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as err:
            # Without the dashes, which make all options alike.
            known = [name.removeprefix("--") for p in self.get_params(ctx) for name in p.opts]
            near = difflib.get_close_matches(err.option_name.lstrip("-"), known, n=1)
            hints = [f"--{name}" for name in near]
            raise click.NoSuchOption(err.option_name, possibilities=hints, ctx=err.ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their titles."""
        title_of = {name: title for title, names in GROUPS.items() for name in names}
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *GROUPS)}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and isinstance(option, click.Option):
                name = option.opts[-1].lstrip("-")
                groups[title_of.get(name, "Options")].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        program = ctx.find_root().info_name
        with formatter.section("Example" if "\n" not in self.example else "Examples"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{program} {line}\n")


class Layer(click.IntRange):
    """A layer of the tree: its number, or `families`."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word."""
        return value if value == "families" else super().convert(value, param, ctx)


def setting_option(option: str, key: str, **how: Any) -> Callable[[Any], Any]:
    """Add an option that stands for a setting; `shared_options` must follow it."""

    def note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            settings: dict[str, Any] = context.meta.setdefault(NOTED, {})
            settings[parameter.opts[0]] = {key: value}

    return click.option(option, expose_value=False, callback=note, **how)


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that tell how a source is to be read."""
    shape = setting_option(
        "--shape",
        "ingest.shape",
        metavar="H,W,C",
        help="Shape of one image: for raw binary files, and for pictures, where it is chosen by their sizes otherwise.",
    )
    dtype = setting_option(
        "--dtype",
        "ingest.dtype",
        metavar="T",
        help="Type of the values, for raw binary files: uint8, uint16, float16, float32 or float64; of image files uint8 or uint16.",
    )
    model = setting_option(
        "--model",
        "ingest.model",
        metavar="FILE.onnx",
        help="Model whose vectors of the images are taken instead of them.",
    )
    all_three: Callable[..., None] = shape(dtype(model(command)))
    return all_three


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command has."""

    @click.option(
        "--config", "config_file", metavar="FILE", type=Path, help="YAML file of settings."
    )
    @click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        help="A setting, such as pca.n_components=50; wins over all else. Repeatable. `config` lists them.",
    )
    @click.option(
        "--compute",
        metavar="SITE",
        help="Name in cluster_configs/, a site file, or tcp://HOST:PORT; by default this machine.",
    )
    @click.option(
        "--json", "as_json", is_flag=True, help="One JSON object as the last line of stdout."
    )
    @click.option("-v", "--verbose", count=True, help="More on stderr.")
    @functools.wraps(command)
    def wrapper(
        config_file: Path | None,
        assignments: Sequence[str],
        compute: str | None,
        verbose: int,
        **rest: Any,
    ) -> None:
        _import_dask()
        # Knows all steps, and so imports them: help answers without.
        from workflow.runstore.kept import choose_folder
        from workflow.steps import load_config

        set_up_logging(verbose)
        noted: Mapping[str, Any] = click.get_current_context().meta.get(NOTED, {})
        loaded = load_config(config_file, assignments, compute=compute, options=noted)
        if loaded.config.compute.log_format != "text":
            set_up_logging(verbose, loaded.config.compute.log_format)
        choose_folder(loaded.config.compute.working_folder)
        command(loaded=loaded, **rest)

    return wrapper


def _import_dask() -> None:
    """Import what reads Dask's configuration; where that is broken, say so."""
    try:
        import distributed  # noqa: F401
    except Exception as err:
        if "dask config file" in str(err):
            msg = f"Dask must be able to read its configuration; {one_line(err)}. Repair or remove that file."
            raise ConfigError(msg) from err
        import dask.config

        from workflow.config import dask_places

        if not dask.config.collect():
            raise
        msg = f"Dask must be able to use its configuration; it cannot ({one_line(err)}). Repair it or move it away: {dask_places()}."
        raise ConfigError(msg) from err


def print_result(text: str, content: Any, *, as_json: bool) -> None:
    """Print a result for a person, or as one line of JSON."""
    # Whatever the locale is, and as it is where a path holds bytes that are no text.
    click.echo((json.dumps(content) if as_json else text).encode("utf-8", "surrogateescape"))
