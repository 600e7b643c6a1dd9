"""Print a conda-forge recipe, made from pyproject.toml: ``python packaging/recipe.py SHA256 > recipe.yaml``."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import yaml

#: Names on conda-forge that differ from those of PyPI.
RENAMED = {"dask[distributed]": "dask", "matplotlib": "matplotlib-base"}


def recipe(sha256: str) -> dict[str, object]:
    """Return the recipe for the source distribution with this checksum."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    run = []
    for requirement in project["dependencies"]:
        name, bounds = re.fullmatch(r"([\w\[\]-]+)(.*)", requirement).groups()
        run.append(f"{RENAMED.get(name, name)} {bounds}".strip())
    python = f"python {project['requires-python']}"
    return {
        "package": {"name": project["name"], "version": project["version"]},
        "source": {
            "url": f"https://pypi.org/packages/source/o/overcluster/overcluster-{project['version']}.tar.gz",
            "sha256": sha256,
        },
        "build": {
            "number": 0,
            "noarch": "python",
            "script": "python -m pip install . -vv --no-deps --no-build-isolation",
            "python": {"entry_points": [f"overcluster = {project['scripts']['overcluster']}"]},
        },
        "requirements": {"host": [python, "pip", "hatchling"], "run": [python, *run]},
        "tests": [
            {"python": {"imports": ["workflow", "overcluster"]}},
            {"script": ["overcluster --help"]},
        ],
        "about": {
            "summary": project["description"],
            "license": project["license"],
            "license_file": "LICENSE",
        },
    }


if __name__ == "__main__":
    sys.stdout.write(yaml.safe_dump(recipe(sys.argv[1]), sort_keys=False))
