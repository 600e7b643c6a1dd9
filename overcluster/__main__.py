"""``python -m overcluster``: the command line."""

from workflow.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
