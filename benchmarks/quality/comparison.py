"""The tables that compare: peers with this package, and distances of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import markdown
from benchmarks.quality.peers import OURS, PEERS, Peer, absent
from benchmarks.quality.records import Record
from benchmarks.quality.sets import ImageSet
from benchmarks.quality.tables import NOTHING, grouped

#: Difference of two ARI below which neither is the better one.
TIE = 0.005
#: Set and level where others may be better -> what is known of it.
TRIED: dict[tuple[str, str], str] = {
    (
        "tracks",
        "clusters",
    ): "A source is smaller than the cell of a centroid: `family` tells it, in the next row.",
    (
        "tracks",
        "families",
    ): "A family must be tighter than a smooth cloud is; all communities of its graph reach .69, "
    "the lone images among them ([0031](decisions/0031-families.md)).",
    (
        "crawlfamilies",
        "clusters",
    ): "Communities at resolution 32 and those of the map equation were tried: better "
    "here, worse on films ([0032](decisions/0032-stable-clusters.md)).",
    (
        "crawlfamilies",
        "families",
    ): "A family must be tighter than a smooth cloud is, so half of the images have none; "
    "this score falls with their share, whatever the families ([0031](decisions/0031-families.md)).",
    (
        "digits",
        "clusters",
    ): "`projection.metric: within` was tried: better here and on signdigits, worse on crawlfamilies and fashion900 "
    "([0034](decisions/0034-metric-within.md)).",
}


def peers_tables(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    versions = {r.key["method"]: r.figures["versions"] for r in records}
    methods = [name for name in PEERS if name in versions]
    groups = {
        key: {r.key["method"]: r.figures for r in group}
        for key, group in grouped(records, "set", "n", "level").items()
    }
    tables = []
    for title, cell in PEER_TABLES.items():
        rows = [
            (_row_name(*key), *(cell(by_method, name) for name in methods))
            for key, by_method in groups.items()
        ]
        tables.append(f"{title}\n\n" + markdown(("set (n)", *methods), rows))
    lines = []
    for name in methods:
        peer = PEERS[name]
        made = {"ours": "; centroids not timed", "graph": "; neighbours not timed"}
        used = f" ({versions[name]})" if versions[name] else ""
        lines.append(
            f"* {name}: {peer.what}{made.get(peer.given, '')}{_limit(peer, records)}{used}"
        )
    left_out = (
        [f"Not installed, so left out: {', '.join(absent())}. `pip install 'overcluster[peers]'`."]
        if absent()
        else []
    )
    return "\n\n".join([_first(groups), *tables, "\n".join(lines), *left_out])


def _row_name(name: str, n: int, level: str) -> str:
    """Return the name of a row of the tables on peers."""
    return f"{name} ({n:,})" if level == "clusters" else f"{name}: families"


def _limit(peer: Peer, records: Sequence[Record]) -> str:
    """Return up to how many images a peer is measured, and what the most of them took."""
    own = [r for r in records if r.key["method"] == peer.name and "seconds" in r.figures]
    if peer.max_images is None or not own:
        return ""
    n = max(r.key["n"] for r in own)
    seconds = max(r.figures["seconds"] for r in own if r.key["n"] == n)
    return f"; at most {peer.max_images:,} images ({n:,} took {seconds:.3g} s)"


def _first(groups: Mapping[tuple[Any, ...], Mapping[str, Mapping[str, Any]]]) -> str:
    """Say on how many rows this package is first, and what is known of the others."""
    n_first, n_rows, lines = 0, 0, []
    for (name, n, level), by_method in groups.items():
        scores = {method: f["ari"] for method, f in by_method.items() if f.get("ari") is not None}
        if OURS not in scores or len(scores) == 1:
            continue
        n_rows += 1
        best = max(scores, key=scores.__getitem__)
        if scores[OURS] >= scores[best] - TIE:
            n_first += 1
            continue
        tried = TRIED.get((name, level))
        known = f" {tried}" if tried else ""
        row = _row_name(name, n, level)
        lines.append(f"* {row}: {best} {scores[best]:.3f}, {OURS} {scores[OURS]:.3f}.{known}")
    text = f"With noise as one group, {OURS} is first, or within {TIE} of the first, in {n_first} of {n_rows} rows"
    return f"{text}; in the others:\n\n" + "\n".join(lines) if lines else f"{text}."


def _grouped_score(by_method: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the ARI with noise as one group, bold where it is the best of the row."""
    figures = by_method.get(name)
    if figures is None:
        return NOTHING
    if "error" in figures:
        return f"failed: {figures['error'].splitlines()[0][:100].replace('|', '/')}"
    best = max(one["ari"] for one in by_method.values() if "error" not in one)
    text = f"{figures['ari']:.3f}"
    return f"**{text}**" if figures["ari"] >= best - TIE else text


def _kept_score(by_method: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the ARI without noise, and the share of noise among images of a true group."""
    figures = by_method.get(name, {})
    if figures.get("ari_kept") is None:
        return NOTHING
    left_out = 1 - figures["kept"]
    return f"{figures['ari_kept']:.3f}" + (f" ({left_out:.0%})" if left_out >= 0.005 else "")


def _cost(by_method: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return groups found, and seconds."""
    figures = by_method.get(name, {})
    if "n_found" not in figures:
        return NOTHING
    return f"{figures['n_found']}, {figures['seconds']:.2g} s"


#: Tables on peers: title -> what makes a cell of the row and the method.
PEER_TABLES = {
    "ARI, noise as one group; the best of a row, and what is within 0.005 of it, in bold.": _grouped_score,
    "ARI, noise left out, and in brackets the share of the images of a group that this leaves out.": _kept_score,
    "Groups found, and seconds: rough, as each was measured at a time of its own, beside other work too.": _cost,
}


def metrics_table(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    metrics = list(dict.fromkeys(r.key["metric"] for r in records))
    rows = []
    for (name, n), group in grouped(records, "set", "n").items():
        by_metric = {r.key["metric"]: r.figures for r in group}
        cells = [by_metric.get(metric) for metric in metrics]
        rows.append((_row_name(name, n, "clusters"), *map(_metric_cell, cells)))
        if any(one and one["families"] for one in cells):
            families = [one and one["families"] for one in cells]
            rows.append((_row_name(name, n, "families"), *map(_metric_cell, families)))
    titles = {"whiten": "`pca.whiten`", "within": "`projection.metric: within`"}
    return markdown(("set (n)", *(titles.get(metric, metric) for metric in metrics)), rows)


def _metric_cell(figures: Mapping[str, Any] | None) -> str:
    """Return the ARI, without noise where a part of a group is left out, and what was found."""
    if not figures or figures["ari_kept"] is None:
        return NOTHING
    return f"{figures['ari']:.3f}, {_kept_score({'': figures}, '')}; {figures['n_found']}"
