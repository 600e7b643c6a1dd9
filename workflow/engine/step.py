"""What a step is: all that the engine, the commands and the settings need to know of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.config import Section
    from workflow.engine.context import Context
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes, TaskPlan
    from workflow.runstore import RunStore
    from workflow.schema import ArraySpec


class Rider(Protocol):
    """What rides along on the pass of another step: it takes rows of each block while that has them, once less read."""

    def take(self, rows: RowRange, block: NDArray[Any]) -> NDArray[Any]:
        """Return what is kept of a block; small."""

    def leave(self, partition: Partition, taken: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """Leave what was kept of a partition; return what its report says of it."""


class Step(ABC):
    """One step of a workflow; a subclass is its declaration, an instance in a list makes it run.

    Attributes
    ----------
    name : str
        Name of the step, of its section of the settings and of its folder in a run.
    version : int
        Raised when the code changes what the step computes: older results are stale then.
    section : type or None
        The model of its section of the settings.
    settings : tuple of str
        Dotted keys of the settings whose change makes its result stale, also
        such of other sections.
    later_settings : dict of str to object
        Those of `settings` that came after the step, each with the value that leaves the result as
        it was before: at that value nothing becomes stale.
    reads : tuple of str
        The steps whose results it reads.  They come before it.
    arrays : dict of str to ArraySpec
        The arrays that it writes into ``model.zarr``.
    reads_images_first : bool
        Whether nothing was made of the images before it: where they turn out to be damaged, the
        run folder takes others.

    Notes
    -----
    What a step needs while it runs is in the `Context`; an instance holds nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    section: ClassVar[type[Section] | None] = None
    settings: ClassVar[tuple[str, ...]] = ()
    later_settings: ClassVar[Mapping[str, Any]] = {}
    reads: ClassVar[tuple[str, ...]] = ()
    arrays: ClassVar[Mapping[str, ArraySpec]] = {}
    reads_images_first: ClassVar[bool] = False

    @abstractmethod
    def run(self, context: Context) -> None:
        """Do the work that is left, and put the result into the run folder.

        Parameters
        ----------
        context : Context
            The run folder, the settings, the images, and what runs tasks.
        """

    def rider(self, context: Context, name: str) -> Rider | None:
        """Return what takes rows from the pass of an earlier step, if that lets others ride along; usually nothing.

        Parameters
        ----------
        context : Context
            The run folder and the settings.
        name : str
            The step whose pass it is.

        Returns
        -------
        Rider or None
            Picklable.
        """
        del context, name
        return None

    def outputs(self, run: Path) -> list[Path]:
        """Return what a complete step leaves: where one of these is gone, the step is absent."""
        del run
        return []

    def results(self, run: Path) -> list[Path]:
        """Return the Zarr groups that the step writes for users, outside its folder and the model."""
        del run
        return []

    def more_key(self, store: RunStore) -> Mapping[str, Any]:
        """Return what else the result depends on, beside images, settings and steps; JSON-able."""
        del store
        return {}

    def stale_reason(self, store: RunStore) -> str:
        """Return why a complete step must be done again although its key is the same; usually empty."""
        del store
        return ""

    def dims(self, sizes: Sizes) -> Mapping[str, int]:
        """Return the lengths of the dimensions that the step decides, as far as a plan can know."""
        del sizes
        return {}

    def check(self, sizes: Sizes) -> None:
        """Refuse settings that images of these sizes cannot have.

        Raises
        ------
        ConfigError
            Naming the setting.
        """
        del sizes

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the passes of the step: how many tasks, what they read, write and hold."""
        del sizes
        return []

    def growth(self, sizes: Sizes) -> float:
        """Return how long the step takes, in a unit of its own: only ratios count.

        Parameters
        ----------
        sizes : Sizes
            Sizes of a run.

        Returns
        -------
        float
            About the seconds on the workers of this machine, without what only the first run of a
            process takes; 0 where the step has nothing to do.
        """
        del sizes
        return 1.0

    def client_bytes(self, sizes: Sizes) -> int:
        """Return what the leading process holds during the step, beside itself [bytes]."""
        del sizes
        return 0

    def verify(self, store: RunStore) -> Iterator[str]:
        """Yield a line for everything that is not as the journals of the step say."""
        del store
        yield from ()

    def describe(self, store: RunStore) -> str:
        """Return what the step has done, for the line that tells its seconds: counts with units."""
        del store
        return ""

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return what the step adds to ``summary.json``."""
        del store
        return {}


def by_name(steps: Iterable[Step]) -> dict[str, Step]:
    """Return steps by their names, in their order.

    Raises
    ------
    ValueError
        If two have one name, or one reads the result of a step that does not come before it.
    """
    found: dict[str, Step] = {}
    for step in steps:
        unknown = [name for name in step.reads if name not in found]
        if unknown or step.name in found:
            what = f"reads {unknown[0]}, which is not before it" if unknown else "is there twice"
            msg = f"steps must be in an order in which each reads earlier ones; {step.name} {what}."
            raise ValueError(msg)
        found[step.name] = step
    return found


def needed_for(steps: Iterable[Step], name: str) -> list[str]:
    """Return a step and all that it reads, directly or not, in their order."""
    known = by_name(steps)
    needed = {name}
    for step in reversed(known.values()):
        if step.name in needed:
            needed |= set(step.reads)
    return [step for step in known if step in needed]


def dependents(steps: Iterable[Step], name: str) -> list[str]:
    """Return the steps that read the result of a step, directly or not, in their order."""
    found = {name}
    for step in steps:
        if found & set(step.reads):
            found.add(step.name)
    return [step.name for step in steps if step.name in found - {name}]
