"""What a release is made of says the same in all its files."""

import pickle
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import workflow
from workflow.versions import show_versions

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = ROOT / ".github" / "workflows"


def test_versions__are_those_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert workflow.__version__ == version("overcluster")


def test_alias__has_the_same_objects():
    import overcluster.pca.estimator

    import workflow.pca.estimator

    assert overcluster.run is workflow.run
    assert overcluster.pca is workflow.pca
    assert overcluster.pca.estimator.PCA is workflow.pca.PCA
    assert workflow.pca.estimator.__spec__.name == "workflow.pca.estimator"
    assert pickle.loads(pickle.dumps(overcluster.pca.PCA)) is workflow.pca.PCA
    assert set(dir(workflow)) == set(dir(overcluster))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = overcluster.nothing
    with pytest.raises(ModuleNotFoundError, match=r"workflow\.nothing"):
        import overcluster.nothing


def test_alias__runs_as_a_program():
    ended = subprocess.run(
        [sys.executable, "-m", "overcluster", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout.split()[-1] == version("overcluster")


def test_show_versions__names_every_dependency(capsys):
    show_versions()
    rows = dict(line.strip().split(": ", 1) for line in capsys.readouterr().out.splitlines())
    names = {re.split(r"[\[>=]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert names <= set(rows)
    assert rows["numpy"] == version("numpy")


def test_workflows__test_the_pythons_that_are_named():
    tests = yaml.safe_load((WORKFLOWS / "tests.yml").read_text(encoding="utf-8"))
    named = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(tests["jobs"]["test"]["strategy"]["matrix"]["python"]) == named
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in WORKFLOWS.glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        for step in (step for job in jobs.values() for step in job["steps"]):
            words = step.get("run", "").split()
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if "=" not in word} <= targets


def test_recipe__needs_what_the_project_needs():
    printed = subprocess.run(
        [sys.executable, ROOT / "packaging" / "recipe.py", "0" * 64],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    recipe = yaml.safe_load(printed)
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    needed = {line.split()[0].split(">")[0] for line in recipe["requirements"]["run"]}
    assert len(needed) == len(PROJECT["dependencies"]) + 1
    assert {"python", "dask", "numba", "zarr"} <= needed
    assert recipe["package"] == {"name": "overcluster", "version": PROJECT["version"]}
    assert len(environment["dependencies"]) >= len(needed)
    assert recipe["build"]["python"]["entry_points"] == ["overcluster = workflow.cli:main"]
