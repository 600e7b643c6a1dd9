"""The package `workflow` under the name of its distribution: the same modules, the same objects."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

import workflow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PREFIX = f"{__name__}."


class _Alias(MetaPathFinder, Loader):
    """Finds ``overcluster.NAME`` as the module ``workflow.NAME``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for names below this package, ``__main__`` but for."""
        if not fullname.startswith(PREFIX) or fullname == f"{PREFIX}__main__":
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module that is meant, and remember whose it is."""
        module = importlib.import_module(f"workflow.{spec.name.removeprefix(PREFIX)}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back the spec that the import took from it."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _Alias())
__getattr__ = workflow.__getattr__
__all__ = workflow.__all__


def __dir__() -> list[str]:
    """List the public names."""
    return dir(workflow)
