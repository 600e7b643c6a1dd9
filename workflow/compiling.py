"""How inner loops are compiled: when first called, and stored on disk for the next process."""

from __future__ import annotations

import contextlib
import fcntl
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba.core import sigutils
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_Function = TypeVar("_Function", bound="Callable[..., Any]")

#: Longest time to wait for another process that compiles the same function [s]: ten times what any takes.
MAX_WAIT_S = 60.0
#: Pause between two looks whether it is done [s].
WAIT_PAUSE_S = 0.02


def compiler(module: str, *others: str) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles functions when they are first called.

    Parameters
    ----------
    module : str
        ``__file__`` of the module that the functions stand in.
    *others : str
        Files beside it whose constants or functions they contain; those whose
        name begins with an underscore count anyway.

    Returns
    -------
    callable
        Decorator.  Compiled code is stored on disk where that can be written.

    Notes
    -----
    Functions whose name begins with an underscore are called by compiled ones
    alone: they get no way in from Python, which takes time to compile.  One thread
    and no reordering of sums: the same bits on every machine of a kind.  Other threads of the process, which read ahead and talk to the
    scheduler, go on meanwhile.  Stored code is found by the name and the file of a function but
    also contains code of other files, so the name is given a checksum of all.
    """
    folder = Path(module).parent
    sources = sorted({*folder.glob("_[!_]*.py"), *(folder / name for name in others)})
    version = f"{zlib.crc32(b''.join(source.read_bytes() for source in sources)):08x}"

    def compiled(function: _Function) -> _Function:
        function.__qualname__ = f"{function.__qualname__}_{version}"
        options = {
            "nopython": True,
            "nogil": True,
            "no_cfunc_wrapper": True,
            "no_cpython_wrapper": function.__name__.startswith("_"),
        }
        kernel = _Kernel(function, targetoptions=options)
        # Where nothing can be written beside the module or in the home folder, nothing is stored.
        with contextlib.suppress(RuntimeError):
            kernel.enable_caching()
        return cast("_Function", kernel)

    return compiled


def is_compiled(function: Callable[..., Any]) -> bool:
    """Return whether there is nothing to compile ahead of a function: its code is stored, or cannot be.

    Parameters
    ----------
    function : callable
        Decorated by what `compiler` returns.

    Returns
    -------
    bool
        False where its code for this processor is missing and can be stored.
    """
    assert isinstance(function, _Kernel)
    return isinstance(function._cache, NullCache) or bool(function.stored())


class _Kernel(CPUDispatcher):
    """A function that one process at a time compiles; the others wait, and load what it has stored."""

    _cache: Any
    targetctx: Any

    def stored(self) -> set[Any]:
        """Return the types of arguments for which code for this processor is stored."""
        processor = self.targetctx.codegen().magic_tuple()
        index = self._cache._cache_file._load_index()
        return {types for types, compiled_for, _ in index if compiled_for == processor}

    def compile(self, sig: Any) -> Any:
        """Compile for types of arguments, unless that was done here or elsewhere."""
        # Taken first everywhere: of two threads each would hold what the other one waits for.
        with global_compiler_lock:
            is_here = tuple(sigutils.normalize_signature(sig)[0]) in self.overloads
            if is_here or isinstance(self._cache, NullCache) or sig in self.stored():
                return super().compile(sig)
            with self._alone():
                return super().compile(sig)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process compiles the function, or for `MAX_WAIT_S`; keep others waiting while inside."""
        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}.lock"
        with (Path(self._cache.cache_path) / name).open("w") as file:
            deadline = time.monotonic() + MAX_WAIT_S
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(WAIT_PAUSE_S)
                except OSError:  # a file system without locks
                    break
            yield


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in a form that cannot be written to, so that one kind of code is compiled.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    ndarray of the same shape and dtype
        A C-contiguous view, or a copy where there is none.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
