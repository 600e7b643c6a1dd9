"""Messages on stderr: as text for a person, or as lines of JSON for a log collector."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import click

#: What a message may carry besides its words; of a pass, of a step, of the workers.
FIELDS = ("step", "done", "total", "unit", "seconds", "n_workers", "n_lost")


class JsonLines(logging.Formatter):
    """A message as one line of JSON: time, level, logger, message, and what it carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
            }
        )


def set_up_logging(verbose: int, log_format: str = "text") -> None:
    """Send our messages to stderr; Dask's only where they are errors, or when asked for."""
    handler = _StderrHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter("%(message)s"))
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


def say_error(text: str) -> None:
    """Say what went wrong: a line that begins with ``error:``, or one of JSON."""
    own = logging.getLogger("workflow")
    if any(isinstance(handler.formatter, JsonLines) for handler in own.handlers):
        own.error("%s", text)
    else:
        click.echo(f"error: {text}", err=True)


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        click.echo(self.format(record), err=True)
