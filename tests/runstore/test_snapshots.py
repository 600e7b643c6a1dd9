"""Images in Icechunk repositories: what was committed is read, whatever is written there later."""

import pickle

import icechunk
import numpy as np
import pytest
import zarr

from workflow.errors import ImagesError, StoreError
from workflow.ingest import open_input
from workflow.runstore import zarr_io


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(1, 256, (60, 6, 6, 3), dtype=np.uint8)


def commit(repository, images, message):
    session = repository.writable_session("main")
    group = zarr.open_group(session.store, mode="a")
    array = group.require_array(
        "images", shape=images.shape, dtype=images.dtype, chunks=(25, 6, 6, 3)
    )
    array[:] = images
    return session.commit(message)


@pytest.fixture
def repository(tmp_path):
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))


def read(place):
    """Read all images of a place, as a worker does: by what it is sent."""
    opened = pickle.loads(pickle.dumps(zarr_io.open_images(place)))
    return opened.read(0, opened.n_samples).reshape(opened.shape)


def test_versions__are_branches_tags_and_snapshots(repository, images, tmp_path):
    first = commit(repository, images, "first")
    repository.create_tag("v1", first)
    given = open_input(f"{tmp_path / 'repo'}@main::images")
    second = commit(repository, 255 - images, "second")
    for version, expected in {
        first: images,
        "v1": images,
        second: 255 - images,
        "main": 255 - images,
    }.items():
        np.testing.assert_array_equal(read(f"{tmp_path / 'repo'}@{version}"), expected)
    # What was opened stays what it was, and its name opens it again.
    assert given.name == f"{tmp_path / 'repo'}@{first}::images"
    np.testing.assert_array_equal(given.source.read(0, 60).reshape(images.shape), images)
    assert (
        given.digest
        == open_input(given.name).digest
        == open_input(f"{tmp_path / 'repo'}@v1").digest
    )
    assert given.digest != open_input(f"{tmp_path / 'repo'}@main").digest


def test_chunk_of_fill_values__was_meant(repository, images, tmp_path):
    blank = images.copy()
    blank[25:50] = 0
    commit(repository, blank, "with zeros")
    np.testing.assert_array_equal(read(f"{tmp_path / 'repo'}@main"), blank)


def test_lost_chunk__is_an_error(repository, images, tmp_path):
    commit(repository, images, "first")
    opened = zarr_io.open_images(f"{tmp_path / 'repo'}@main")
    for chunk in (tmp_path / "repo" / "chunks").iterdir():
        chunk.unlink()
    with pytest.raises(
        StoreError, match=r"repo@\w+/images must be readable as an Icechunk repository"
    ):
        opened.read(0, 10)


def test_wrong_version__is_told(repository, images, tmp_path):
    commit(repository, images, "first")
    repository.create_branch("trial", repository.lookup_branch("main"))
    with pytest.raises(ImagesError, match=r"has no 'mian'\. It has main, trial"):
        zarr_io.open_images(f"{tmp_path / 'repo'}@mian")
    with pytest.raises(ImagesError, match=r"must hold the array `image`; .* holds images"):
        zarr_io.open_images(f"{tmp_path / 'repo'}@main::image")


def test_name_with_the_mark__is_a_name(images, tmp_path):
    np.save(tmp_path / "images@main.npy", images)
    np.testing.assert_array_equal(read(tmp_path / "images@main.npy"), images)
    with pytest.raises(ImagesError, match="images must exist"):
        zarr_io.open_images(tmp_path / "other@main.npy")
