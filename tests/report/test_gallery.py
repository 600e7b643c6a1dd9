"""Cards of example images: their marks and captions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.report.conftest import certainty_of, windows
from workflow.report import cluster_sheet, noise_sheet, outlier_sheet
from workflow.report.gallery import OPEN_CARDS, gallery


def sheets(n_clusters, *, pictures=True):
    images = windows(3) if pictures else None
    return [cluster_sheet(c, 90 - c, 440, images) for c in range(n_clusters)]


def cards_of(text: str) -> list[str]:
    return re.findall(r"<figure class=\"card\">.*?</figure>", text, flags=re.DOTALL)


def test_gallery__marks_doubtful_clusters_and_names_the_nearest():
    odd = [noise_sheet(9, 440, windows(2)), outlier_sheet(windows(2), np.array([0.9, 0.8]))]
    certainty = certainty_of(4, doubtful=(1, 3))
    cards = cards_of(gallery([*sheets(4), *odd], 4, None, certainty))
    assert len(cards) == 6
    assert ["doubtful" in card for card in cards] == [False, True, False, True, False, False]
    # The mark is a word beside the title, not a colour alone.
    assert re.search(
        r"Cluster 1<span data-name-of=\"1\"></span><span class=\"mark\">doubtful</span></h3>",
        cards[1],
    )
    assert [re.findall(r"nearest: cluster (\d)", card) for card in cards] == [
        ["1"], ["2"], ["3"], ["0"], [], [],
    ]  # fmt: skip


def test_gallery__says_nothing_where_nothing_is_known():
    text = gallery(sheets(3), 3, None)
    assert "nearest" not in text
    assert "doubtful" not in text
    alone = certainty_of(1, nearest=np.array([-1], np.int32))
    text = gallery(sheets(1), 1, None, alone)
    assert "nearest" not in text
    assert "The only cluster" in text


def test_gallery__cards_without_a_picture_keep_their_remarks():
    mixed = [sheets(1)[0], *sheets(2, pictures=False)[1:]]
    _, card = cards_of(gallery(mixed, 2, None, certainty_of(2, doubtful=(1,))))
    assert "nearest: cluster 0; no picture" in card
    assert "doubtful" in card
    assert "<img" not in card


@pytest.mark.parametrize("n_shown", [1, OPEN_CARDS, OPEN_CARDS + 3])
def test_gallery__later_cards_are_folded_away(n_shown):
    text = gallery(sheets(n_shown), 3000, None, certainty_of(3000))
    before, _, folded = text.partition("<details>")
    assert len(cards_of(before)) == min(n_shown, OPEN_CARDS)
    assert len(cards_of(folded)) == max(0, n_shown - OPEN_CARDS)
    assert f"The {n_shown} largest of 3,000 clusters" in before
