"""What every command of the command line shares: options, messages, results."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workflow.config import LoadedConfig


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
        help="A setting, such as pca.n_components=50; wins over the file. Repeatable.",
    )
    @click.option(
        "--compute",
        metavar="NAME_OR_FILE_OR_ADDRESS",
        help="A site of cluster_configs/, a site file, or tcp://HOST:PORT.",
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
        from workflow.steps import load_config

        set_up_logging(verbose)
        command(loaded=load_config(config_file, assignments, compute=compute), **rest)

    return wrapper


def _import_dask() -> None:
    """Import what reads Dask's configuration; where that is broken, say so."""
    try:
        import distributed  # noqa: F401
    except Exception as err:
        import dask.config

        from workflow.config import dask_places

        if not dask.config.collect():
            raise
        msg = f"Dask must be able to use its configuration; it cannot ({one_line(err)}). Repair it or move it away: {dask_places()}."
        raise ConfigError(msg) from err


def set_up_logging(verbose: int) -> None:
    """Send our messages to stderr; Dask's only where they are errors, or when asked for."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("workflow")
    own.handlers[:] = [handler]
    own.propagate = False
    own.setLevel(logging.DEBUG if verbose else logging.INFO)
    # Imported first: it sets levels of its own.
    import distributed  # noqa: F401

    quiet = logging.INFO if verbose > 1 else logging.CRITICAL
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "bokeh", "asyncio"):
            logging.getLogger(name).setLevel(quiet)


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        click.echo(self.format(record), err=True)


def print_result(text: str, content: Any, *, as_json: bool) -> None:
    """Print a result for a person, or as one line of JSON."""
    # Whatever the locale is, and as it is where a path holds bytes that are no text.
    click.echo((json.dumps(content) if as_json else text).encode("utf-8", "surrogateescape"))


def given(loaded: LoadedConfig) -> dict[str, Any]:
    """Return the settings that the user set, by dotted key."""
    return loaded.given
