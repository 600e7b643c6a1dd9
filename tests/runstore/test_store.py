"""The run folder: made, opened, locked, replaced in one move."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest

from workflow.errors import StoreError
from workflow.runstore import RunStore, files
from workflow.runstore.files import ArrayPlace, read_arrays, write_arrays


def test_arrays__round_trip_and_an_altered_byte_is_noticed(tmp_path):
    arrays = {"a": np.arange(5), "b": np.eye(3, dtype=np.float32), "n": np.asarray(4)}
    checksum = write_arrays(tmp_path / "arrays.npz", arrays)
    back = read_arrays(tmp_path / "arrays.npz", checksum)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    altered = bytearray((tmp_path / "arrays.npz").read_bytes())
    altered[60] ^= 4
    (tmp_path / "arrays.npz").write_bytes(altered)
    with pytest.raises(StoreError, match="checksum differs"):
        read_arrays(tmp_path / "arrays.npz", checksum)
    with pytest.raises(StoreError, match="missing"):
        read_arrays(tmp_path / "none.npz")


def test_write_bytes__leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    target = tmp_path / "file"
    files.write_bytes(target, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(
            files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        with pytest.raises(
            StoreError, match=r"file must be written; the disk refused \(No space left\)"
        ):
            files.write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_open__refuses_what_is_no_run_folder(tmp_path):
    with pytest.raises(StoreError, match=r"has no manifest\.json"):
        RunStore.open(tmp_path)
    store = RunStore.create(tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"seed": 1}))
    with pytest.raises(StoreError, match="its checksum differs"):
        RunStore.open(store.path)
    manifest.write_text(json.dumps(content | {"format_version": 99}))
    with pytest.raises(StoreError, match="format version 1; got 99"):
        RunStore.open(store.path)
    manifest.write_text("{")
    with pytest.raises(StoreError, match="must be JSON"):
        RunStore.open(store.path)
    manifest.write_text(json.dumps({"format_version": 1}))
    with pytest.raises(StoreError, match="damaged"):
        RunStore.open(store.path)


def test_write_model__is_all_or_nothing(tmp_path, monkeypatch):
    store = RunStore.create(tmp_path / "run")
    old = {"a": (np.arange(3), ("x",)), "b": (np.arange(4), ("y",))}
    new = {"a": (np.arange(3) + 10, ("x",)), "b": (np.arange(6) + 10, ("y",))}
    store.write_model("pca", old, {"n": 1})
    moves = store._finish_moves
    with monkeypatch.context() as patch:
        patch.setattr(store, "_finish_moves", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write_model("pca", new, {"n": 2})
    np.testing.assert_array_equal(store.read_model("a")[0], np.arange(3))
    assert moves.__self__ is store
    again = RunStore.open(store.path)
    for name in new:
        np.testing.assert_array_equal(again.read_model(name)[0], new[name][0])
    assert again.model_attrs("pca") == {"n": 2}
    assert again.manifest.moves == []


def test_read_arrays__says_what_is_damaged_without_a_checksum(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"a": np.arange(50)})
    whole, n_noticed = path.read_bytes(), 0
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1
        path.write_bytes(altered)
        try:
            found = read_arrays(path)
        except StoreError:
            n_noticed += 1
        else:
            # In the dates and versions of a zip file, which nothing reads.
            np.testing.assert_array_equal(found["a"], np.arange(50))
    assert n_noticed > len(whole) // 2


def test_lock__turns_a_full_disk_into_one_line(tmp_path):
    store = RunStore.create(tmp_path / "run")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    with pytest.raises(StoreError, match=r"No space left on device.*Make room"), store.lock():
        raise full
    other = OSError(errno.ECHILD, os.strerror(errno.ECHILD))
    with pytest.raises(ChildProcessError), store.lock():
        raise other


def test_lock__names_the_holder_and_is_given_back(tmp_path):
    store = RunStore.create(tmp_path / "run")
    with store.lock(), pytest.raises(StoreError, match=r"process \d+ on "), store.lock():
        pass
    with store.lock():
        pass


def test_begin__goes_on_or_starts_anew(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.begin("pca", "one", {"a": 1}, {}, [])
    store.journal("pca", "blocks").extend({0: {}})
    store.begin("pca", "one", {"a": 1}, {}, [])
    assert list(store.journal("pca", "blocks").entries) == [0]
    store.finish("pca")
    store.begin("pca", "one", {"a": 1}, {}, [])
    assert store.journal("pca", "blocks").entries == {}
    store.journal("pca", "blocks").extend({0: {}})
    store.begin("pca", "two", {"a": 2}, {}, [])
    assert store.journal("pca", "blocks").entries == {}


@pytest.mark.parametrize("moves", [[["wip/x", "../victim"]], [["wip/x", "/victim"]], [["a"]], [3]])
def test_open__a_strangers_manifest_moves_nothing_outside(moves, tmp_path):
    store = RunStore.create(tmp_path / "run")
    victim = tmp_path / "victim"
    victim.mkdir()
    manifest = store.path / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["checksum"]
    manifest.write_text(json.dumps(content | {"moves": moves}).replace("/victim", str(victim)))
    with pytest.raises(StoreError, match=r"inside the run only|damaged"):
        RunStore.open(store.path)
    assert victim.is_dir()


def test_finish__removes_what_killed_workers_were_writing(tmp_path):
    store = RunStore.create(tmp_path / "run")
    store.begin("projection", "key", {}, {}, [])
    shards = store.folder("projection") / "kept" / "c"
    shards.mkdir(parents=True)
    kept = [shards / "0", shards.parent / "part-000000.npz"]
    left = [shards / "0.1f.partial", shards / ".zarr.json.7.tmp", shards / ".part-0.7.8.tmp.npz"]
    for path in kept + left:
        path.write_bytes(b"made by a task")
    store.finish("projection")
    assert [path.is_file() for path in kept + left] == [True] * 2 + [False] * 3


def test_place__reads_rows_of_one_array(tmp_path):
    arrays = {"rows": np.arange(5), "images": np.arange(5 * 12).reshape(5, 3, 4)}
    path = tmp_path / "arrays.npz"
    write_arrays(path, arrays)
    place = ArrayPlace.find(path, "images")
    for rows in ([0, 1, 4], [3], [4, 0], [2, 2], []):
        found = place.read(rows)
        np.testing.assert_array_equal(found, arrays["images"][rows])
        assert found.dtype == arrays["images"].dtype
        assert found.shape == (len(rows), 3, 4)
    np.testing.assert_array_equal(ArrayPlace.find(path, "rows").read([3, 1]), [3, 1])
    assert list(read_arrays(path, names=["rows"])) == ["rows"]
    with pytest.raises(StoreError, match="must hold arrays as they were written"):
        place.read([0, 5])
    with pytest.raises(StoreError, match="must hold arrays as they were written"):
        ArrayPlace.find(path, "others")
    path.write_bytes(path.read_bytes()[:200])
    for read in (lambda: place.read([0]), lambda: ArrayPlace.find(path, "images")):
        with pytest.raises(StoreError, match="damaged"):
            read()
    path.unlink()
    with pytest.raises(StoreError, match="damaged"):
        place.read([0])
