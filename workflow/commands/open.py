"""open: the page of a run with all its images behind it, served to a browser on this machine."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import sys
import threading
import webbrowser
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import cluster_number, images_of, require_labels
from workflow.commands.members import ranking_of
from workflow.commands.merge import merge
from workflow.commands.name import name
from workflow.commands.similar import similar
from workflow.commands.split import split
from workflow.commands.undo import undo
from workflow.engine.summary import read_summary
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.runstore import RunStore, layout, zarr_io
from workflow.server import Site, serve
from workflow.steps.base import is_picture
from workflow.steps.browsing.members import Ranked, Ranking, described_rows
from workflow.steps.browsing.own_columns import columns_at
from workflow.steps.browsing.previews import Previews

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from threading import Event

    from workflow.server.serving import Opened

#: Most rows of an answer, those of one that does not say how many, and most that are found by their path.
MAX_ROWS, PAGE_ROWS, MAX_FOUND = 1000, 60, 20
#: Rankings of clusters that are kept, on the disk for temporary files.
MAX_RANKED = 32
#: Previews that tell which values of images that are not uint8 are black and white.
MAX_LOOKED_AT = 256


def open_run(
    run: Path | str,
    *,
    port: int = 0,
    edit: bool = False,
    ready: Callable[[Opened], None] = lambda opened: None,
) -> None:
    """Serve the page of a run on 127.0.0.1 until Ctrl-C.

    Parameters
    ----------
    run : path
        A run with labels and a page.
    port : int
        Where; 0 takes one that is free.
    edit : bool
        Whether clusters can be named, merged and split in the page.
    ready : callable
        Called with where the page is, once it is served.

    Raises
    ------
    StoreError
        If the run has no labels or no page.
    ConfigError
        If the port cannot be had.
    """
    serve(site_of(run, edit=edit), port, ready)


def site_of(run: Path | str, *, edit: bool = False) -> Site:
    """Return what is served of a run."""
    store = RunStore.open(run)
    require_labels(store)
    if not (store.path / layout.REPORT).is_file():
        msg = f"the run must have a page; {store.path} has no {layout.REPORT}. `overcluster report {run}` writes it."
        raise StoreError(msg)
    opened = OpenRun(store)
    return Site(
        page=(store.path / layout.REPORT).read_bytes,
        state=opened.state,
        picture=opened.picture,
        reads={
            "members": opened.members,
            "similar": opened.similar,
            "find": opened.find,
            "row": opened.row,
        },
        edits=_edits(store.path) if edit else {},
    )


class OpenRun:
    """Answers about a run folder, from several threads; what others change in it is seen."""

    def __init__(self, store: RunStore) -> None:
        self._run, self._n_samples = store.path, int(store.manifest.images["shape"][0])
        self._pictures = Thumbnails(store)
        self._ranking = threading.Lock()
        self._ranked = lru_cache(MAX_RANKED)(self._rank)

    def state(self) -> str:
        """Return a word for the present labels: another cut gives the clusters other numbers."""
        try:
            known = (self._run / layout.LABELS / zarr_io.GROUP_METADATA).stat()
        except OSError:
            return "0"
        stamp = f"{known.st_mtime_ns} {known.st_ino} {known.st_size}"
        return hashlib.blake2b(stamp.encode(), digest_size=6).hexdigest()

    def picture(self, index: int) -> bytes:
        """Return an image as PNG, some 48 pixels high."""
        return self._pictures.png(self._row(index))

    def row(self, query: Mapping[str, str], gone: Event) -> dict[str, Any]:
        """Return what is known of an image."""
        del gone
        store, rows = self._store(), np.array([self._row(_number(query, "index"))])
        own = {column.name: column.word(0) for column in columns_at(store, rows)}
        return described_rows(store, rows)[0] | {"columns": own}

    def members(self, query: Mapping[str, str], gone: Event) -> dict[str, Any]:
        """Return some images of a cluster, a family or a region, the strongest or the weakest first."""
        del gone
        store, order = self._store(), query.get("order", "strongest")
        n_chosen = len({"cluster", "family", "region"} & set(query))
        if order not in ("strongest", "weakest") or n_chosen != 1:
            msg = "members must be asked for by cluster, family or region, and order be strongest or weakest. Correct the question."
            raise ConfigError(msg)
        family = _number(query, "family") if "family" in query else None
        ranking, _ = ranking_of(store, query.get("cluster"), family, query.get("region"))
        limit = _number(query, "limit", PAGE_ROWS, 1, MAX_ROWS)
        state = self.state()
        # One at a time: who asks for the same cluster twice waits for the first answer.
        with self._ranking:
            ranked = self._ranked(ranking, state)
        rows = ranked.page(_number(query, "offset", 0), limit, weakest=order == "weakest")
        found = {"total": ranked.n_images, "rows": described_rows(store, rows)}
        if self.state() != state:
            msg = "the clusters have changed while they were read. Reload the page."
            raise StoreError(msg)
        return found

    def similar(self, query: Mapping[str, str], gone: Event) -> dict[str, Any]:
        """Return the images most like an image of the run."""
        del gone
        limit = _number(query, "limit", 0, 0, MAX_ROWS) or None
        found = similar(self._run, self._row(_number(query, "index")), limit=limit)
        return {name: found[name] for name in ("of", "recall", "neighbors")}

    def find(self, query: Mapping[str, str], gone: Event) -> dict[str, Any]:
        """Return the first images whose path holds a text."""
        store, text = self._store(), query.get("path", "")
        labels, found = store.path / layout.LABELS, np.empty(0, np.int64)
        if text and "path" in zarr_io.array_names(labels):
            for block in row_ranges(*rows_and_blocks(store)):
                if gone.is_set() or len(found) >= MAX_FOUND:
                    break
                paths = zarr_io.read_rows(labels, "path", *block)
                here = np.flatnonzero(np.strings.find(paths, text) >= 0) + block.start
                found = np.concatenate([found, here])[:MAX_FOUND]
        return {"rows": described_rows(store, found)}

    def _store(self) -> RunStore:
        """Return the run as it is now; refuse it while it has no labels."""
        store = RunStore.open(self._run)
        require_labels(store)
        return store

    def _row(self, index: int) -> int:
        """Return the number of an image; refuse one that there is not."""
        if not 0 <= index < self._n_samples:
            msg = f"an image must be 0 to {self._n_samples - 1}; got {index}. Count from 0."
            raise ConfigError(msg)
        return index

    def _rank(self, ranking: Ranking, state: str) -> Ranked:
        """Return the images of a cluster in order; `state` is what the order belongs to."""
        del state
        return Ranked(RunStore.open(self._run), ranking)


def _number(
    query: Mapping[str, str], name: str, default: int | None = None, low: int = 0, high: int = 2**62
) -> int:
    """Return a number of a question."""
    text = query.get(name, "" if default is None else str(default)).strip()
    if not text.isdecimal() or not low <= int(text) <= high:
        msg = f"`{name}` must be a whole number of {low} or more; got {text or 'nothing'}. Correct the question."
        raise ConfigError(msg)
    return int(text)


class Thumbnails:
    """Single images as PNG: from where they lie, or, where they are gone, from those that were kept for the page."""

    def __init__(self, store: RunStore) -> None:
        from workflow.report.contact_sheets import shown_range

        self._shape = tuple(store.manifest.images["shape"][1:])
        self._images, self._kept, self._shown = None, None, None
        if is_picture(self._shape):
            self._images, self._kept = images_of(store), Previews(store)
            some = self._kept.pictures(np.arange(min(len(self._kept.rows), MAX_LOOKED_AT)))
            self._shown = shown_range([some.reshape(-1, *self._shape)])

    def png(self, row: int) -> bytes:
        """Return an image."""
        from workflow.report.contact_sheets import contact_sheet

        if self._kept is None:
            msg = f"images must have rows and columns to be looked at; those of this run are vectors of shape {self._shape}. There is no picture."
            raise ImagesError(msg)
        rows = np.array([row])
        if self._images is None and not self._kept.has(rows)[0]:
            msg = f"the images of the run must be where they were, unchanged; they are gone, and image {row} is not among those that were kept. Put them back."
            raise ImagesError(msg)
        pixels = self._kept.with_images(rows, self._images, self._shape)
        return contact_sheet(pixels, 1, value_range=self._shown)


def _edits(run: Path) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Return what can be changed in a run, by what is sent."""

    def number(cluster: Any) -> int:
        return cluster_number(read_summary(RunStore.open(run)), cluster)

    def clusters(sent: Mapping[str, Any]) -> list[int]:
        given = sent.get("clusters")
        if not isinstance(given, list):
            msg = f"`clusters` must be a list of clusters; got {given!r}. Send their numbers."
            raise ConfigError(msg)
        return [number(cluster) for cluster in given]

    return {
        "name": lambda sent: name(run, number(sent.get("cluster")), sent.get("name") or None),
        "merge": lambda sent: merge(run, clusters(sent)),
        "split": lambda sent: split(run, number(sent.get("cluster"))),
        "undo": lambda sent: undo(run),
    }


def reach(port: int) -> list[str]:
    """Return how a page is reached from where the user sits, if that is another machine, and how it is closed."""
    ssh = os.environ.get("SSH_CONNECTION", "").split()
    if not ssh:
        return ["Ctrl-C closes it."]
    host = ssh[2] if len(ssh) > 2 else platform.node()
    user = getpass.getuser()
    return [
        "Ctrl-C closes it. On the machine before you, run this first, then open the address there:",
        f"ssh -N -L {port}:127.0.0.1:{port} {user}@{host}",
    ]


def show(url: str) -> None:
    """Open a page in the user's browser, if there is a screen here; one in the terminal would take that over."""
    is_graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if is_graphical and "SSH_CONNECTION" not in os.environ:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
