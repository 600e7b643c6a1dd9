"""Runs that tests of several commands look at; who changes one works on a copy."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import picture_set
from tests.runs.helpers import make_run

#: Names that want care on a page, in a shell and in a table.
ODD_NAMES = {3: 'a "quoted", name.png', 4: "<b>bold</b> & co.png", 5: "it's é.png"}
N_PHOTOS, N_EQUAL = 1500, 40


def photo_name(index):
    """Return the name of an image file below its folder; the order of names is that of the images."""
    return f"{index // 500}/{index:04d}-{ODD_NAMES.get(index, 'x.png')}"


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of picture files, some equal and some unlike all others, and their pixels."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    images = picture_set(n=N_PHOTOS, seed=3)[0]
    images[100 : 100 + N_EQUAL] = images[100]
    images[-20:] = rng.integers(0, 256, (20, 6, 6, 3))
    for index, image in enumerate(images):
        place = folder / photo_name(index)
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(place)
    return folder, images


@pytest.fixture(scope="session")
def photo_run(client, photos, tmp_path_factory):
    """A whole run of them, of several blocks."""
    place = tmp_path_factory.mktemp("photo-run") / "run"
    return make_run(photos[0], place, client, **{"ingest.shape": [6, 6, 3]})
