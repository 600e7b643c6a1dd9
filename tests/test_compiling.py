"""Compiled functions work where nothing can be kept, and what is kept is that of the present code."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import numba
from numba.core.registry import CPUDispatcher

import workflow
from workflow import compiling
from workflow.compiling import compiler, is_compiled

#: A function compiled by a process that says when it is there, waits for a file, and counts what it compiled.
COMPILING = """
import pathlib, sys, time
from workflow.compiling import is_compiled
from workflow.row_hashes import hash_words
import numpy as np
here = pathlib.Path(sys.argv[1])
pathlib.Path(sys.argv[2]).touch()
while not (here / "go").exists():
    time.sleep(0.001)
before = is_compiled(hash_words)
hash_words(np.ones((3, 2), np.uint64), np.ones((4, 2), np.uint64), np.empty((3, 2), np.uint64))
print(before, is_compiled(hash_words), sum(hash_words.stats.cache_misses.values()))
"""


def test_compiler__lets_one_process_compile_and_others_load(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILING, tmp_path, tmp_path / str(number)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    while not all((tmp_path / str(number)).exists() for number in range(2)):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.001)
    (tmp_path / "go").touch()
    told = sorted(process.communicate()[0].split() for process in processes)
    assert [words[1:] for words in told] == [["True", "0"], ["True", "1"]]
    assert told[1][0] == "False"


def test_compiler__compiles_itself_where_another_process_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "MAX_WAIT_S", 0.1)
    function = compiler(__file__)(lambda x: x + 1)
    with function._alone():
        assert not is_compiled(function)
        assert function(1) == 2
    assert is_compiled(function)


def test_compiler__works_where_nothing_can_be_written(monkeypatch):
    def enable_caching(self):
        text = "cannot cache function: no locator available"
        raise RuntimeError(text)

    monkeypatch.setattr(CPUDispatcher, "enable_caching", enable_caching)
    function = compiler(__file__)(lambda x: x + 1)
    assert is_compiled(function)
    assert function(1) == 2


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
