"""A job array: the parts, in any order and beside each other, make the store that one call makes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT, last_json, picture_set
from tests.ingest.helpers import KilledError, KilledRunner, files_of
from workflow.errors import ConfigError, StoreError
from workflow.ingest import begin_parts, finish_parts, ingest, open_source, write_part, writer

OPTIONS = {"shape": None, "dtype": None, "on_unreadable": "skip"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of a few images, so that there are many."""
    monkeypatch.setattr(writer, "choose_block_rows", lambda n_features: 100)


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, images=picture_set(n=1950)[0])
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(picture_set(n=450)[0]):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    (folder / "017.png").write_bytes(b"no picture")
    return folder


def whole_copy(source, out, **options):
    ingest(open_source(str(source), **{**OPTIONS, **options}), out)
    return out


@pytest.mark.parametrize("n_parts", [1, 3, 7, 500])
def test_parts__make_the_bytes_of_one_call(n_parts, npz, tmp_path):
    target = tmp_path / "parts.zarr"
    plan = begin_parts(str(npz), target, n_parts, options=OPTIONS)
    assert (plan.n_samples, plan.n_shards, plan.n_parts) == (1950, 20, min(n_parts, 20))
    assert plan.part_memory == 2 * 100 * 108
    counts = [write_part(target, index)[0] for index in reversed(range(plan.n_parts))]
    assert sum(counts) == 20
    assert max(counts) - min(counts) <= 1
    report = finish_parts(target)
    assert report.n_samples == 1950
    assert files_of(target) == files_of(whole_copy(npz, tmp_path / "whole.zarr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images.npz",
        "parts.zarr",
        "whole.zarr",
    ]


def test_parts__beside_each_other(npz, tmp_path):
    target = tmp_path / "parts.zarr"
    begin_parts(str(npz), target, 6, options=OPTIONS)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda index: write_part(target, index), range(6)))
    finish_parts(target)
    assert files_of(target) == files_of(whole_copy(npz, tmp_path / "whole.zarr"))


def test_parts__a_folder_of_pictures(photos, tmp_path):
    target = tmp_path / "parts.zarr"
    options = {**OPTIONS, "shape": (6, 6, 3)}
    plan = begin_parts(str(photos), target, 2, options=options)
    assert plan.n_samples == 449
    for index in range(2):
        write_part(target, index)
    report = finish_parts(target)
    assert report.unreadable == ("017.png",)
    assert files_of(target) == files_of(
        whole_copy(photos, tmp_path / "whole.zarr", shape=(6, 6, 3))
    )


def test_parts__again_do_only_what_is_missing(npz, tmp_path):
    target = tmp_path / "parts.zarr"
    first = begin_parts(str(npz), target, 4, options=OPTIONS)
    assert write_part(target, 2) == (5, 0)
    assert write_part(target, 2) == (0, 5)
    assert begin_parts(str(npz), target, 4, options=OPTIONS) == first
    with pytest.raises(StoreError, match=r"3 parts are not: 0, 1, 3. Run: ingest-part .* 0 \("):
        finish_parts(target)
    shards = (tmp_path / "parts.zarr.partial" / "images" / "c").rglob("*")
    lost = next(path for path in shards if path.is_file())
    lost.unlink()
    assert write_part(target, 2) == (1, 4)


def test_parts__resume_what_one_call_began_and_the_reverse(npz, tmp_path):
    whole = files_of(whole_copy(npz, tmp_path / "whole.zarr"))
    source, target = open_source(npz), tmp_path / "parts.zarr"
    for n_tasks in (0, 1, 9):
        # Unpacking, a look whether the images compress, then shards.
        with pytest.raises(KilledError):
            ingest(source, target, runner=KilledRunner(n_tasks))
    begin_parts(str(npz), target, 1, options=OPTIONS)
    with pytest.raises(StoreError, match="1 part is not: 0"):
        finish_parts(target)
    report = ingest(source, target)
    assert report.n_shards_reused == 8
    assert files_of(target) == whole
    target = tmp_path / "other.zarr"
    begin_parts(str(npz), target, 4, options=OPTIONS)
    assert write_part(target, 1) == (5, 0)
    assert ingest(source, target).n_shards_reused == 5
    assert files_of(target) == whole


def test_parts__errors_name_what_to_do(npz, tmp_path):
    target = tmp_path / "parts.zarr"
    with pytest.raises(StoreError, match=r"was not begun\. Run: ingest-init SOURCE"):
        write_part(target, 0)
    begin_parts(str(npz), target, 4, options=OPTIONS)
    for index in (-1, 4):
        with pytest.raises(ConfigError, match=f"from 0 to 3; got {index}"):
            write_part(target, index)
    np.savez(npz, images=picture_set(n=1950, seed=1)[0])
    os.utime(npz, (1, 1))
    for index in range(4):
        write_part(target, index)
    with pytest.raises(StoreError, match="must not change while they are copied"):
        finish_parts(target)
    target.mkdir()
    with pytest.raises(StoreError, match="must be new"):
        begin_parts(str(npz), target, 4, options=OPTIONS)


def test_parts__on_the_command_line(npz, tmp_path, run_cli):
    target = tmp_path / "parts.zarr"
    quick = ("--set", "compute.n_workers=1", "--json")
    status, out, err = run_cli("ingest-init", npz, target, "--parts", 3, *quick)
    assert status == 0, err
    found = last_json(out)
    assert (found["n_parts"], found["part_shards"], found["n_samples"]) == (3, 7, 1950)
    for index in (1, 2, 3):
        # As a job array does: a process for each.
        words = [sys.executable, "-m", "workflow", "ingest-part", target, index, "--one-based"]
        subprocess.run(list(map(str, words)), check=True, cwd=PROJECT)
    status, out, err = run_cli("ingest-part", target, 0, "--one-based")
    assert status == 2
    assert "got -1" in err
    status, out, err = run_cli("ingest-finish", target, "--json")
    assert status == 0, err
    assert last_json(out)["n_samples"] == 1950
    assert files_of(target) == files_of(whole_copy(npz, tmp_path / "whole.zarr"))
    status, _, err = run_cli("ingest-finish", target)
    assert status == 2
    assert "is finished" in err
