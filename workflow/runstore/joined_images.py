"""Images that lie at several places, read as one; and some of those at one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.runstore.image_store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def some_images(images: ImageStore, start: int, stop: int) -> ImageStore:
    """Return the images of some rows, in their place.

    Parameters
    ----------
    images : ImageStore
        At one place.
    start, stop : int
        First row, and the one after the last.

    Returns
    -------
    ImageStore
        Of ``stop - start`` images.
    """
    shape = (stop - start, *images.image_shape)
    return replace(images, shape=shape, first_row=images.first_row + start)


@dataclass(frozen=True, slots=True)
class JoinedImages(ImageStore):
    """Images of several stores, one after the other; all of one shape and type.

    Attributes
    ----------
    parts : tuple of ImageStore
        The stores, in the order of their images.
    """

    parts: tuple[ImageStore, ...] = ()

    @classmethod
    def of(cls, parts: Sequence[ImageStore]) -> ImageStore:
        """Join stores.

        Parameters
        ----------
        parts : sequence of ImageStore
            One or more.

        Returns
        -------
        ImageStore
            The only one itself, or all joined.
        """
        first = parts[0]
        if len(parts) == 1:
            return first
        shape = (sum(part.n_samples for part in parts), *first.image_shape)
        rows = max((part.stored_rows or 1) for part in parts)
        return cls("joined", first.path, "", shape, first.dtype, rows, parts=tuple(parts))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images as rows; see `ImageStore.read`."""
        found, before = [], 0
        for part in self.parts:
            first, last = max(start - before, 0), min(stop - before, part.n_samples)
            if first < last:
                found.append(part.read(first, last))
            before += part.n_samples
        return found[0] if len(found) == 1 else np.concatenate(found)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others without reading them."""
        return {"joined": [part.fingerprint() for part in self.parts]}
