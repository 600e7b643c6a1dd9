"""One picture, from a file or from bytes, as an image of the shape that is wanted; and a look at what it is."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, ImageSequence, UnidentifiedImageError

from workflow.errors import ImagesError
from workflow.runstore import paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from workflow.ingest.source import Frames

#: Endings of files that are taken for images: pictures that Pillow reads without other programs.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".bmp", ".dib"),
    *(".tif", ".tiff", ".webp", ".avif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
#: Values of 16 bits, of which 8 are kept, must reach so far: 64 levels are left.
LEAST_DEEP = 1 << 14
#: Channels of an image -> the mode Pillow converts to.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: Pictures of one shape keep it up to so many pixels; others are made so high and wide.
MOST_PIXELS, USUAL_SIZE = 64 * 64, 16
#: Modes of pictures without colour.
GREY_MODES = ("1", "L", "LA", "I", "F")
#: What Pillow raises on files that are no images, or are cut or altered.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Decoded(NamedTuple):
    """An image, and the largest of the file's values where they have 16 bits, else 0."""

    values: NDArray[Any]
    largest: int


class Look(NamedTuple):
    """What pictures are made into.

    Attributes
    ----------
    shape : tuple of int
        (height, width, channels), or (height, width) for grey.
    dtype : numpy.dtype
        uint8 or uint16.
    background : str
        Colour behind what is transparent.
    frames : "first" or "all"
        Which pictures of an animated file are taken.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = np.dtype("uint8")
    background: str = "white"
    frames: Frames = "first"


def decode(content: Path | bytes, look: Look) -> list[Decoded]:
    """Read one picture, or all of an animated file.

    Parameters
    ----------
    content : Path or bytes
        A file, or what it holds.
    look : Look
        Shape and type that are wanted.

    Returns
    -------
    list of Decoded
        Images of ``look.shape``: converted to 1 channel (grey), 3 (RGB) or 4
        (RGBA), then resized with Pillow's bicubic filter, which averages when
        it makes smaller.  What is transparent is laid on the background, but
        in RGBA.  As uint8, values of 16 bits keep their upper 8; as uint16,
        values of 8 bits are spread over all 16.

    Raises
    ------
    ImagesError
        If the picture cannot be decoded.
    """
    called = str(content) if isinstance(content, Path) else "this one"
    try:
        with _open(content) as opened:
            # A portable grey map of more than 8 bits is opened as 32 bits, spread over 16.
            is_grey = opened.mode.startswith("I;16") or (opened.format, opened.mode) == ("PPM", "I")
            is_deep = is_grey or ";16" in str(getattr(opened, "tile", ""))
            if look.frames == "first" or getattr(opened, "n_frames", 1) == 1:
                opened.load()
                return [_decoded(opened, look, is_grey=is_grey, is_deep=is_deep)]
            frames = ImageSequence.Iterator(opened)
            return [_decoded(f, look, is_grey=is_grey, is_deep=is_deep) for f in frames]
    except DECODING_ERRORS as err:
        text = (str(err).splitlines() or [type(err).__name__])[0]
        if isinstance(content, Path):
            text = text.replace(str(content), content.name)
        elif isinstance(err, UnidentifiedImageError):
            text = "cannot identify image file"
        msg = f"image files must be readable; {called} is not ({text.rstrip('.')}). Repair it, or leave it out with ingest.on_unreadable=skip."
        raise ImagesError(msg) from None


def _open(content: Path | bytes) -> AbstractContextManager[Image.Image]:
    """Open a picture; only its header is read."""
    return Image.open(paths.local(content) if isinstance(content, Path) else io.BytesIO(content))


def _decoded(opened: Image.Image, look: Look, *, is_grey: bool, is_deep: bool) -> Decoded:
    """Return a loaded picture in the shape that is wanted, and its largest value if it has 16 bits."""
    shape = look.shape
    n_channels = shape[2] if len(shape) == 3 else 1
    size = shape[1], shape[0]
    image = ImageOps.exif_transpose(opened)
    largest = _largest(image) if is_deep else 0
    if is_grey:
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    values: NDArray[Any]
    if look.dtype == np.uint16 and is_deep:
        values = _deep_values(image, size, n_channels)
    else:
        bytes_ = _byte_values(image, size, n_channels, look.background)
        values = bytes_ * np.uint16(257) if look.dtype == np.uint16 else bytes_
    return Decoded(values.reshape(shape), largest)


def _byte_values(
    image: Image.Image, size: tuple[int, int], n_channels: int, background: str
) -> NDArray[np.uint8]:
    """Return an image of 8 bits a channel, converted and resized."""
    image = _to_mode(image, MODES[n_channels], background)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


def _deep_values(image: Image.Image, size: tuple[int, int], n_channels: int) -> NDArray[np.uint16]:
    """Return a grey image of 16 bits, resized, in as many channels."""
    if image.mode != "I;16":
        msg = "it has several channels of 16 bits, of which Pillow reads 8"
        raise ValueError(msg)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    values: NDArray[np.uint16] = np.repeat(np.asarray(image)[..., None], n_channels, axis=2)
    if n_channels == 4:
        values[..., 3] = np.iinfo(np.uint16).max
    return values


def _largest(image: Image.Image) -> int:
    """Return the largest value of an image of 16 bits, transparency apart; at least 1."""
    if image.mode.startswith("I"):
        return max(1, int(np.asarray(image).max()))
    # Of several channels, Pillow has kept the upper 8 bits.
    return max(1, 257 * int(np.asarray(image.convert("RGB")).max()))


def _to_mode(image: Image.Image, mode: str, background: str) -> Image.Image:
    """Convert an image to 8 bits a channel and the mode that is wanted."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        msg = f"it has 32-bit values (mode {image.mode}) of unknown range"
        raise ValueError(msg)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if mode != "RGBA":
            behind = Image.new("RGBA", image.size, ImageColor.getrgb(background))
            image = Image.alpha_composite(behind, image)
    return image if image.mode == mode else image.convert(mode)


def require_look(look: Look) -> None:
    """Refuse shapes, types and colours that pictures cannot have.

    Raises
    ------
    ImagesError
        If there is one.
    """
    shape = look.shape
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] not in MODES):
        msg = f"`ingest.shape` of a folder of images must be H,W,C with C 1 (grey), 3 (RGB) or 4 (RGBA); got {','.join(map(str, shape))}. Give for example --set ingest.shape=16,16,3."
        raise ImagesError(msg)
    if look.dtype not in (np.uint8, np.uint16):
        msg = f"image files give uint8 or uint16; `ingest.dtype={look.dtype}` was asked for. Leave ingest.dtype out."
        raise ImagesError(msg)
    try:
        ImageColor.getrgb(look.background)
    except ValueError:
        msg = f"`ingest.background` must be a colour, such as white, black or #808080; got {look.background}. Give one of those."
        raise ImagesError(msg) from None


class Size(NamedTuple):
    """Height, width and channels of a picture, by its header."""

    height: int
    width: int
    n_channels: int


def size_of(content: Path | bytes) -> Size | None:
    """Return what the header of a picture says; None where it cannot be read."""
    try:
        with _open(content) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            height, width = (image.width, image.height) if turned else (image.height, image.width)
            is_grey = image.mode in GREY_MODES or image.mode.startswith("I;16")
            return Size(height, width, 1 if is_grey else 3)
    except DECODING_ERRORS:
        return None


def choose_shape(sizes: Sequence[Size]) -> tuple[tuple[int, ...], str]:
    """Choose the shape of images where none was given.

    Parameters
    ----------
    sizes : sequence of Size
        Of some of the pictures.

    Returns
    -------
    shape : tuple of int
        (height, width, channels); (height, width) where all are grey.
    reason : str
        Why.

    Examples
    --------
    >>> choose_shape([Size(28, 28, 1)] * 3)
    ((28, 28), 'all of the 3 looked at have it')
    >>> choose_shape([Size(480, 640, 3), Size(12, 600, 1)])
    ((16, 16, 3), 'the 2 looked at are from 12 x 600 to 480 x 640')
    """
    channels = () if all(size.n_channels == 1 for size in sizes) else (3,)
    if not sizes:
        return (USUAL_SIZE, USUAL_SIZE, 3), "none of those looked at can be read"
    known = {(size.height, size.width) for size in sizes}
    first, last = (order(known, key=lambda hw: (hw[0] * hw[1], hw)) for order in (min, max))
    if len(known) == 1 and first[0] * first[1] <= MOST_PIXELS:
        return (*first, *channels), f"all of the {len(sizes):,} looked at have it"
    height = min(USUAL_SIZE, max(size.height for size in sizes))
    width = min(USUAL_SIZE, max(size.width for size in sizes))
    spread = f"{first[0]} x {first[1]}"
    spread = f"from {spread} to {last[0]} x {last[1]}" if len(known) > 1 else spread
    return (height, width, *channels), f"the {len(sizes):,} looked at are {spread}"
