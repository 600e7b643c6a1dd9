"""Every error this package raises on purpose."""

from __future__ import annotations


class WorkflowError(Exception):
    """Base of every error raised on purpose; its text is one line: required, received, what to do."""


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
    """

    def __init__(
        self,
        row: int,
        feature: int,
        value: float,
        required: str = "finite values, neither NaN nor infinity",
    ) -> None:
        msg = (
            f"images must hold {required}; got {value:g} first at image {row}, feature {feature}. "
            "Repair or drop that image"
            f"{'' if required.startswith('finite') else ', or scale all images'}."
        )
        super().__init__(msg)
        self.row = row
        self.feature = feature
        self.value = value
        self.required = required

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[int, int, float, str]]:
        """Rebuild from what it holds, so that the error survives the way from a worker."""
        return type(self), (self.row, self.feature, self.value, self.required)

    def moved(self, first_row: int) -> NonFiniteError:
        """Return the same error with its row counted from `first_row` rows earlier."""
        return NonFiniteError(self.row + first_row, self.feature, self.value, self.required)


class SpreadError(ImagesError):
    """Finite values of the images spread so much or so little that their squares have no number."""


class StoreError(WorkflowError, OSError):
    """A stored array or file is missing, damaged or of another format version."""


class MemoryBudgetError(WorkflowError):
    """A task would need more memory than a worker has."""


class ComputeError(WorkflowError, RuntimeError):
    """Workers could not be started or were lost."""


def one_line(what: object) -> str:
    """Return a text, or what an error says, as one line; the kind of an error that says nothing."""
    return " ".join(str(what).split()) or type(what).__name__
