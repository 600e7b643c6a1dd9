"""One name per step, used everywhere; and the folder tree is the architecture."""

import importlib
from pathlib import Path

import pytest

from workflow.config import flatten
from workflow.engine.step import by_name
from workflow.steps import STEPS, config_class

ROOT = Path(__file__).resolve().parent.parent
NAMES = [step.name for step in STEPS]


@pytest.mark.parametrize("name", NAMES)
def test_step_name__is_a_module_of_the_mathematics_and_one_of_the_steps(name):
    assert importlib.import_module(f"workflow.{name}").__doc__
    module = importlib.import_module(f"workflow.steps.{name}")
    assert type(by_name(STEPS)[name]).__module__ == module.__name__


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_step__has_a_section_a_test_folder_and_settings_that_exist(step):
    model = config_class()
    assert model.model_fields[step.name].annotation is step.section
    assert (ROOT / "tests" / step.name).is_dir()
    assert set(step.settings) <= set(flatten(model().model_dump(mode="json")))


def test_top_level__holds_what_the_card_names():
    names = [
        "pyproject.toml",
        "workflow",
        "cluster_configs",
        "notebooks",
        "tests",
        "environment.yml",
    ]
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_no_module__runs_long():
    """A step is one file, however much it does."""
    lengths = {p: len(p.read_text().splitlines()) for p in (ROOT / "workflow").rglob("*.py")}
    long = {p: n for p, n in lengths.items() if n > (650 if p.parent.name == "steps" else 450)}
    assert long == {}


def test_no_folder__is_a_heap():
    folders = [p for p in (ROOT / "workflow").rglob("*") if p.is_dir()]
    sizes = {p.name: len(list(p.glob("*.py"))) for p in folders}
    assert {name: n for name, n in sizes.items() if n > 21} == {}
