"""The command line: words turned into one call each, our own errors printed in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


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
    from workflow.cli.program import main as run_program

    return run_program(arguments)
