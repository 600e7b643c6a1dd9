"""How inner loops are compiled: when first called, and stored on disk for the next process."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

_Function = TypeVar("_Function", bound="Callable[..., Any]")


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
        is_private = function.__name__.startswith("_")
        function.__qualname__ = f"{function.__qualname__}_{version}"
        compiles = partial(
            numba.njit, nogil=True, no_cfunc_wrapper=True, no_cpython_wrapper=is_private
        )
        try:
            return cast("_Function", compiles(cache=True)(function))
        except RuntimeError:  # nothing can be written beside the module or in the home folder
            return cast("_Function", compiles()(function))

    return compiled


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
