"""Compiled functions work where nothing can be kept, and what is kept is that of the present code."""

import ast
from pathlib import Path

import numba

import workflow
from workflow.compiling import compiler


def test_compiler__works_where_nothing_can_be_written(monkeypatch):
    original = numba.njit

    def njit(*function, cache=False, **how):
        if cache:
            text = "cannot cache function: no locator available"
            raise RuntimeError(text)
        return original(*function, **how)

    monkeypatch.setattr(numba, "njit", njit)
    assert compiler(__file__)(lambda x: x + 1)(1) == 2


def test_compiler__names_change_with_any_source(tmp_path):
    def names():
        def one():
            pass

        return compiler(str(tmp_path / "_one.py"), "constants.py")(one).py_func.__qualname__

    sources = [tmp_path / name for name in ("_one.py", "_two.py", "constants.py", "other.py")]
    for source in sources:
        source.write_text("")
    seen = {names()}
    for source in sources[:3]:
        source.write_text("x = 1")
        assert names() not in seen
        seen.add(names())
    sources[3].write_text("x = 1")
    assert names() in seen


def called_from_python(module):
    """Return the private compiled functions of a module that plain functions of it name."""
    functions = [n for n in ast.parse(module.read_text()).body if hasattr(n, "decorator_list")]

    def is_compiled(function):
        return any("compiled" in ast.unparse(d) for d in function.decorator_list)

    private = {f.name for f in functions if is_compiled(f) and f.name.startswith("_")}
    plain = [f for f in functions if not is_compiled(f)]
    names = {n.id for f in plain for n in ast.walk(f) if isinstance(n, ast.Name)}
    return private & names


def test_private_functions__are_called_by_compiled_ones_alone():
    """From Python there is no way into them: such a call would end the process."""
    modules = list(Path(workflow.__file__).parent.rglob("*.py"))
    assert {m.name: found for m in modules if (found := called_from_python(m))} == {}
