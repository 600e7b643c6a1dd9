"""Contact sheets: many small images in one PNG, every source pixel a square of equal size."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: Side that a thumbnail comes close to when no scale is given [screen pixel].
TILE_PIXELS = 48
#: Side above which images are shrunk [screen pixel].
MAX_TILE_PIXELS = 96
#: Pixels of a picture that holds many: a browser takes four bytes for each.
SPRITE_PIXELS = 2**24
#: Images that tell how many fit into a sheet.
N_FEW = 256
#: Space between thumbnails [screen pixel].
GAP = 2
#: Two greys under transparent images, and the side of their squares [source pixel].
CHECKER, CHECKER_SIDE = (255, 214), 4


def contact_sheet(
    images: NDArray[Any],
    columns: int | None = None,
    scale: int | None = None,
    *,
    value_range: tuple[float, float] | None = None,
) -> bytes:
    """Lay images out in rows, left to right and top to bottom, and return a PNG.

    Parameters
    ----------
    images : array of shape (m, height, width) or (m, height, width, channels)
        1 channel is grey, 3 are red, green and blue, 4 have opacity last and are laid over a
        checkerboard; of any other number the first is shown in grey.
    columns : int, optional
        Thumbnails in a row; as many as make the sheet about square.
    scale : int, optional
        Screen pixels per source pixel, each repeated, not smoothed.  Chosen so that a thumbnail
        is about 48 pixels high when not given; images above 96 are then shrunk by block means.
    value_range : tuple of float, optional
        Values shown black and white, for images that are not uint8; see `shown_range`.

    Returns
    -------
    bytes
        A PNG with 8 bits per channel and transparent gaps.

    Raises
    ------
    ValueError
        If there is no image, the shape is not as above, or a number is below 1.

    Notes
    -----
    The same input gives the same bytes under one build of Pillow and zlib.

    Examples
    --------
    >>> contact_sheet(np.zeros((3, 2, 2), dtype=np.uint8))[1:4]
    b'PNG'
    """
    sheet = contact_array(images, columns, scale, value_range=value_range)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def contact_array(
    images: NDArray[Any],
    columns: int | None = None,
    scale: int | None = None,
    *,
    value_range: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of `contact_sheet`: uint8 of shape (height, width, 2 or 4), opacity last."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        msg = (
            "`images` must have shape (m, height, width) or (m, height, width, channels) without a "
            f"zero; got {images.shape}. Leave the sheet out when there is nothing to show."
        )
        raise ValueError(msg)
    for name, number in (("columns", columns), ("scale", scale)):
        if number is not None and number < 1:
            msg = f"`{name}` must be at least 1; got {number}. Pass None to have it chosen."
            raise ValueError(msg)
    tiles = _to_display(images, value_range)
    tiles = _resize(tiles, scale)
    n_tiles, height, width, depth = tiles.shape
    columns = min(n_tiles, columns or int(np.ceil(np.sqrt(n_tiles))))
    rows = -(-n_tiles // columns)
    sheet = np.zeros(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, depth + 1), dtype=np.uint8
    )
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[top : top + height, left : left + width, :depth] = tile
        sheet[top : top + height, left : left + width, depth] = 255
    return sheet


class Sprite(NamedTuple):
    """Many pictures in one, without gaps, from left to right and top to bottom.

    Attributes
    ----------
    png : bytes
        The picture.
    n : int
        How many of the images it holds, from the first on.
    columns : int
        Images in a row.
    width, height : int
        Of each [pixel].
    """

    png: bytes
    n: int
    columns: int
    width: int
    height: int


def sprite_sheet(
    images: NDArray[Any], n_bytes: int, *, value_range: tuple[float, float] | None = None
) -> Sprite:
    """Put images into one picture of at most `n_bytes`, from fewer of them where need be.

    Parameters
    ----------
    images : array of shape (m, height, width) or (m, height, width, channels)
        As `contact_sheet` takes them, one or more; those above 48 pixels are shrunk by block means.
    n_bytes : int
        Bytes of the picture.
    value_range : tuple of float, optional
        Values shown black and white, for images that are not uint8.

    Returns
    -------
    Sprite
        The picture, and where each image is in it.
    """
    tiles = _to_display(images, value_range)
    if (side := max(tiles.shape[1:3])) > TILE_PIXELS:
        tiles = _shrink(tiles, -(-side // TILE_PIXELS))
    n, height, width, _ = tiles.shape
    n = min(n, max(1, SPRITE_PIXELS // (height * width)))
    # Most sheets of all images are too large: some images tell how many fit.
    few = _sprite(tiles[: min(n, N_FEW)])
    n = min(n, max(few.n, int(n_bytes / len(few.png) * few.n)))
    while len((sprite := _sprite(tiles[:n])).png) > n_bytes and n > 1:
        n = max(1, int(0.95 * n * n_bytes / len(sprite.png)))
    return sprite


def _sprite(tiles: NDArray[np.uint8]) -> Sprite:
    """Put tiles into a sheet that is about square."""
    n, height, width, depth = tiles.shape
    columns = math.ceil(math.sqrt(n))
    sheet = np.zeros((-(-n // columns), columns, height, width, depth), np.uint8)
    sheet.reshape(-1, height, width, depth)[:n] = tiles
    pixels = sheet.swapaxes(1, 2).reshape(-1, columns * width, depth)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if depth == 1 else pixels).save(buffer, format="PNG")
    return Sprite(buffer.getvalue(), n, columns, width, height)


def shown_range(images: Iterable[NDArray[Any]]) -> tuple[float, float] | None:
    """Return the values to show as black and white, one pair for all sheets of a page.

    Parameters
    ----------
    images : iterable of arrays
        Images of all sheets; of uint8 and bool no more than one is held.

    Returns
    -------
    tuple of float or None
        None when all are uint8 or bool, which need none.  (0, 1) when everything lies there;
        otherwise the 0.5th and 99.5th percentile of the finite values, so that a few extreme
        pixels do not make all others grey.

    Examples
    --------
    >>> shown_range([np.array([[[0.25, 1.0]]])]), shown_range([np.zeros((1, 2, 2), np.uint8)])
    ((0.0, 1.0), None)
    """
    wide = [
        _colours(array).ravel()
        for array in images
        if array.dtype not in (np.uint8, np.bool_) and array.size
    ]
    if not wide:
        return None
    values = np.concatenate([array.astype(np.float64) for array in wide])
    values = values[np.isfinite(values)]
    if not values.size or (values.min() >= 0 and 0 < values.max() <= 1):
        return 0.0, 1.0
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high)


def columns_within(images: NDArray[Any], pixels: int) -> int:
    """Return how many thumbnails of the chosen scale fit side by side, one at least.

    Parameters
    ----------
    images : array of shape (m, height, width) or (m, height, width, channels)
        Images of a sheet.
    pixels : int
        Width to fill [screen pixel].

    Returns
    -------
    int
        Number of columns.

    Examples
    --------
    >>> columns_within(np.zeros((40, 16, 16), np.uint8), 310)
    6
    """
    _, width = _tile_shape(images.shape[1], images.shape[2])
    return max(1, (pixels + GAP) // (width + GAP))


def channel_remark(images: NDArray[Any]) -> str:
    """Return what to say about the channels of images that are not grey, RGB or RGBA; else nothing."""
    channels = 1 if images.ndim == 3 else images.shape[3]
    if channels in (1, 3, 4):
        return ""
    return f"first of {channels} channels, in grey"


def _colours(images: NDArray[Any]) -> NDArray[Any]:
    """Return the channels that are shown, without opacity."""
    if images.ndim == 3:
        return images
    channels = images.shape[3]
    return images[..., :3] if channels in (3, 4) else images[..., :1]


def _to_display(images: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return checked images as uint8 of shape (m, height, width, 1 or 3)."""
    colours = _colours(images)
    if colours.ndim == 3:
        colours = colours[..., np.newaxis]
    shown = _to_bytes(colours, value_range)
    if images.ndim == 4 and images.shape[3] == 4:
        opacity = _opacity(images[..., 3:])
        height, width = images.shape[1:3]
        squares = np.add.outer(np.arange(height) // CHECKER_SIDE, np.arange(width) // CHECKER_SIDE)
        under = np.where(squares % 2 == 0, *CHECKER)[np.newaxis, :, :, np.newaxis]
        shown = np.rint(opacity * shown + (1 - opacity) * under).astype(np.uint8)
    return shown


def _to_bytes(values: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Map values to 0..255, those outside the range to its ends, NaN to 0."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = value_range or shown_range([values]) or (0.0, 1.0)
    wide = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    # A flat range holds one value: show it mid-grey rather than divide by nothing.
    unit = np.clip((wide - low) / (high - low), 0.0, 1.0) if high > low else np.full_like(wide, 0.5)
    return np.rint(255 * unit).astype(np.uint8)


def _opacity(alpha: NDArray[Any]) -> NDArray[np.float64]:
    """Return opacity from 0 to 1, from integers of full scale or floats of scale 1 or 255."""
    wide = np.nan_to_num(alpha.astype(np.float64), nan=0.0)
    if np.issubdtype(alpha.dtype, np.integer):
        top = float(np.iinfo(alpha.dtype).max)
    else:
        top = 255.0 if wide.max() > 1 else 1.0
    return np.clip(wide / top, 0.0, 1.0)


def _factors(height: int, width: int) -> tuple[int, int]:
    """Return by how much images are enlarged and shrunk when no scale is given; one of both is 1."""
    side = max(height, width)
    if side > MAX_TILE_PIXELS:
        return 1, -(-side // MAX_TILE_PIXELS)
    return max(1, round(TILE_PIXELS / side)), 1


def _tile_shape(height: int, width: int) -> tuple[int, int]:
    """Return height and width of a thumbnail when no scale is given."""
    larger, smaller = _factors(height, width)
    return -(-height * larger // smaller), -(-width * larger // smaller)


def _resize(tiles: NDArray[np.uint8], scale: int | None) -> NDArray[np.uint8]:
    """Repeat pixels `scale` times, or as `_factors` says when no scale is given."""
    larger, smaller = (scale, 1) if scale else _factors(*tiles.shape[1:3])
    if smaller > 1:
        return _shrink(tiles, smaller)
    return tiles.repeat(larger, axis=1).repeat(larger, axis=2)


def _shrink(tiles: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return means of blocks of `factor` x `factor` pixels; edges are repeated to fill the last."""
    height, width = tiles.shape[1:3]
    padded = np.pad(
        tiles, ((0, 0), (0, -height % factor), (0, -width % factor), (0, 0)), mode="edge"
    )
    n_tiles, tall, wide, depth = padded.shape
    blocks = padded.reshape(n_tiles, tall // factor, factor, wide // factor, factor, depth)
    means: NDArray[np.float64] = blocks.mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8)
