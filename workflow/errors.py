"""Every error this package raises on purpose."""

from __future__ import annotations

import math


class WorkflowError(Exception):
    """Base of every error raised on purpose; its text is one line: required, received, what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the line, for the traceback says nothing to who gave the input."""
        return [f"{type(self).__name__}: {one_line(self)}"]


class ConfigError(WorkflowError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class ImagesError(WorkflowError, ValueError):
    """The images are missing, unreadable, of a wrong shape or dtype, or hold impossible values."""


class NonFiniteError(ImagesError):
    """A value of the images is NaN or infinite, or so large that its square would be.

    Attributes
    ----------
    row : int
        First row that holds such a value, counted from the first row read.
    feature : int
        First such feature in that row.
    value : float
        The value found there.
    required : str
        What the images must hold.
    image_shape : tuple of int
        Shape of an image, by which the message names the value; empty where it is not known.
    """

    def __init__(
        self,
        row: int,
        feature: int,
        value: float,
        required: str = "finite values, neither NaN nor infinity",
        image_shape: tuple[int, ...] = (),
    ) -> None:
        msg = (
            f"images must hold {required}; got {value:g} first at {value_place(row, feature, image_shape)}. "
            "Repair or drop that image"
            f"{'' if required.startswith('finite') else ', or scale all images'}."
        )
        super().__init__(msg)
        self.row = row
        self.feature = feature
        self.value = value
        self.required = required
        self.image_shape = image_shape

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[object, ...]]:
        """Rebuild from what it holds, so that the error survives the way from a worker."""
        return type(self), (
            self.row,
            self.feature,
            self.value,
            self.required,
            self.image_shape,
        )

    def moved(self, first_row: int, image_shape: tuple[int, ...] = ()) -> NonFiniteError:
        """Return the same error with its row counted from `first_row` rows earlier, of images of a shape."""
        row = self.row + first_row
        return NonFiniteError(row, self.feature, self.value, self.required, image_shape)


class SpreadError(ImagesError):
    """Finite values of the images spread so much or so little that their squares have no number."""


class StoreError(WorkflowError, OSError):
    """A stored array or file is missing, damaged or of another format version."""


class MemoryBudgetError(WorkflowError):
    """A task would need more memory than a worker has."""


class ComputeError(WorkflowError, RuntimeError):
    """Workers could not be started or were lost."""


def value_place(row: int, feature: int, image_shape: tuple[int, ...] = ()) -> str:
    """Return where a value lies, in words: its image and pixel, counted from 0.

    Examples
    --------
    >>> value_place(7, 39, (6, 6, 3)), value_place(7, 39, (768,))
    ('image 7, row 2, column 1, channel 0', 'image 7, feature 39')
    """
    if len(image_shape) not in (2, 3):
        return f"image {row}, feature {feature}"
    names = ("row", "column", "channel")
    steps = [math.prod(image_shape[axis + 1 :]) for axis in range(len(image_shape))]
    index = [feature // step % size for step, size in zip(steps, image_shape, strict=True)]
    return ", ".join([f"image {row}", *(f"{n} {i}" for n, i in zip(names, index, strict=False))])


def one_line(what: object) -> str:
    """Return a text, or what an error says, as one line; the kind of an error that says nothing."""
    return " ".join(str(what).split()) or type(what).__name__
