"""One name per step, used everywhere; and the folder tree is the architecture."""

import importlib
from pathlib import Path

import pytest
from workflow.pipeline.stale import DEPENDS
from workflow.pipeline.steps import STEPS

from workflow.config import Config
from workflow.runstore import layout

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", STEPS)
def test_step_name__is_a_module(name):
    assert importlib.import_module(f"workflow.{name}").__doc__


@pytest.mark.parametrize("name", STEPS)
def test_step_name__is_a_section_a_test_folder_and_a_dependency(name):
    assert name in Config.model_fields
    assert (ROOT / "tests" / name).is_dir()
    assert name in DEPENDS


def test_step_names__come_in_the_order_of_the_layout():
    assert tuple(STEPS) == layout.STEPS == tuple(DEPENDS)


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
    lengths = {p: len(p.read_text().splitlines()) for p in (ROOT / "workflow").rglob("*.py")}
    assert {p.name: n for p, n in lengths.items() if n > 450} == {}
