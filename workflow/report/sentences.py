"""The summary of a run in words: a headline and sentences; any key but two may be missing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from workflow.formatting import (
    format_count,
    format_share,
    format_value,
)
from workflow.tree import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Remark on a cluster that is not found again often enough.
DOUBTFUL_MARK = "doubtful"
#: The program, as users type it.
PROGRAM = "overcluster"
#: Share of the separation of clusters that lies along brightness, above which they follow it.
MOSTLY = 0.5
#: What each value of ``structure`` means for the clusters that the test found, in one or two sentences.
STRUCTURE_SENTENCES = {
    "clusters": (
        "The images fall into separate groups: between these clusters there are fewer images "
        "than inside them."
    ),
    "none": (
        "No separate groups were found, so all images form one cluster, label 0. Groups that "
        "overlap, or that have few images, cannot be told from one."
    ),
    "families": (
        "There are no separate large groups, so all images form one cluster, label 0. But there are "
        "families, small groups of images of the same source."
    ),
    "untested": (
        "There were too few images to tell whether they fall into groups: what follows is a "
        "suggestion. That is not the same as finding none; more images, or fewer centroids, would "
        "decide it."
    ),
}
#: Values of ``structure`` for which the test leaves one cluster.
ONE_CLUSTER = ("none", "families")
#: Maximum of clusters that a sentence names.
MAX_NAMED = 12


def headline(summary: Any) -> str:
    """Return what a run found, in one line."""
    images = format_count(summary["n_samples"], "image")
    if _are_families(summary):
        return f"{format_count(summary['n_clusters'], 'family')} as labels of {images}"
    if _is_requested(summary):
        return (
            f"{images} divided into {format_count(summary['n_clusters'], 'cluster')}, as requested"
        )
    if is_one_image(summary):
        return f"All {images} are equal"
    if summary.get("structure") == "none":
        return f"No separate clusters in {images}"
    if summary.get("structure") == "families":
        families = format_count(summary["n_families"], "family")
        return f"{families} of images of the same source, but no separate clusters, in {images}"
    if summary.get("structure") == "untested" and summary["n_clusters"] <= 1:
        return f"Too few images to look for clusters: {images}"
    return f"{format_count(summary['n_clusters'], 'cluster')} in {images}"


def is_one_image(summary: Mapping[str, Any]) -> bool:
    """Whether all images are copies of one."""
    found = dict(summary.get("duplicates") or {})
    return found.get("exact_groups") == 1 and found.get("exact_images") == summary["n_samples"]


def _is_requested(summary: Mapping[str, Any]) -> bool:
    """Whether a method or a cut that was asked for made the clusters, and not the automatic test."""
    return bool(summary.get("is_requested") or cut_words(summary))


def _are_families(summary: Mapping[str, Any]) -> bool:
    """Whether the labels are families and not clusters."""
    return label_noun(summary) == "family"


def label_noun(summary: Mapping[str, Any]) -> str:
    """Return what a label of a run stands for.

    Parameters
    ----------
    summary : mapping
        Summary of a run.

    Returns
    -------
    {"cluster", "family"}
        A noun.
    """
    return "family" if summary.get("level") == "families" else "cluster"


def cluster_names(summary: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the names that a person gave to clusters, by their numbers as text."""
    return dict(summary.get("cluster_names") or {})


def structure_sentence(structure: Any) -> str:
    """Return what a value of ``structure`` means; unknown values are shown as they are."""
    return STRUCTURE_SENTENCES.get(str(structure), f"Structure: {structure}.")


def opening_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return what was found: how firm the number of clusters is, what it means, and among which images."""
    return [*_found_sentences(summary), *_filled(updated_sentence(summary))]


def updated_sentence(summary: Mapping[str, Any]) -> str:
    """Return which images came by `update`, what knows nothing of them, and in what the last ones have drifted."""
    _, *later = summary.get("segments") or [0]
    of = f"the first {summary['n_searched']:,}" if "n_searched" in summary else "all"
    came = f"{format_count(sum(later), 'image')} came by {format_count(len(later), 'update')}: components of the scores, neighbours and families are those of {of}."
    drifted = ", ".join((summary.get("updates") or [{}])[-1].get("drifted", [])).replace("_", " ")
    return came + (drifted and f" The last ones have drifted: {drifted}.") if later else ""


def _found_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return how firm the number of clusters is, and what it means."""
    structure = summary.get("structure")
    if _are_families(summary):
        lone = format_share(summary["noise_fraction"])
        said = f"The labels are families, as you asked; {lone} of the images are in none, label -1."
        return _filled(said, _verdict(summary))
    if _is_requested(summary):
        return [*_requested_sentences(summary), *_filled(brightness_sentence(summary))]
    if is_one_image(summary):
        return ["There is nothing to tell apart."]
    meaning = "" if structure is None else structure_sentence(structure)
    texts = [number_sentence(summary), meaning]
    texts = texts[::-1] if structure in ONE_CLUSTER else texts
    texts = [*texts, families_sentence(summary)]
    offered = partition_sentence(summary), brightness_sentence(summary), whitened_sentence(summary)
    return _filled(*texts, *offered)


def _filled(*texts: str) -> list[str]:
    """Return the texts that say something."""
    return [text for text in texts if text]


def _requested_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return that clusters were asked for, and what the automatic test says of the images."""
    how = cut_words(summary) or f"method {_title(summary.get('tree_method'))}"
    asked = f"This is a partition that you asked for ({how}); its borders were not tested."
    return _filled(f"{asked} {_verdict(summary)}".strip(), number_sentence(summary))


def _verdict(summary: Mapping[str, Any]) -> str:
    """Return what the automatic test says, where the labels are others."""
    n_tested = summary.get("n_clusters_tested")
    return {
        "none": "The automatic test found no separate groups in these images.",
        "families": "The automatic test found families, but no separate clusters, in these images.",
        "clusters": "The automatic test did find separate groups in these images"
        + (f": {format_count(n_tested, 'cluster')}." if n_tested else "."),
        "untested": "There were too few images to test whether they fall into groups.",
    }.get(str(summary.get("structure")), "")


def families_sentence(summary: Mapping[str, Any]) -> str:
    """Return how many families there are, and how to see them."""
    if summary.get("families") != "found":
        return ""
    families = format_count(summary["n_families"], "family")
    text = (
        f"{families} of images of the same source: they hold {format_share(summary['family_fraction'])} "
        "of the images (`family` in the labels)."
    )
    if summary.get("structure") != "families":
        return text
    return f"{text} To have them as labels: `--set labels.level=families`, or `recut` below."


def partition_sentence(summary: Mapping[str, Any]) -> str:
    """Return which partitions one cluster can be divided into."""
    offers = summary.get("partitions") or []
    if not offers:
        return ""
    numbers = [format_count(offer["n_clusters"]) for offer in offers]
    listed = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} or {numbers[-1]}"
    best = next(offer for offer in offers if offer["is_suggested"])
    verdict = "no border was found to be real"
    if summary.get("structure") == "untested":
        verdict = "no border could be tested"
    return (
        f"The tree can divide the images into {listed} parts all the same: partitions, useful "
        f"to sort images, of which {verdict}. That into "
        f"{best['n_clusters']:,} keeps similar images together best (largest modularity) and is "
        "stored as `label_suggested`."
    )


def offered_cuts(summary: Mapping[str, Any]) -> list[tuple[str, int | str]]:
    """Return the layers of the tree that are offered as labels, the families among them.

    Parameters
    ----------
    summary : mapping
        Summary of a run.

    Returns
    -------
    list of (str, int or "families")
        Words, and what `recut` calls the layer.
    """
    rows: list[tuple[str, int | str]] = []
    for offer in summary.get("partitions") or []:
        largest, smallest = (format_count(offer[name]) for name in ("largest", "smallest"))
        words = f"{offer['n_clusters']:,} parts of {smallest} to {largest} images"
        if offer["is_suggested"]:
            words += " (suggested)"
        rows.append((words, offer["layer"]))
    if summary.get("families") == "found" and not _are_families(summary):
        share = format_share(summary["family_fraction"])
        words = f"{format_count(summary['n_families'], 'family')} with {share} of the images"
        rows.append((words, "families"))
    return rows


def partition_commands(summary: Mapping[str, Any], run_path: str = "RUN") -> list[tuple[str, str]]:
    """Return each partition that is offered in words, and the command that takes it; see `offered_cuts`."""
    recut = f"{PROGRAM} recut {shlex.quote(run_path)} --layer"
    return [(words, f"{recut} {layer}") for words, layer in offered_cuts(summary)]


def whitened_sentence(summary: Mapping[str, Any]) -> str:
    """Return what whitened scores of some images gave, where that was tried."""
    trial = summary.get("whitened")
    if not trial or summary["n_clusters"] != 1:
        return ""
    tried = f"Whitened scores of {format_count(trial['n_samples'], 'image')} were tried:"
    again = "`--set pca.whiten=true`, into another run folder"
    if trial["n_clusters"] > 1:
        found = format_count(trial["n_clusters"], "separate group")
        return f"{tried} they fall into {found}. To have them for all images: {again}."
    before = _along(summary.get("brightness"))
    after = _along(trial.get("brightness"))
    if trial.get("brightness") and before > MOSTLY > after:
        return (
            f"{tried} they show no separate groups either, but partitions follow brightness less "
            f"({format_share(after)} of the separation instead of {format_share(before)}). To "
            f"have those: {again}."
        )
    return f"{tried} they show no separate groups either."


def brightness_sentence(summary: Mapping[str, Any]) -> str:
    """Return that clusters follow the brightness of the images, where they do."""
    shares = summary.get("brightness") or {}
    if _along(shares) <= MOSTLY:
        return ""
    what = "The suggested parts" if summary["n_clusters"] == 1 else "The clusters"
    return (
        f"{what} follow brightness: {format_share(shares['along'])} of the separation between them "
        f"lies along the mean brightness of an image, and they tell {format_share(shares['explained'])} "
        "of its variance."
    )


def _along(shares: Mapping[str, float] | None) -> float:
    """Return the share of a separation that lies along brightness; 0 where it is not known."""
    return float((shares or {}).get("along", 0.0))


def number_sentence(summary: Mapping[str, Any]) -> str:
    """Return how firm the number of clusters is."""
    if cut_words(summary):
        return "How sure these clusters are is not known."
    found, n_resamples = interval_words(summary), summary.get("n_resamples")
    sentences = []
    if found:
        low, high = summary["n_clusters_interval"]
        ways = " or ".join(_ways(summary))
        if summary.get("structure") in ONE_CLUSTER and high == 1 and not _is_requested(summary):
            sentences.append(f"Mostly none are found {ways}.")
        elif low == high:
            sentences.append(f"Mostly the same number is found {ways}.")
        else:
            sentences.append(
                f"Likely {found} clusters: the numbers found {ways}, and a margin on both sides, since clusters that are too small, or that overlap too much, are missed."
            )
    if n_resamples == 0:
        sentences.append("The certainty of the clusters was not estimated: tree.n_resamples is 0.")
    return " ".join(sentences)


def cut_words(summary: Mapping[str, Any]) -> str:
    """Return how the tree was cut again."""
    cut = summary.get("cut")
    if not isinstance(cut, dict):
        return ""
    if cut == {"layer": "families"}:
        return "families"
    words = {
        "n_clusters": "{} requested",
        "min_cluster_size": "clusters of {} or more",
        "layer": "layer {}",
        "edits": "{} by hand",
    }
    nouns = {"n_clusters": "cluster", "min_cluster_size": "image", "edits": "edit"}
    return ", ".join(
        words[name].format(format_count(value, nouns.get(name, "")))
        if name in words
        else f"{name.replace('_', ' ')} {format_value(value)}"
        for name, value in cut.items()
    )


def names_sentence(summary: Mapping[str, Any]) -> str:
    """Return which clusters have a name, the first dozen of them."""
    names = dict(summary.get("cluster_names") or {})
    listed = [f"{cluster} {name}" for cluster, name in list(names.items())[:MAX_NAMED]]
    if len(names) > MAX_NAMED:
        listed.append(f"and {len(names) - MAX_NAMED:,} more")
    return f"Names: {', '.join(listed)}." if listed else ""


def plateau_words(summary: Mapping[str, Any]) -> str:
    """Return between which thresholds of the test the number of clusters is the one found."""
    plateau = summary.get("plateau")
    n_clusters = {
        float(threshold): count for threshold, count in summary.get("n_clusters_by_threshold") or ()
    }
    # The test may find borders that are not believed: its number is another one then.
    if not plateau or n_clusters.get(float(plateau[0])) != summary.get("n_clusters"):
        return ""
    low, high = (format_value(end) for end in plateau)
    return low if low == high else f"{low} to {high}"


def layer_words(summary: Mapping[str, Any]) -> str:
    """Return how many clusters each layer of the tree has, the coarsest first, and the families below them."""
    layers = ", ".join(map(format_count, summary.get("n_clusters_by_layer") or []))
    if layers and summary.get("n_families"):
        layers += f"; below them {format_count(summary['n_families'], 'family')}"
    return layers


def interval_words(summary: Mapping[str, Any]) -> str:
    """Return between which numbers that of the clusters lies."""
    if not summary.get("n_clusters_interval") or not _ways(summary):
        return ""
    low, high = (format_count(end) for end in summary["n_clusters_interval"])
    return low if low == high else f"{low} to {high}"


def _ways(summary: Mapping[str, Any]) -> list[str]:
    """Return by which ways other numbers of clusters were looked for."""
    ways = []
    n_resamples = summary.get("n_resamples")
    if n_resamples:
        times = "once" if n_resamples == 1 else f"{n_resamples:,} times"
        ways.append(
            f"when the counts of images are redrawn {times}, as in other samples of such images"
        )
    # Other methods have no threshold that could widen the interval.
    if _has_threshold(summary.get("tree_method")) and summary.get("n_clusters_by_threshold"):
        ways.append("when the test is a little stricter or milder")
    return ways


def method_sentence(summary: Mapping[str, Any]) -> str:
    """Return which method made the clusters, why, and what the others would say."""
    method = summary.get("tree_method")
    if not method or _are_families(summary):
        return ""
    reason = summary.get("tree_reason")
    text = f"Method: {_title(method)}{f', because {reason}' if reason else ''}."
    compared = compared_methods(summary)
    return f"{text} For comparison, {compared}." if compared else text


def _title(method: str | None) -> str:
    """Return what a method is called; one of another version by its name."""
    known = METHODS.get(method or "")
    return known.title if known else str(method)


def _has_threshold(method: str | None) -> bool:
    """Return whether the threshold of the contrast test decides the clusters of a method."""
    known = METHODS.get(method or "")
    return bool(known and known.has_threshold)


def compared_methods(summary: Mapping[str, Any]) -> str:
    """Return how many clusters each method finds, but for the one that made the number shown."""
    method = summary.get("tree_method")
    parts: list[str] = []
    # After another cut of its tree, the method used has another number of its own: then it is named too.
    for name, count in dict(summary.get("n_clusters_by_method") or {}).items():
        if name == method and count == summary.get("n_clusters"):
            continue
        words = f"{_title(name)}{' by itself' if name == method else ''}"
        verb = "" if parts else " finds"
        parts.append(f"{words}{verb} {format_count(count) if count else 'none'}")
    return ", ".join(parts)


def doubtful_names(clusters: list[int], n_clusters: int) -> str:
    """Return the doubtful clusters by number, the first dozen of them.

    Parameters
    ----------
    clusters : list of int
        Doubtful clusters, rising.
    n_clusters : int
        Clusters of the run.

    Returns
    -------
    str
        Names, or that it is none or all.

    Examples
    --------
    >>> doubtful_names([0, 5], 10), doubtful_names([], 10), doubtful_names(list(range(14)), 30)[-20:]
    ('0 and 5', 'none', '9, 10, 11 and 2 more')
    """
    if not clusters:
        return "none"
    if len(clusters) == n_clusters > MAX_NAMED:
        return f"all {n_clusters:,}"
    names = [f"{cluster:,}" for cluster in clusters[:MAX_NAMED]]
    if len(clusters) > MAX_NAMED:
        return f"{', '.join(names)} and {len(clusters) - MAX_NAMED:,} more"
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def doubtful_sentence(summary: Mapping[str, Any]) -> str:
    """Return which clusters are doubtful and what that means."""
    clusters = summary.get("doubtful_clusters")
    if clusters is None or not summary.get("n_resamples") or _are_families(summary):
        return ""
    if not clusters:
        # A single cluster holds whatever is there: that it comes back says nothing.
        if summary["n_clusters"] < 2:
            return ""
        return "No cluster is doubtful: each is found again in nearly all redrawn counts."
    noun = "cluster" if len(clusters) == 1 else "clusters"
    return (
        f"Doubtful: {noun} {doubtful_names(clusters, summary['n_clusters'])}. Such a cluster is "
        "missing in more than a tenth of the redrawn counts: with other images of the same kind it may join "
        "a neighbour, or fall apart."
    )


def duplicates_sentence(summary: Mapping[str, Any]) -> str:
    """Return how many images are copies of others, and what is known of near-duplicates."""
    near = dict(summary.get("near_duplicates") or {})
    found = dict(summary.get("duplicates") or {})
    parts = []
    if n_groups := found.get("exact_groups"):
        n_copies = int(found["exact_images"]) - int(n_groups)
        copies = "is an exact copy" if n_copies == 1 else "are exact copies"
        parts.append(f"{format_count(n_copies, 'image')} {copies} of another one")
    if near.get("groups"):
        hold = "holds" if near["groups"] == 1 else "hold"
        groups = format_count(near["groups"], "group")
        images = format_count(near["images"], "image")
        parts.append(f"{groups} of near-duplicates {hold} {images}")
    elif n_cells := found.get("near_cells"):
        images = format_count(found.get("near_images", 0), "image")
        holds = "holds" if n_cells == 1 else "hold"
        cells = format_count(n_cells, "centroid")
        parts.append(f"{cells} {holds} nothing but near-copies of an image ({images})")
    return f"{'; '.join(parts)}." if parts else ""


def duplicates_command(summary: Mapping[str, Any], run_path: str = "RUN") -> str:
    """Return the command that lists the duplicates of a run.

    Parameters
    ----------
    summary : mapping
        Summary of a run; any key may be missing.
    run_path : str
        Run folder.

    Returns
    -------
    str
        The command, for near-duplicates too where neighbours of all images are known, among which it finds them.

    Examples
    --------
    >>> duplicates_command({"neighbors": {"found": True}}, "my run")
    "overcluster duplicates 'my run' --near"
    """
    near = dict(summary.get("neighbors") or {}).get("found") and "n_searched" not in summary
    return f"{PROGRAM} duplicates {shlex.quote(run_path)}{' --near' if near else ''}"
