"""A byte altered anywhere is noticed, and a full disk is told in one line and gone on from."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

import numpy as np
import pytest

from tests.conftest import picture_set, spawn_cli
from tests.runs.helpers import LEAN, make_run
from tests.runs.kills import SET_WORDS, SMALL_BLOCKS, assert_same_results
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.commands.update import update
from workflow.errors import StoreError

#: Files of which nothing need be noticed, and why.
EXEMPT = {
    ".lock": "says who writes the run now; nobody does, so it is empty",
}
#: Folder of files of which nothing need be noticed: links to the files of the run before its update.
BEFORE = "segments/001/before/"


@pytest.fixture(scope="module")
def images():
    return picture_set(n=900, seed=5)[0]


def damaged_in(run):
    """Return what `status --verify` says, a refusal included."""
    try:
        return status(run, verify=True)["damaged"]
    except StoreError as err:
        return [str(err)]


@contextlib.contextmanager
def altered(*places):
    """Alter a byte in the middle of files, which nobody may write meanwhile."""
    intact = {place: place.read_bytes() for place in places}
    changed = {}
    for place, content in intact.items():
        half = len(content) // 2
        changed[place] = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        place.write_bytes(changed[place])
    try:
        yield
        written = [place for place, content in changed.items() if place.read_bytes() != content]
        assert written == [], "reading must not write"
    finally:
        for place, content in intact.items():
            place.write_bytes(content)


def assert_noticed(run, place):
    """Alter a byte in a file; it must be said, in lines."""
    with altered(place):
        damaged = damaged_in(run)
    assert damaged, f"{place} was altered, and nobody noticed"
    assert all("\n" not in line for line in damaged)


def test_verify__notices_a_byte_altered_in_any_file(images, client, tmp_path):
    """Copied from an archive, updated and cut again: every kind of file is there."""
    np.savez(tmp_path / "images.npz", images=images)
    np.save(tmp_path / "new.npy", images[:300] // 2)
    small = {"block_rows": 600, "overcluster.n_centroids": 30}
    run = make_run(tmp_path / "images.npz", tmp_path / "run", client, **small).path
    update(run, tmp_path / "new.npy")
    recut(run, n_clusters=3)
    assert damaged_in(run) == []
    files = {str(p.relative_to(run)): p for p in run.rglob("*") if p.is_file()}
    before = {name for name in files if name.startswith(BEFORE)}
    assert {"images.zarr/zarr.json", "manifest.json", "pca/moments.jsonl", *EXEMPT} <= files.keys()
    assert f"{BEFORE}manifest.json" in before
    # Arrays of the model have a line each: altered together, all must be named.
    arrays = {name for name in files if re.fullmatch(r"model\.zarr/\w+/c\b.*", name)}
    with altered(*(files[name] for name in arrays)):
        damaged = damaged_in(run)
    named = {line.partition(":")[0] for line in damaged}
    assert {"/".join(name.split("/")[:2]) for name in arrays} - named == set()
    for name in sorted(files.keys() - arrays - EXEMPT.keys() - before):
        assert_noticed(run, files[name])
    assert files[".lock"].stat().st_size == 0
    assert damaged_in(run) == []


def test_verify__notices_altered_images_where_they_lie(images, client, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, images)
    run = make_run(path, tmp_path / "run", client, **LEAN).path
    times = path.stat()
    assert damaged_in(run) == []
    assert_noticed(run, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert damaged_in(run) == []
    path.unlink()
    assert damaged_in(run) == [], "a run outlives its images"


def test_verify__ends_with_one_line_and_status_2(images, client, run_cli, tmp_path):
    np.save(tmp_path / "images.npy", images)
    run = make_run(tmp_path / "images.npy", tmp_path / "run", client, **LEAN).path
    assert run_cli("status", run, "--verify")[0] == 0
    (run / "overcluster" / "round.npz").write_bytes(b"other")
    status, _, err = run_cli("status", run, "--verify")
    assert status == 2
    assert err.count("\n") == 1
    assert "first overcluster/round.npz: checksum differs" in err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, whose size can be set."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size, *options):
        words = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "tmpfs", place]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    mounted = resize("64k")
    if mounted.returncode:
        pytest.skip(f"FULL DISKS ARE NOT TESTED: mount needs root ({mounted.stderr.strip()})")
    yield place, lambda size: resize(size, "remount").check_returncode()
    subprocess.run(["umount", "-l", place], check=True)


def test_disk__that_is_full_is_told_and_gone_on_from(images, client, small_disk, tmp_path):
    """At many sizes, so that it is full in every step; each time it goes on from where it was full."""
    disk, resize = small_disk
    np.save(tmp_path / "images.npy", images)
    # By themselves they are left out where the disk is small.
    settings = {**SMALL_BLOCKS, **LEAN, "neighbors.enabled": True}
    undisturbed = make_run(tmp_path / "images.npy", tmp_path / "run", client, **settings)
    stopped_in, told, again, size = set(), [], None, 64
    while again is None:
        try:
            again = make_run(tmp_path / "images.npy", disk / "run", client, **settings)
        except StoreError as err:
            told.append(str(err))
            if (disk / "run" / "manifest.json").exists():
                steps = status(disk / "run")["steps"]
                stopped_in |= {name for name, step in steps.items() if step["state"] == "partial"}
            size = size * 3 // 2
            resize(f"{size}k")
    assert all("No space left on device" in line and "Make room" in line for line in told), told
    assert not any("\n" in line for line in told)
    assert len(told) >= 5
    assert len(stopped_in) >= 2, stopped_in
    assert_same_results(undisturbed, again)
    assert damaged_in(again.path) == []


def test_disk__that_is_full_ends_with_one_line_and_status_2(images, small_disk, tmp_path):
    disk, resize = small_disk
    resize("300k")
    np.save(tmp_path / "images.npy", images)
    words = ("run", tmp_path / "images.npy", "--out", disk / "run", *SET_WORDS)
    process = spawn_cli(*words, "--set", "compute.n_workers=1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        err.splitlines()[-1]
    ]
    assert "Make room" in err.splitlines()[-1]
    assert "Traceback" not in err
