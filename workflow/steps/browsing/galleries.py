"""Galleries: images that a person should look at, counted over all images, the strongest of each on the page.

Dark, bright, low-contrast and blurred images follow from the statistics of each image, images between
two clusters and outliers from its labels.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from workflow.chunks import row_ranges
from workflow.errors import StoreError
from workflow.formatting import format_count
from workflow.labels.memberships import MAX_OUTLIER_SCORE
from workflow.pca import ImageStatistics
from workflow.runstore import layout, zarr_io
from workflow.steps.base import is_picture
from workflow.steps.parts.notes import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.report import Sheet
    from workflow.runstore import RunStore
    from workflow.steps.browsing.previews import Previews

Key = TypeVar("Key")
Arrays = dict[str, "NDArray[Any]"]

#: Rows that are read at once.
READ_ROWS = 2**19
#: Images of a look are also below this share of what is usual in the run, the median.
USUAL_SHARE = 0.5
#: An image between two clusters: it is less than so many times as far from the one as from the other.
BORDER_RATIO = 1.1
#: Pictures that the range of the values is taken from, and shares of their pixels that it leaves out.
RANGE_PICTURES, RANGE_SHARES = 1_000, (0.001, 0.999)
#: Images of a gallery, and pairs of clusters with most images between them, that are noted for the page.
N_SHOWN, N_PAIRS, N_PER_PAIR = 24, 6, 12


class Look(NamedTuple):
    """A way images look: how it is measured, and below what an image has it.

    Attributes
    ----------
    title, words : str
        Name of the gallery, and what holds for its images.
    limit : float
        Below it a person would agree.
    measure : callable
        Returns the measure of images from their statistics and the range of the values; NaN where there is none.
    """

    title: str
    words: str
    limit: float
    measure: Callable[[ImageStatistics, float, float], NDArray[np.float32]]


def _span(images: ImageStatistics, low: float, high: float) -> NDArray[np.float32]:
    """Return the share of the range that nearly all values of an image span: four standard deviations."""
    return 4 * images.contrast / np.float32(high - low)


def _from_below(images: ImageStatistics, low: float, high: float) -> NDArray[np.float32]:
    """Return how high nearly all values of an image reach, as a share of the range: two standard deviations above the mean."""
    return (images.brightness - low + 2 * images.contrast) / np.float32(high - low)


def _from_above(images: ImageStatistics, low: float, high: float) -> NDArray[np.float32]:
    """Return how low nearly all values of an image reach, from the top of the range, as a share of it."""
    return (high - images.brightness + 2 * images.contrast) / np.float32(high - low)


def _sharpness(images: ImageStatistics, low: float, high: float) -> NDArray[np.float32]:
    """Return the sharpness of images that have some contrast."""
    has_contrast = _span(images, low, high) >= LOW_CONTRAST
    return np.where(has_contrast, images.sharpness, np.float32(np.nan))


#: Share of the range that the values of an image span at least, or it is low in contrast.
LOW_CONTRAST = 0.1
LOOKS = {
    "dark": Look(
        "Dark images", "nearly all pixels in the darkest quarter of the values", 0.25, _from_below
    ),
    "bright": Look(
        "Bright images",
        "nearly all pixels in the brightest quarter of the values",
        0.25,
        _from_above,
    ),
    "low_contrast": Look(
        "Images low in contrast",
        "nearly all pixels within a tenth of the values",
        LOW_CONTRAST,
        _span,
    ),
    "blurred": Look("Blurred images", "contrast, but no fine detail", 0.3, _sharpness),
}


@dataclass(frozen=True, slots=True)
class Gallery:
    """Some of the images of a run, chosen by what is stored of each.

    Attributes
    ----------
    group : Path
        The Zarr group with the arrays that decide.
    names : mapping of str to tuple of str
        These arrays, and what their first columns are called in a list.
    choose : callable
        Takes the arrays of a block, by name; returns the places of the chosen
        images in it, rising, and for each a value that is lower, the clearer the case is.
    """

    group: Path
    names: Mapping[str, tuple[str, ...]]
    choose: Callable[[Arrays], tuple[NDArray[np.int64], NDArray[Any]]]

    def columns(self, rows: RowRange, here: NDArray[np.int64]) -> Arrays:
        """Return the arrays at places of a block, by the names of their columns."""
        found: Arrays = {}
        for name, columns in self.names.items():
            array = zarr_io.read_rows(self.group, name, *rows)[here]
            found |= dict(zip(columns, array.reshape(len(here), -1).T, strict=False))
        return found


class Found(NamedTuple):
    """What a gallery holds: how many of all images, and the clearest cases among them.

    Attributes
    ----------
    n_images : int
        Images of the gallery.
    rows : int64 array of shape (n,)
        The clearest cases, clearest first.
    """

    n_images: int
    rows: NDArray[np.int64]


def chosen(
    galleries: Mapping[Key, Gallery], n_samples: int
) -> Iterator[tuple[RowRange, dict[Key, tuple[NDArray[np.int64], NDArray[Any]]]]]:
    """Yield for each block the images of every gallery, as `Gallery.choose` returns them; each array is read once."""
    wanted = dict.fromkeys((g.group, name) for g in galleries.values() for name in g.names)
    for rows in row_ranges(n_samples, READ_ROWS):
        read = {place: zarr_io.read_rows(*place, *rows) for place in wanted}
        yield (
            rows,
            {
                key: gallery.choose({name: read[gallery.group, name] for name in gallery.names})
                for key, gallery in galleries.items()
            },
        )


def find(galleries: Mapping[Key, Gallery], n_samples: int, n: int) -> dict[Key, Found]:
    """Count the images of galleries and find the `n` clearest cases of each, in one pass over what is stored."""
    counts = dict.fromkeys(galleries, 0)
    best = {key: (np.empty(0, np.int64), np.empty(0)) for key in galleries}
    for block, found in chosen(galleries, n_samples):
        for key, (here, values) in found.items():
            counts[key] += len(here)
            rows = np.concatenate([best[key][0], here + block.start])
            joined = np.concatenate([best[key][1], values.astype(np.float64)])
            # Rows rise, so of equal values the first image comes first.
            order = np.argsort(joined, kind="stable")[:n]
            best[key] = rows[order], joined[order]
    return {key: Found(counts[key], best[key][0]) for key in galleries}


class Usual(NamedTuple):
    """What is usual in a run, and below what an image has a look.

    Attributes
    ----------
    median : float
        Of the measure over all images; NaN where no image has one.
    below : float
        Images whose measure is lower have the look.
    is_usual : bool
        Whether half of the images and more are below what a person would go by.
    """

    median: float
    below: float
    is_usual: bool


def stored_statistics(store: RunStore) -> Path | None:
    """Return the Zarr group of the statistics of each image; None of a run that keeps none."""
    place = layout.statistics(store.path)
    return place if place.exists() else None


def require_statistics(store: RunStore) -> Path:
    """Return the Zarr group of the statistics of each image.

    Raises
    ------
    StoreError
        If the run keeps none: its rows are vectors, or another version or profile made it.
    """
    place = stored_statistics(store)
    if place is None:
        what = "holds vectors, not pictures. Look at `gallery outliers` or `border` instead."
        if lacks_statistics(store):
            what = "keeps none. `gallery RUN dark` notes them, once the images are where they were."
        msg = f"brightness, contrast and sharpness of the images must be known; {store.path} {what}"
        raise StoreError(msg)
    return place


def value_range(store: RunStore, open_previews: Callable[[], Previews]) -> tuple[float, float]:
    """Return the values that count as black and white: all of a byte, or nearly all that the previews have."""
    if store.manifest.images["dtype"] == "uint8":
        return 0.0, 255.0
    kept = open_previews()
    picked = np.linspace(0, len(kept.rows) - 1, min(len(kept.rows), RANGE_PICTURES)).astype(int)
    pictures = kept.pictures(np.unique(picked)).astype(np.float64)
    low, high = np.quantile(pictures, RANGE_SHARES)
    return float(low), float(high) if high > low else float(low) + 1.0


def usual_looks(place: Path, n_samples: int, limits: tuple[float, float]) -> dict[str, Usual]:
    """Return what is usual of each look, in one pass over the statistics.

    The median is that of a histogram by the first 16 bits of the measures, to 1 % of it.
    """
    counts = {name: np.zeros(2**16, np.int64) for name in LOOKS}
    for rows in row_ranges(n_samples, READ_ROWS):
        images = _statistics(place, rows)
        for name, look in LOOKS.items():
            measure = np.maximum(look.measure(images, *limits), 0)
            bits = measure[~np.isnan(measure)].astype(np.float32).view(np.uint32) >> 16
            counts[name] += np.bincount(bits, minlength=2**16)
    return {name: _usual(look, counts[name]) for name, look in LOOKS.items()}


def _statistics(place: Path, rows: RowRange) -> ImageStatistics:
    """Read the statistics of some images."""
    return ImageStatistics(*zarr_io.read_rows(place, STATISTICS, *rows).T)


def _usual(look: Look, counts: NDArray[np.int64]) -> Usual:
    """Return what is usual, from a histogram."""
    if not counts.any():
        return Usual(math.nan, 0.0, is_usual=False)
    passed = counts.cumsum()
    bits = np.uint32(np.searchsorted(passed, (passed[-1] + 1) // 2)) << np.uint32(16)
    median = float(bits.view(np.float32))
    return Usual(median, min(look.limit, USUAL_SHARE * median), is_usual=median < look.limit)


def look_gallery(place: Path, name: str, limits: tuple[float, float], limit: float) -> Gallery:
    """Return the gallery of a look."""
    names = {STATISTICS: ImageStatistics._fields}
    return Gallery(place, names, partial(_below, LOOKS[name], limits, limit))


def _below(
    look: Look, limits: tuple[float, float], limit: float, arrays: Arrays
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the images whose measure is below a limit."""
    measure = look.measure(ImageStatistics(*arrays[STATISTICS].T), *limits)
    here = np.flatnonzero(measure < limit)
    return here, measure[here]


def _itself(*names: str) -> dict[str, tuple[str, ...]]:
    """Return arrays of one column, which is called as they are."""
    return {name: (name,) for name in names}


def outlier_gallery(store: RunStore) -> Gallery:
    """Return the gallery of the images beyond two radii of their centroid."""
    return Gallery(store.path / layout.LABELS, _itself("outlier_score"), _far_out)


def _far_out(arrays: Arrays) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the images with a high outlier score."""
    score = arrays["outlier_score"]
    here = np.flatnonzero(score > MAX_OUTLIER_SCORE)
    return here, -score[here]


def border_gallery(store: RunStore, pair: tuple[int, int] | None = None) -> Gallery:
    """Return the gallery of the images between two clusters, or any two."""
    names = _itself("label")
    names |= {name: (f"{name}_1", f"{name}_2") for name in ("top_label", "top_membership")}
    return Gallery(store.path / layout.LABELS, names, partial(_between, pair))


def _between(
    pair: tuple[int, int] | None, arrays: Arrays
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the images that are about equally near to two clusters."""
    label, share = arrays["top_label"], arrays["top_membership"]
    if pair is None:
        here = np.flatnonzero(label[:, 1] >= 0)
    else:
        one, other = pair
        first, second = label[:, 0], label[:, 1]
        is_pair = (first == one) & (second == other) | (first == other) & (second == one)
        here = np.flatnonzero(is_pair)
    # Shares are as 1 over the squared distances.
    is_between = share[here, 1] * BORDER_RATIO**2 > share[here, 0]
    here = here[is_between & (arrays["label"][here] >= 0)]
    return here, 1 - share[here, 1] / share[here, 0]


def border_counts(store: RunStore, n_samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of clusters with images between them, most first, and how many images there are.

    The pairs are of shape (n_pairs, 2), the lower cluster first.
    """
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    gallery = border_gallery(store)
    for rows in row_ranges(n_samples, READ_ROWS):
        read = {name: zarr_io.read_rows(gallery.group, name, *rows) for name in gallery.names}
        here, _ = gallery.choose(read)
        two = np.sort(read["top_label"][here, :2].astype(np.int64), axis=1)
        found, times = np.unique((two[:, 0] << 32) + two[:, 1], return_counts=True)
        pairs, place = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        times = np.concatenate([counts, times])
        counts = np.bincount(place, times, minlength=len(pairs)).astype(np.int64)
    order = np.lexsort((pairs, -counts))
    two = np.column_stack([pairs >> 32, pairs & (2**32 - 1)])
    return two[order], counts[order]


def find_galleries(store: RunStore, open_previews: Callable[[], Previews]) -> dict[str, Any]:
    """Return what the page shows of galleries: counts over all images, and the clearest cases.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    open_previews : callable
        Opens the pictures that were kept, which are wanted where images are no bytes.

    Returns
    -------
    dict
        JSON-able: for each look ``images``, how many there are, ``median``,
        ``below`` and ``is_usual`` as `Usual` has them, and ``rows``; None for
        all looks of a run without statistics; ``outliers`` with ``images``; and
        ``border`` with ``images``, ``n_pairs`` and ``pairs``, those with most
        images, each with ``clusters``, ``images`` and ``rows``.
    """
    n_samples: int = store.manifest.images["shape"][0]
    place, usual = stored_statistics(store), {}
    galleries: dict[Any, Gallery] = {"outliers": outlier_gallery(store)}
    if place is not None:
        limits = value_range(store, open_previews)
        usual = usual_looks(place, n_samples, limits)
        galleries |= {n: look_gallery(place, n, limits, usual[n].below) for n in LOOKS}
    pairs, counts = border_counts(store, n_samples)
    shown = [(int(low), int(high)) for low, high in pairs[:N_PAIRS]]
    galleries |= {pair: border_gallery(store, pair) for pair in shown}
    found = find(galleries, n_samples, N_SHOWN)
    noted: dict[str, Any] = dict.fromkeys(LOOKS)
    for name, of_run in usual.items():
        noted[name] = {
            "images": found[name].n_images,
            **of_run._asdict(),
            "median": None if math.isnan(of_run.median) else of_run.median,
            "rows": found[name].rows.tolist(),
        }
    noted["outliers"] = {"images": found["outliers"].n_images}
    between = [
        {
            "clusters": list(pair),
            "images": found[pair].n_images,
            "rows": found[pair].rows[:N_PER_PAIR].tolist(),
        }
        for pair in shown
    ]
    noted["border"] = {"images": int(counts.sum()), "n_pairs": len(pairs), "pairs": between}
    return noted


def gallery_counts(store: RunStore) -> dict[str, int | None] | None:
    """Return how many images each gallery of the page has; None for all of a run whose page is of another version."""
    found = store.step("report").details.get("galleries")
    return found and {name: one and one["images"] for name, one in found.items()}


def gallery_command(store: RunStore, *words: object) -> str:
    """Return the command that lists all images of a gallery."""
    return " ".join(["overcluster gallery", shlex.quote(str(store.path)), *map(str, words)])


def look_sentence(name: str, n_images: int, n_samples: int, usual: Usual) -> str:
    """Return how many images have a look, and what that means in this run."""
    look = LOOKS[name]
    parts = [f"{n_images:,} of {format_count(n_samples, 'image')}", look.words]
    if usual.below < look.limit and not math.isnan(usual.median):
        here = f"usual is {usual.median:.2g}"
        if usual.is_usual:
            here = f"most images of this run are so by themselves ({here}, limit {look.limit:g})"
        parts.append(f"{here}: only those below half of that")
    return "; ".join(parts)


def gallery_sheets(
    store: RunStore, names: Mapping[str, str]
) -> Iterator[tuple[NDArray[np.int64], Callable[[NDArray[Any]], Sheet]]]:
    """Yield images and what makes a sheet of their pictures, for each gallery of the page that has some.

    `names` are those that clusters were given, by their label.
    """
    found = store.step("report").details.get("galleries") or {}
    n_samples = store.manifest.images["shape"][0]
    for name, look in LOOKS.items():
        if (one := found.get(name)) and one["images"]:
            usual = Usual(one["median"], one["below"], one["is_usual"])
            words = look_sentence(name, one["images"], n_samples, usual)
            command = gallery_command(store, name.replace("_", "-"))
            yield _rows(one), partial(_sheet, look.title, f"{words}; all: {command}")
    for pair in found.get("border", {}).get("pairs", []):
        low, high = (
            f"{c} ({names[str(c)]})" if str(c) in names else str(c) for c in pair["clusters"]
        )
        caption = (
            f"{format_count(pair['images'], 'image')} about equally near to both; "
            f"all: {gallery_command(store, 'border', *pair['clusters'])}"
        )
        yield _rows(pair), partial(_sheet, f"Between clusters {low} and {high}", caption)


def _rows(noted: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the images that are noted."""
    return np.array(noted["rows"], np.int64)


def _sheet(title: str, caption: str, images: NDArray[Any]) -> Sheet:
    """Return a sheet of pictures."""
    from workflow.report import Sheet

    return Sheet(title, caption, images, "outliers")


def outlier_words(store: RunStore) -> str:
    """Return how many images lie far out, and what lists them; nothing where it was not noted."""
    found = store.step("report").details.get("galleries")
    if not found:
        return ""
    n_far = found["outliers"]["images"]
    n_samples = store.manifest.images["shape"][0]
    return (
        f"{n_far:,} of {format_count(n_samples, 'image')} lie beyond two radii of their centroid; "
        f"all: {gallery_command(store, 'outliers')}"
    )


def with_words(
    sheet: Callable[[NDArray[Any]], Sheet], words: str
) -> Callable[[NDArray[Any]], Sheet]:
    """Return what makes the same sheet with more words in its caption."""
    return partial(_with_words, sheet, words)


def _with_words(sheet: Callable[[NDArray[Any]], Sheet], words: str, images: NDArray[Any]) -> Sheet:
    """Return a sheet with more words in its caption."""
    made = sheet(images)
    return replace(made, caption=f"{made.caption}; {words}" if words else made.caption)


def lacks_statistics(store: RunStore) -> bool:
    """Whether a run has pictures and keeps no statistics of them: an earlier version made it, or the profile reference."""
    return is_picture(store.manifest.images["shape"][1:]) and stored_statistics(store) is None
