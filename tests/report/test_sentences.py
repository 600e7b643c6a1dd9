"""Sentences on what was found: what each value of a summary makes of them."""

from __future__ import annotations

import shlex

import pytest

from workflow.report.sentences import (
    MAX_NAMED,
    compared_methods,
    cut_words,
    doubtful_names,
    doubtful_sentence,
    duplicates_command,
    duplicates_sentence,
    headline,
    interval_words,
    layer_words,
    method_sentence,
    number_sentence,
    opening_sentences,
    partition_commands,
    plateau_words,
)
from workflow.report.summary import describe_summary

#: Every function that takes a summary alone.
OF_A_SUMMARY = (
    number_sentence,
    interval_words,
    method_sentence,
    compared_methods,
    doubtful_sentence,
    duplicates_sentence,
    cut_words,
    plateau_words,
)


@pytest.mark.parametrize("say", OF_A_SUMMARY, ids=lambda say: say.__name__)
@pytest.mark.parametrize(
    "summary",
    [
        {"n_samples": 9, "n_clusters": 3},
        {
            "n_samples": 9,
            "n_clusters": 3,
            "n_clusters_interval": None,
            "tree_reason": "",
            "n_clusters_by_method": {},
            "n_clusters_by_threshold": [],
            "plateau": None,
            "doubtful_clusters": [],
            "duplicates": {"exact_groups": None, "exact_images": None, "near_cells": 0},
            "cut": "configured",
        },
    ],
)
def test_sentences__nothing_is_said_of_what_is_not_known(say, summary):
    assert say(summary) == ""
    assert opening_sentences(summary) == []


@pytest.mark.parametrize(
    ("say", "summary", "expected"),
    [
        (headline, {"n_samples": 5000, "n_clusters": 12, "structure": "clusters"}, "12 clusters in 5,000 images"),
        (headline, {"n_samples": 5000, "n_clusters": 1, "structure": "none"}, "No separate clusters in 5,000 images"),
        (
            number_sentence,
            {"n_clusters_interval": [11, 12], "n_resamples": 20},
            "Likely 11 to 12 clusters: the numbers found when the counts of images are redrawn 20 times, as in other samples of such images, and a margin on both sides, since clusters that are too small, or that overlap too much, are missed.",
        ),
        (number_sentence, {"n_resamples": 0}, "The certainty of the clusters was not estimated: tree.n_resamples is 0."),
        (cut_words, {"cut": {"n_clusters": 5}}, "5 clusters requested"),
        (interval_words, {"n_clusters_interval": [9, 1100], "n_resamples": 20}, "9 to 1,100"),
        (
            method_sentence,
            {
                "n_clusters": 9, "tree_method": "contrast", "tree_reason": "clusters touch",
                "n_clusters_by_method": {"contrast": 9, "density": 3, "hdbscan": 0},
            },
            "Method: contrast, because clusters touch. For comparison, density finds 3, hdbscan on the centroids none.",
        ),
        (
            duplicates_sentence,
            {"duplicates": {"exact_groups": 1, "exact_images": 2}},
            "1 image is an exact copy of another one.",
        ),
    ],
)  # fmt: skip
def test_sentences__are_these(say, summary, expected):
    assert say(summary) == expected


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        ([11, 12], "Likely 11 to 12 clusters: the numbers found when"),
        ([12, 12], "Mostly the same number is found when"),
        ([900, 1200], "Likely 900 to 1,200 clusters: the numbers found when"),
    ],
)
def test_number_sentence__interval(interval, start):
    summary = {"n_clusters": 12, "n_clusters_interval": interval, "n_resamples": 7}
    sentence = number_sentence(summary)
    assert sentence.startswith(start)
    assert "redrawn 7 times, " in sentence
    assert "redrawn once, " in number_sentence({**summary, "n_resamples": 1})


@pytest.mark.parametrize(
    ("method", "ladder", "n_resamples", "redrawn", "milder"),
    [
        ("contrast", [[0.8, 12]], 20, True, True),
        ("contrast", [], 20, True, False),
        ("density", [[0.8, 12]], 20, True, False),
        ("contrast", [[0.8, 12]], 0, False, True),
        ("density", [[0.8, 12]], 0, False, False),
    ],
)
def test_number_sentence__names_the_ways_that_were_gone(
    method, ladder, n_resamples, redrawn, milder
):
    summary = {
        "n_clusters": 12,
        "n_clusters_interval": [11, 12],
        "tree_method": method,
        "n_clusters_by_threshold": ladder,
        "n_resamples": n_resamples,
    }
    sentence = number_sentence(summary)
    assert ("are redrawn" in sentence) == redrawn
    assert ("stricter or milder" in sentence) == milder
    assert ("tree.n_resamples is 0" in sentence) == (not redrawn)
    assert bool(interval_words(summary)) == (redrawn or milder)


def test_opening_sentences__without_structure_that_comes_first():
    summary = {
        "n_clusters": 1,
        "structure": "none",
        "n_clusters_interval": [1, 1],
        "n_resamples": 20,
    }
    meaning, number = opening_sentences(summary)
    assert meaning.startswith("No separate groups were found, so all images form one cluster")
    assert number.startswith("Mostly none are found when the counts")
    number, meaning = opening_sentences({**summary, "structure": "clusters", "n_clusters": 2})
    assert "fall into separate groups" in meaning
    _, number = opening_sentences({**summary, "n_clusters_interval": [1, 3]})
    assert number.startswith("Likely 1 to 3 clusters: the numbers found")


def test_opening_sentences__untested_is_a_suggestion():
    (meaning,) = opening_sentences({"n_clusters": 4, "structure": "untested"})
    assert "too few images to tell" in meaning
    assert "suggestion" in meaning


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n_clusters": 1}, "1 cluster requested"),
        ({"min_cluster_size": 2500}, "clusters of 2,500 images or more"),
        ({"layer": 2}, "layer 2"),
        ({"layer": "families"}, "families"),
        ({"n_clusters": 5, "new_way": 0.25}, "5 clusters requested, new way 0.25"),
    ],
)
def test_cut_words__and_certainty_is_not_known(asked, words):
    summary = {"cut": asked, "n_clusters_interval": [1, 2], "n_resamples": 20}
    assert cut_words(summary) == words
    assert number_sentence(summary) == "How sure these clusters are is not known."


@pytest.mark.parametrize(
    ("structure", "verdict"),
    [
        ("none", "The automatic test found no separate groups in these images."),
        ("clusters", "The automatic test did find separate groups in these images: 7 clusters."),
        ("untested", "There were too few images to test whether they fall into groups."),
    ],
)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"cut": {"n_clusters": 10}}, "10 clusters requested"),
        ({"is_requested": True, "tree_method": "modularity"}, "method modularity"),
    ],
)
def test_opening_sentences__of_a_partition_that_was_asked_for(structure, verdict, how, words):
    summary = {"n_samples": 9000, "n_clusters": 10, "structure": structure, "n_clusters_tested": 7}
    summary |= how
    first = opening_sentences(summary)[0]
    assert first == (
        f"This is a partition that you asked for ({words}); its borders were not tested. {verdict}"
    )
    assert headline(summary) == "9,000 images divided into 10 clusters, as requested"


OFFERS = [
    {"layer": 1, "n_clusters": 15, "largest": 4000, "smallest": 90, "is_suggested": False},
    {"layer": 2, "n_clusters": 43, "largest": 1200, "smallest": 75, "is_suggested": True},
]


def test_partitions__are_offered_with_their_sizes_and_commands():
    summary = {"n_samples": 9000, "n_clusters": 1, "structure": "none", "partitions": OFFERS}
    text = " ".join(opening_sentences(summary))
    assert "15 or 43 parts" in text
    assert "That into 43" in text
    assert "label_suggested" in text
    assert partition_commands(summary, "my run") == [
        ("15 parts of 90 to 4,000 images", "overcluster recut 'my run' --layer 1"),
        (
            "43 parts of 75 to 1,200 images (suggested)",
            "overcluster recut 'my run' --layer 2",
        ),
    ]
    assert partition_commands({"n_samples": 3, "n_clusters": 2}) == []
    found = {"n_clusters": 2, "families": "found", "n_families": 1234, "family_fraction": 0.25}
    assert partition_commands(found, "run") == [
        ("1,234 families with 25.0 % of the images", "overcluster recut run --layer families"),
    ]
    assert partition_commands(found | {"level": "families"}) == []


def test_families__as_labels_are_called_so():
    summary = {"n_samples": 900, "n_clusters": 40, "n_families": 40, "noise_fraction": 0.3}
    summary |= {"level": "families", "cut": {"layer": "families"}, "is_requested": True}
    summary |= {"families": "found", "structure": "families", "n_clusters_by_layer": [2, 5]}
    assert headline(summary) == "40 families as labels of 900 images"
    said = opening_sentences(summary)
    assert (
        said[0]
        == "The labels are families, as you asked; 30.0 % of the images are in none, label -1."
    )
    assert "but no separate clusters" in said[1]
    assert layer_words(summary) == "2, 5; below them 40 families"


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ({"n_clusters": 4, "brightness": None}, "they fall into 4 separate groups. To have"),
        ({"n_clusters": 1, "brightness": {"along": 0.2}}, "follow brightness less"),
        ({"n_clusters": 1, "brightness": {"along": 0.8}}, "no separate groups either."),
        ({"n_clusters": 1, "brightness": None}, "no separate groups either."),
    ],
)
def test_whitened_sentence__says_what_was_measured(trial, words):
    summary = {"n_samples": 9000, "n_clusters": 1, "structure": "none"}
    summary |= {"brightness": {"explained": 0.9, "along": 0.7}}
    text = " ".join(opening_sentences({**summary, "whitened": {"n_samples": 5000, **trial}}))
    assert "Whitened scores of 5,000 images were tried: " in text
    assert words in text
    assert ("pca.whiten=true" in text) == ("either." not in text)


@pytest.mark.parametrize(("along", "is_said"), [(0.3, False), (0.9, True)])
def test_brightness_sentence__only_where_most_of_the_separation_is_brightness(along, is_said):
    summary = {"n_samples": 9000, "n_clusters": 3, "structure": "clusters"}
    text = " ".join(
        opening_sentences({**summary, "brightness": {"explained": 0.8, "along": along}})
    )
    assert ("The clusters follow brightness: 90.0 % of the separation" in text) == is_said


def test_describe_summary__in_the_right_number():
    summary = {
        "n_samples": 9000,
        "n_clusters": 1,
        "structure": "none",
        "noise_fraction": 0.0,
        "n_centroids": 600,
        "seconds": {"start": 2.0, "total": 12.0},
        "report": "/data/run/report.html",
        "partitions": OFFERS,
    }
    first, *_, command, last = describe_summary(summary).splitlines()
    assert (
        first
        == "No separate clusters in 9,000 images; 0 % noise, from 600 centroids, in 12.0 s, start 2.0 s."
    )
    assert command.endswith("overcluster recut /data/run --layer 2")
    assert last == "/data/run/report.html"
    one = describe_summary({**summary, "structure": "clusters", "partitions": []})
    assert one.startswith("1 cluster in 9,000 images;")


@pytest.mark.parametrize(
    ("n_clusters", "plateau", "words"),
    [
        (5, [0.8, 0.9], "0.8 to 0.9"),
        (5, [0.8, 0.8], "0.8"),
        # The test found five, which were not believed.
        (1, [0.8, 0.9], ""),
        (5, [0.3, 0.4], ""),
        (5, None, ""),
    ],
)
def test_plateau_words__only_of_the_number_shown(n_clusters, plateau, words):
    ladder = [[0.7, 4], [0.8, 5], [0.9, 5]]
    summary = {"n_clusters": n_clusters, "n_clusters_by_threshold": ladder, "plateau": plateau}
    assert plateau_words(summary) == words


def test_method_sentence__reason_and_others():
    summary = {"n_clusters": 12, "tree_method": "density", "n_clusters_by_method": {"density": 12}}
    assert method_sentence(summary) == "Method: density."
    summary["tree_reason"] = "clusters lie apart"
    assert method_sentence(summary) == "Method: density, because clusters lie apart."
    summary["n_clusters_by_method"] = {"density": 12, "modularity": 1100, "hdbscan": 0}
    assert method_sentence(summary).endswith(
        "For comparison, modularity finds 1,100, hdbscan on the centroids none."
    )
    hdbscan = {"n_clusters": 4, "tree_method": "hdbscan"}
    assert method_sentence(hdbscan) == "Method: hdbscan on the centroids."


def test_compared_methods__the_method_itself_where_it_found_another_number():
    summary = {"n_clusters": 5, "tree_method": "contrast"}
    summary["n_clusters_by_method"] = {"contrast": 12, "density": 3}
    assert compared_methods(summary) == "contrast by itself finds 12, density 3"


@pytest.mark.parametrize("n", range(1, 2 * MAX_NAMED))
def test_doubtful_names__every_one_is_named_or_counted(n):
    names = doubtful_names(list(range(n)), 1000)
    numbers = [int(word) for word in names.replace(",", " ").split() if word.isdigit()]
    assert numbers[: min(n, MAX_NAMED)] == list(range(min(n, MAX_NAMED)))
    assert ("more" in names) == (n > MAX_NAMED)
    if n > MAX_NAMED:
        assert numbers[-1] == n - MAX_NAMED
    else:
        assert len(numbers) == n


def test_doubtful_names__all_of_many():
    assert doubtful_names(list(range(3000)), 3000) == "all 3,000"
    assert doubtful_names([0, 1], 2) == "0 and 1"


def test_doubtful_sentence__says_what_it_means():
    known = {"n_clusters": 6, "n_resamples": 20}
    one = doubtful_sentence({**known, "doubtful_clusters": [3]})
    assert one.startswith("Doubtful: cluster 3. ")
    assert "missing in more than a tenth of the redrawn counts" in one
    two = doubtful_sentence({**known, "doubtful_clusters": [3, 4]})
    assert two.startswith("Doubtful: clusters 3 and 4. ")
    assert doubtful_sentence({**known, "doubtful_clusters": []}).startswith("No cluster is")
    # One cluster always comes back, and nothing is known without redrawn counts.
    assert doubtful_sentence({"n_clusters": 1, "n_resamples": 20, "doubtful_clusters": []}) == ""
    assert doubtful_sentence({"n_clusters": 6, "n_resamples": 0, "doubtful_clusters": []}) == ""


def test_duplicates__sentence_and_command():
    found = {"exact_groups": 2, "exact_images": 1300, "near_cells": 1, "near_images": 7}
    assert duplicates_sentence({"duplicates": found}) == (
        "1,298 images are exact copies of another one; "
        "1 centroid holds nothing but near-copies of an image (7 images)."
    )
    summary = {"duplicates": found, "neighbors": {"found": True}}
    assert not duplicates_command(summary | {"n_searched": 5}).endswith("--near")
    assert duplicates_command(summary | {"segments": [5, 3]}).endswith("--near")
    command = duplicates_command(summary, "/data/my run; rm x")
    assert shlex.split(command) == [
        "overcluster", "duplicates", "/data/my run; rm x", "--near",
    ]  # fmt: skip
    close = {"within": 2.5, "groups": 3, "images": 117}
    assert duplicates_sentence(summary | {"near_duplicates": close}).endswith(
        "; 3 groups of near-duplicates hold 117 images."
    )
    # Without neighbours it would be refused.
    summary["neighbors"] = {"found": False, "reason": "neighbors.enabled is false"}
    assert not duplicates_command(summary).endswith("--near")
