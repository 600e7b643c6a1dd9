"""members: the images of a cluster, of a family or in a rectangle of the map, the strongest or the weakest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from workflow.chunks import row_ranges
from workflow.commands.base import cluster_number, require_labels
from workflow.commands.export.places import new_place, replaced_when_whole
from workflow.commands.export.tables import TABLES, Frames, write_table
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.runstore import RunStore
from workflow.steps.browsing.members import Ranked, Ranking, described_rows, ends, region_of
from workflow.steps.families import family_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Order = Literal["strongest", "weakest"]
#: Images that are listed where nothing else is asked for.
LISTED = 100
#: Images whose names are looked up at once for a file.
FILE_ROWS = 2**20


def members(
    run: Path | str,
    cluster: int | str | None = None,
    *,
    family: int | None = None,
    region: Sequence[float] | str | None = None,
    limit: int | None = None,
    offset: int = 0,
    order: Order = "strongest",
    out: Path | str | None = None,
) -> dict[str, Any]:
    """List the images of a cluster, of a family, or in a rectangle of the map.

    Parameters
    ----------
    run : path
        A run with labels.
    cluster : int or str, optional
        Number or name of the cluster; -1 or ``noise`` for noise, the least
        outlying images first.
    family : int, optional
        The family instead.
    region : sequence of float or str, optional
        The rectangle instead: left, bottom, right and top, as ``x`` and ``y`` have them.
    limit : int, optional
        Images at most: 100 by default, or all where they go to a file.
    offset : int
        How many to leave out before them.
    order : {"strongest", "weakest"}
        Which come first.  Of equal ones the less outlying is the stronger.
    out : path, optional
        New file to write them to, .csv or .parquet, with the columns of `export`.

    Returns
    -------
    dict
        JSON-able: ``run``, ``cluster``, ``family`` or ``region``, ``order``, ``offset``,
        ``total`` (images there are), and ``rows``, each with ``sample`` (number from 0),
        ``path`` where images have file names, ``cluster``, ``strength``,
        ``outlier_score`` and, where there are families, ``family`` and ``family_strength``; with `out` instead of the rows
        ``out`` and ``written``, how many.

    Raises
    ------
    ConfigError
        If there is no such cluster, or a number is out of range.
    StoreError
        If the run has no labels, or the file cannot be written.

    Notes
    -----
    One pass over the labels of the run; memory is that of a block of images,
    and the disk for temporary files takes 16 bytes for each image of the cluster.
    """
    store = RunStore.open(run)
    require_labels(store)
    chosen: dict[str, Any] = {"cluster": cluster} if cluster is not None else {}
    chosen |= {"family": family} if family is not None else {}
    chosen |= {"region": region} if region is not None else {}
    if len(chosen) != 1:
        msg = f"`members` must be given a cluster, --family or --region; got {' and '.join(chosen) or 'neither'}. Give one."
        raise ConfigError(msg)
    for name, number, least in (("--limit", limit, 1), ("--offset", offset, 0)):
        if number is not None and number < least:
            msg = f"`{name}` must be at least {least}; got {number}. Raise it."
            raise ConfigError(msg)
    if order not in ("strongest", "weakest"):
        msg = f"`--order` must be strongest or weakest; got {order!r}. Give one of them."
        raise ConfigError(msg)
    ranking, said = ranking_of(store, cluster, family, region)
    told = {"run": str(store.path), **said, "order": order, "offset": offset}
    is_weakest = order == "weakest"
    if out is None:
        n = LISTED if limit is None else limit
        ranked = Ranked(store, ranking, keep=ends(offset + n, weakest=is_weakest))
        rows = described_rows(store, ranked.page(offset, n, weakest=is_weakest))
        return told | {"total": ranked.n_images, "rows": rows}
    target = new_place(out, "--out", TABLES)
    ranked = Ranked(store, ranking)
    n = max(0, ranked.n_images - offset)
    n = n if limit is None else min(n, limit)
    pages = (
        ranked.page(offset + at.start, at.n_rows, weakest=is_weakest)
        for at in row_ranges(n, FILE_ROWS)
    )
    with replaced_when_whole(target) as partial:
        write_table(partial, Frames(store).of(pages))
    return told | {"total": ranked.n_images, "out": str(target), "written": n}


def ranking_of(
    store: RunStore,
    cluster: int | str | None,
    family: int | None,
    region: Sequence[float] | str | None = None,
) -> tuple[Ranking, dict[str, Any]]:
    """Return the ranking of a cluster, a family or a region, and which that is; refuse what the run does not have."""
    if region is not None:
        rectangle = region_of(store, region)
        return Ranking.of_region(rectangle), {"region": list(rectangle)}
    if family is not None:
        sizes = family_sizes(store)
        if not (0 <= family < len(sizes) and sizes[family]):
            known = f"0 to {len(sizes) - 1}" if len(sizes) else "one of a run that has families"
            if 0 <= family < len(sizes):
                known += f", and not {family}, which is gone"
            msg = f"a family must be {known}; got {family} for {store.path}. `status` and the page tell what there is."
            raise ConfigError(msg)
        return Ranking.of_family(family), {"family": family}
    label = cluster_number(read_summary(store), cluster)
    return Ranking.of_cluster(label), {"cluster": label}


def describe(found: dict[str, Any]) -> str:
    """Return the members for a person, one a line."""
    what = f"family {found['family']}" if "family" in found else f"cluster {found.get('cluster')}"
    what = "the rectangle" if "region" in found else what
    what = "noise" if found.get("cluster") == -1 else what
    total = f"{format_count(found['total'], 'image')} of {what}"
    if "out" in found:
        return f"{found['written']:,} of {total}, the {found['order']} first: {found['out']}"
    by = "family_strength" if "family" in found else "strength"
    lines = [f"{'sample':>12} {'strength':>9} {'outlier':>8}"]
    lines += [
        f"{row['sample']:12} {row[by]:9.4f} {row['outlier_score']:8.4f}  {row.get('path', '')}".rstrip()
        for row in found["rows"]
    ]
    first, last = found["offset"] + 1, found["offset"] + len(found["rows"])
    some = f"{first:,} to {last:,}" if found["rows"] else "none"
    lines.append(f"{some} of {total}, the {found['order']} first; --limit and --offset show others")
    return "\n".join(lines)
