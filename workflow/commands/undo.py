"""undo: the last thing that was done by hand, taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.base import require_labels, stored_config
from workflow.commands.name import write_names
from workflow.commands.recut import relabel
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.runstore import RunStore
from workflow.steps.parts.cluster_names import cluster_names, restore_names
from workflow.steps.parts.edits import changed_words, present_cut

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.engine.progress import Progress


def undo(
    run: Path | str,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take the last name, merge, split or recut of a run back; again and again, to the first.

    The labels are those of before, to the last bit.  Clusters that were found
    anew, by another tree, are where this ends.

    Parameters
    ----------
    run : path
        The run folder.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``changed``, what was taken back in one line; ``n_clusters`` of the
        run, and ``n_left``, how many more things can be taken back.

    Raises
    ------
    ConfigError
        If nothing was done by hand.
    StoreError
        If the run has no labels, or cannot be written.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labels(store)
        history, names = store.manifest.history, cluster_names(store)
        if not history:
            msg = f"`undo` must find something that was done by hand; in {store.path} there is nothing, or nothing more. `name`, `merge`, `split` and `recut` do such things."
            raise ConfigError(msg)
        last, cut = history.pop(), present_cut(store)
        if "names" in last:
            restore_names(store, last["names"])
        before, words = last.get("cut", cut), f"took back: {last['done']}"
        if "n_edits" in last:
            before = {**cut, "edits": cut["edits"][: last["n_edits"]]}
        if before == cut:
            write_names(store, config)
        else:
            relabel(
                store,
                config,
                before["requested"],
                before["edits"],
                done=words,
                client=client,
                progress=progress,
            )
        return {
            "changed": changed_words(store, words, names),
            "n_clusters": read_summary(store)["n_clusters"],
            "n_left": len(history),
        }
