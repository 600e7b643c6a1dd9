"""Images at addresses: read as on disk, through faults of the network, and what is wrong said in one line.

The server is moto's, which answers as S3 does; faults are put in by a server in front of it.
"""

import contextlib
import json
import os
import re
import shlex
from datetime import timedelta

import boto3
import icechunk
import numpy as np
import pytest
import zarr
from moto.server import ThreadedMotoServer

from tests.conftest import PROJECT
from tests.runs.helpers import LEAN, SETTINGS, assert_same_labels, labels_of, make_run
from tests.runstore.servers import faulty, static
from workflow.cli import main
from workflow.commands.status import status
from workflow.errors import ComputeError, ImagesError, StoreError
from workflow.ingest import ArraySource, ingest, open_input
from workflow.runstore import RunStore, objects, zarr_io

#: What a user has in the environment; moto asks for nothing in particular.
SECRET = "not-to-be-seen-4711"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
}
#: As often as by default, with shorter pauses.
QUICK = {
    "backoff": {
        "init_backoff": timedelta(milliseconds=2),
        "max_backoff": timedelta(milliseconds=20),
        "base": 2,
    },
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=20),
}


def write_own(folder, images):
    ingest(ArraySource(images), folder, block_rows=100)


def write_shards(folder, images):
    shape = images.shape[1:]
    array = zarr.create_array(
        folder, name="images", shape=images.shape, dtype=images.dtype,
        chunks=(50, *shape), shards=(200, *shape),
    )  # fmt: skip
    array[:] = images


def write_chunks(folder, images):
    array = zarr.create_array(
        folder, name="images", shape=images.shape, dtype=images.dtype, chunks=(100, 5, 6, 3)
    )
    array[:] = images


def write_format_2(folder, images):
    group = zarr.create_group(folder, zarr_format=2)
    array = group.create_array(
        "images", shape=images.shape, dtype=images.dtype, chunks=(150, 6, 6, 3)
    )
    array[:] = images


WRITERS = {
    "own": write_own,
    "shards": write_shards,
    "chunks": write_chunks,
    "format-2": write_format_2,
}


class Bucket:
    """A bucket of the server, filled by AWS's own library."""

    def __init__(self, url):
        self.url = url
        self.client = boto3.client("s3", endpoint_url=url)
        self.client.create_bucket(Bucket="bucket")

    def upload(self, folder, key):
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def put(self, key, content):
        self.client.put_object(Bucket="bucket", Key=key, Body=content)

    def get(self, key):
        return self.client.get_object(Bucket="bucket", Key=key)["Body"].read()

    def delete(self, key):
        self.client.delete_object(Bucket="bucket", Key=key)


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(objects.NAMED)]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        host, port = server.get_host_and_port()
        yield Bucket(f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(1, 256, (600, 6, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def local(bucket, images, tmp_path_factory):
    """Stores on disk, each of which is in the bucket too."""
    folder = tmp_path_factory.mktemp("stores")
    for name, write in WRITERS.items():
        write(folder / f"{name}.zarr", images)
        bucket.upload(folder / f"{name}.zarr", f"deep/{name}.zarr")
    return folder


@pytest.fixture(autouse=True)
def environment(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.url)
    monkeypatch.setattr(objects, "RETRIES", QUICK)


@pytest.fixture
def copy(bucket, local):
    """A store of our own in the bucket, to be changed."""
    bucket.upload(local / "own.zarr", "changed/own.zarr")
    return "s3://bucket/changed/own.zarr"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("is_faulty", [False, True], ids=["plain", "faulty"])
def test_images__are_those_on_disk(name, is_faulty, bucket, local, images, monkeypatch):
    with faulty(bucket.url) as proxy:
        if is_faulty:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        opened = zarr_io.open_images(f"s3://bucket/deep/{name}.zarr")
        there = zarr_io.open_images(local / f"{name}.zarr")
        assert (opened.shape, opened.dtype, opened.stored_rows) == (
            there.shape, there.dtype, there.stored_rows,
        )  # fmt: skip
        for start, stop in [(0, 600), (0, 1), (130, 270), (599, 600), (300, 300)]:
            np.testing.assert_array_equal(
                opened.read(start, stop), images[start:stop].reshape(stop - start, 108)
            )
        assert opened.fingerprint() == zarr_io.open_images(opened.name).fingerprint()
    assert is_faulty == ({"503", "429", "cut", "lost", "slow"} <= set(proxy.seen))


@pytest.mark.parametrize("name", WRITERS)
def test_bucket_that_may_not_be_listed__is_read(name, bucket, local, images, monkeypatch):
    # S3 answers "forbidden" there for what is missing.
    with faulty(bucket.url, [None], hides=True) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        given = open_input(f"s3://bucket/deep/{name}.zarr")
        np.testing.assert_array_equal(given.source.read(0, 600), images.reshape(600, 108))
        assert given.fingerprint["n_files"] > 1
        with pytest.raises(StoreError, match="the store refuses"):
            zarr_io.open_images("s3://bucket/deep/none.zarr")


@pytest.mark.parametrize("name", WRITERS)
def test_missing_chunk__is_an_error_not_fill_values(name, bucket, local):
    bucket.upload(local / f"{name}.zarr", f"cut/{name}.zarr")
    keys = [p.relative_to(local).as_posix() for p in (local / f"{name}.zarr/images").rglob("*")]
    lost = max(key for key in keys if key[-1].isdecimal() and (local / key).is_file())
    opened = zarr_io.open_images(f"s3://bucket/cut/{name}.zarr")
    bucket.put(f"cut/{lost}", b"")
    with pytest.raises(StoreError, match="is empty: Zarr would read fill values"):
        opened.read(0, 600)
    bucket.delete(f"cut/{lost}")
    with pytest.raises(StoreError, match=r"its file \S+ is missing: Zarr would read fill values"):
        opened.read(0, 600)


@pytest.mark.parametrize("place", [0, 5000, -5], ids=["first", "middle", "index"])
def test_altered_byte__is_noticed(place, bucket, copy):
    key = "changed/own.zarr/images/c/2/0/0/0"
    content = bytearray(bucket.get(key))
    content[place] ^= 1
    bucket.put(key, bytes(content))
    opened = zarr_io.open_images(copy)
    opened.read(0, 200)
    with pytest.raises(StoreError, match="rows 200 to 299 whole; its file c/2/0/0/0 is damaged"):
        opened.read(150, 250)


def test_other_images_at_the_address__have_another_fingerprint(
    bucket, copy, local, images, tmp_path
):
    before = zarr_io.open_images(copy).fingerprint()
    assert before["n_files"] == len(
        [p for p in (local / "own.zarr/images").rglob("*") if p.is_file()]
    )
    write_own(tmp_path / "other.zarr", 255 - images)
    bucket.upload(tmp_path / "other.zarr", "changed/own.zarr")
    after = zarr_io.open_images(copy)
    assert after.fingerprint()["files"] != before["files"]
    np.testing.assert_array_equal(after.read(0, 600), 255 - images.reshape(600, 108))


def test_web_server__needs_no_list(local, images, tmp_path):
    with static(local) as server:
        for name in ("own", "chunks"):
            opened = zarr_io.open_images(f"{server.url}/{name}.zarr::images")
            np.testing.assert_array_equal(opened.read(0, 600), images.reshape(600, -1))
            assert opened.fingerprint()["n_files"] == {"own": 6, "chunks": 12}[name]
        with pytest.raises(
            ImagesError, match=r"must exist, and at an address be Zarr; http:.*/none"
        ):
            zarr_io.open_images(f"{server.url}/none.zarr")


def set_environment(values):
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def workers_knowing(client, values):
    """Give workers, which know neither server nor credentials, both."""
    client.run(set_environment, values)
    try:
        yield
    finally:
        client.run(set_environment, dict.fromkeys(values))


@pytest.fixture(scope="module")
def finished(bucket, pictures, client, tmp_path_factory):
    """A folder in which the commands of the page were run, over a server with faults; what they said, and the server."""
    folder = tmp_path_factory.mktemp("page")
    images, more = pictures[0][:2000], pictures[0][2000:2100]
    ingest(ArraySource(images), folder / "local.zarr", block_rows=512)
    names = np.array([f"{number}.png" for number in range(2000)], np.dtypes.StringDType())
    zarr_io.write_array(folder / "local.zarr", "path", names, dims=["sample"])
    ingest(ArraySource(more), folder / "more.zarr")
    bucket.upload(folder / "local.zarr", "images.zarr")
    bucket.upload(folder / "more.zarr", "more.zarr")
    write_repository(bucket, "repo", images)
    page = (PROJECT / "docs" / "object-stores.md").read_text(encoding="utf-8")
    commands = "".join(
        re.findall(r"^```sh needs=bucket\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    )
    # Workers pause between trials as they do by default.
    faults = [None, "503", *[None] * 5, "cut", *[None] * 5, "lost"]
    with pytest.MonkeyPatch.context() as patch, faulty(bucket.url, faults) as proxy:
        patch.chdir(folder)
        patch.setattr(objects, "RETRIES", QUICK)
        for key, value in {**SETTINGS, **LEAN}.items():
            patch.setenv(f"WORKFLOW_{key.upper().replace('.', '__')}", json.dumps(value))
        patch.setenv("WORKFLOW_COMPUTE__LAUNCHER", "address")
        patch.setenv("WORKFLOW_COMPUTE__ADDRESS", client.scheduler.address)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with workers_knowing(client, {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}):
            ended = {line: main(shlex.split(line)[1:]) for line in commands.splitlines()}
        assert {"503", "cut", "lost"} <= set(proxy.seen)
    return folder, ended, proxy.url


def test_page__its_commands_work(finished, pictures):
    folder, ended, _ = finished
    assert len(ended) == 10
    assert set(ended.values()) == {0}
    copied = zarr_io.open_images(folder / "images.zarr").read(0, 2000)
    np.testing.assert_array_equal(copied, pictures[0][:2000].reshape(2000, -1))


def test_run__is_the_one_of_the_same_images_elsewhere(finished, client):
    folder, _, _ = finished
    first, second = (labels_of(RunStore.open(folder / run)) for run in ("my-run", "snapshot-run"))
    assert first.path[1999] == "1999.png"
    assert_same_labels(first.drop_vars("path"), second)
    # On disk they are the same too: their values are compared, and nothing is done again.
    before = RunStore.open(folder / "my-run").step("pca").seconds
    again = make_run(folder / "local.zarr", folder / "my-run", client, **LEAN)
    assert again.step("pca").seconds == before


def test_run__holds_no_secret(finished):
    folder, _, url = finished
    run = folder / "my-run"
    assert RunStore.open(run).manifest.images["path"] == "s3://bucket/images.zarr"
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert url.encode() not in written


def test_verify__notices_a_sound_object_of_other_images(finished, bucket):
    run = finished[0] / "my-run"
    assert status(run, verify=True)["damaged"] == []
    bucket.put("images.zarr/images/c/2/0/0/0", bucket.get("images.zarr/images/c/1/0/0/0"))
    altered = "images s3://bucket/images.zarr, images 1024 to 1535: checksum differs"
    assert status(run, verify=True)["damaged"] == [altered]


def test_worker_that_may_not_read__is_named_first(bucket, local, client, tmp_path):
    with faulty(bucket.url, ["403"]) as unwilling:
        refused = pytest.raises(
            ComputeError, match=r"able to read the images; .* the store refuses"
        )
        known = {**CREDENTIALS, "AWS_ENDPOINT_URL": unwilling.url}
        with workers_knowing(client, known), refused:
            make_run("s3://bucket/deep/own.zarr", tmp_path / "refused", client)


def write_repository(bucket, key, images):
    storage = icechunk.s3_storage(
        bucket="bucket", prefix=key, endpoint_url=bucket.url, allow_http=True,
        force_path_style=True, from_env=True,
    )  # fmt: skip
    session = icechunk.Repository.create(storage).writable_session("main")
    array = zarr.create_array(session.store, name="images", shape=images.shape, dtype=images.dtype)
    array[:] = images
    return session.commit("all")


def test_repository_of_icechunk__is_read_by_snapshot(bucket, images, monkeypatch):
    snapshot = write_repository(bucket, "deep/repo", images)
    with faulty(bucket.url, [None, "cut", None]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        opened = zarr_io.open_images("s3://bucket/deep/repo@main")
        assert opened.name == f"s3://bucket/deep/repo@{snapshot}::images"
        np.testing.assert_array_equal(opened.read(0, 600), images.reshape(600, 108))
    assert proxy.seen.count("cut") > 1


WRONG = {
    "nothing there": ("s3://bucket/deep/none.zarr", "must exist, and at an address be Zarr"),
    "no bucket": ("s3://nobodys/images.zarr", "nobodys"),
    "other array": ("s3://bucket/deep/own.zarr::image", "Give s3://bucket/deep/own.zarr::images"),
    "upwards": ("s3://bucket/deep/../own.zarr", "cannot be read"),
    "password": (f"https://me:{SECRET}@127.0.0.1/i.zarr", "must hold no password"),
    "signature": (f"s3://bucket/i.zarr?X-Amz-Signature={SECRET}", "must hold no password"),
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_wrong_address__is_told_in_one_line(words, local, run_cli):
    address, expected = words
    status, _, err = run_cli("run", address, "--out", "run")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert expected in line
    assert SECRET not in err


REFUSED = {"gone": "cannot be read", "busy": "cannot be read", "forbidden": "the store refuses"}


@pytest.mark.parametrize("kind", REFUSED)
def test_server_that_refuses__is_told_in_one_line(kind, bucket, monkeypatch, run_cli):
    with faulty(bucket.url, ["503"] if kind == "busy" else ["403"]) as proxy:
        url = "http://127.0.0.1:9" if kind == "gone" else proxy.url
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        status, _, err = run_cli("plan", "s3://bucket/deep/own.zarr")
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert REFUSED[kind] in line
    assert SECRET not in err
