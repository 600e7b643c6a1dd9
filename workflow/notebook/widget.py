"""The page of a run as a widget of Jupyter; needs anywidget, which nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workflow.errors import StoreError
from workflow.notebook.explore import KINDS, require_selectable, selected_rows
from workflow.runstore import RunStore, layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Explorer(anywidget.AnyWidget):
    """Shows the page of a run, and knows what is selected on it.

    Parameters
    ----------
    store : RunStore
        The run.
    page : bytes
        Its page.
    **traits : Any
        ``height`` and others of a widget.

    Attributes
    ----------
    selected : dict of str to int
        ``cluster``, ``family`` or ``image``, or ``layer`` and ``group``; empty where nothing is selected.
        ``observe(function, "selected")`` calls a function when it changes.
    height : int
        Height [pixels].
    """

    _esm = Path(__file__).with_name("widget.js")
    # Bytes travel as they are, and once, in the message that opens the widget.
    _page = traitlets.Bytes().tag(sync=True)
    height = traitlets.Int(min=100).tag(sync=True)
    selected = traitlets.Dict(
        traitlets.Union([traitlets.Int(), traitlets.List(traitlets.CFloat(), minlen=4, maxlen=4)]),
        key_trait=traitlets.Enum(KINDS),
    ).tag(sync=True)

    def __init__(self, store: RunStore, page: bytes, **traits: Any) -> None:
        super().__init__(_page=page, **traits)
        self._run, self._shown = store.path, _labels_of(store)

    @property
    def selection(self) -> NDArray[np.int64]:
        """All images that are selected, also those that the page does not show: rising, of shape (n_selected,).

        Raises
        ------
        StoreError
            If the run has got other labels since its page was opened.
        """
        return selected_rows(self._store(), self.selected)

    def select(self, **what: Any) -> None:
        """Select on the page.

        Parameters
        ----------
        **what : int or sequence of float
            ``cluster``, -1 for noise, ``family`` or ``image``; or ``layer`` and
            ``group``; or ``region``, left, bottom, right and top of a rectangle of
            the map, as ``x`` and ``y`` have them; nothing ends the selection.

        Raises
        ------
        ConfigError
            If the run has no such thing.
        """
        require_selectable(self._store(), what)
        self.selected = {
            kind: [float(edge) for edge in value] if kind == "region" else int(value)
            for kind, value in what.items()
        }

    def _store(self) -> RunStore:
        """Return the run; refuse one whose clusters are not those of the page."""
        store = RunStore.open(self._run)
        if _labels_of(store) != self._shown:
            msg = f"the labels must be those that the page shows; {self._run} has got others since. Call `run.explore()` again."
            raise StoreError(msg)
        return store


def _labels_of(store: RunStore) -> tuple[Any, ...]:
    """Return what tells the present labels of a run from others."""
    record = store.step("labels")
    # Not of files that differ where the labels are the same, such as journals.
    own = {name: crc for name, crc in record.checksums.items() if name.startswith(layout.MODEL)}
    return record.state, record.key, own
