"""One name per step, used everywhere; and the folder tree is the architecture."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import workflow.commands
from workflow.config import flatten
from workflow.engine.step import by_name
from workflow.steps import STEPS, config_class

#: Libraries that are slow to import, for a page, an estimator, or packed values.
SLOW = {"matplotlib", "pandas", "sklearn", "xarray"}
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
    """A step is one file, however much it does, and so is the class that users see."""
    lengths = {p: len(p.read_text().splitlines()) for p in (ROOT / "workflow").rglob("*.py")}
    whole = {p for p in lengths if "steps" in p.parts or p.name == "api.py"}
    long = {p: n for p, n in lengths.items() if n > (650 if p in whole else 500)}
    assert long == {}


def test_no_folder__is_a_heap():
    folders = [p for p in (ROOT / "workflow").rglob("*") if p.is_dir()]
    sizes = {p.name: len(list(p.glob("*.py"))) for p in folders}
    assert {name: n for name, n in sizes.items() if n > 21} == {}


def public_functions():
    """Every function that a room names in `__all__`, and the public methods of the classes it names."""
    names = [
        m.name for m in pkgutil.walk_packages([str(ROOT / "workflow")], "workflow.") if m.ispkg
    ]
    for package in ["workflow", *names]:
        room = importlib.import_module(package)
        things = [getattr(room, name) for name in getattr(room, "__all__", [])]
        protocols = [t for t in things if inspect.isclass(t) and getattr(t, "_is_protocol", False)]
        for thing in things:
            if inspect.isfunction(thing):
                yield f"{package}.{thing.__name__}", thing
            if not inspect.isclass(thing):
                continue
            for name, member in vars(thing).items():
                function = getattr(member, "__func__", member)
                # What implements a protocol is documented there.
                is_documented = any(thing is not p and name in vars(p) for p in protocols)
                if inspect.isfunction(function) and not name.startswith("_") and not is_documented:
                    yield f"{package}.{thing.__name__}.{name}", function


def raises_directly(function):
    """Whether a function itself raises an error, other than one that it caught."""
    code = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(code))


def test_public_functions__say_what_they_take_give_back_and_raise():
    lacking = {}
    for name, function in public_functions():
        signature, doc = inspect.signature(function), function.__doc__ or ""
        wanted = [("Raises\n",)] if raises_directly(function) else []
        if set(signature.parameters) - {"self", "cls"}:
            wanted.append(("Parameters\n",))
            if signature.return_annotation not in (None, "None"):
                wanted.append(("Returns\n", "Yields\n"))
        lacks = [section[0].strip() for section in wanted if not any(s in doc for s in section)]
        if lacks:
            lacking[name] = lacks
    assert lacking == {}


def test_steps_and_commands__import_nothing_that_few_of_them_need():
    """What every worker and every command would wait for, a second and more."""
    names = ["workflow.steps"]
    names += [
        f"workflow.commands.{m.name}" for m in pkgutil.iter_modules(workflow.commands.__path__)
    ]
    code = f"import sys, {', '.join(names)}; print(sorted({SLOW} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
