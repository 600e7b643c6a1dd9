"""Compiled functions work where nothing can be kept, and what is kept is that of the present code."""

import numba

from workflow.compiling import compiler


def test_compiler__works_where_nothing_can_be_written(monkeypatch):
    original = numba.njit

    def njit(*, nogil, cache=False):
        if cache:
            text = "cannot cache function: no locator available"
            raise RuntimeError(text)
        return original(nogil=nogil)

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
