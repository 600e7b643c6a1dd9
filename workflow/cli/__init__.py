"""The command line: words turned into one call each, our own errors printed in one line."""

from workflow.cli.program import main

__all__ = ["main"]
