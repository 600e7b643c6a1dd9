"""Runs at an address: what counts is there, whole, whatever is killed, and whoever else writes or reads."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import xarray as xr

import workflow
from tests.conftest import PROJECT, picture_set
from tests.runs.helpers import LEAN, SETTINGS, assert_same_labels, labels_of, make_run
from tests.runs.kills import assert_same_results
from tests.runstore.servers import faulty
from tests.runstore.test_objects import CREDENTIALS, QUICK, Bucket
from workflow.commands.name import name as name_cluster
from workflow.commands.name import names
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.commands.undo import undo
from workflow.commands.update import undo_update, update
from workflow.engine.client import _advice
from workflow.errors import StoreError
from workflow.runstore import RunStore, objects
from workflow.runstore.journal import Journal
from workflow.runstore.kept import bucket as requests
from workflow.runstore.kept import choose_folder, folder, here, lock, note

RUN = "s3://bucket/runs/a"


#: In a process of its own: what it does takes as long as what is tested. A line for each request takes longer.
SERVER = """
import logging, threading
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


class Killed(BaseException):
    """Stands for the end of a process: nothing that it does afterwards has an effect."""


@pytest.fixture(scope="module")
def server():
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as moto,
    ):
        for variable in [name for name in os.environ if name.startswith(objects.NAMED)]:
            patch.delenv(variable)
        for variable, value in CREDENTIALS.items():
            patch.setenv(variable, value)
        yield Bucket(f"http://127.0.0.1:{moto.stdout.readline().strip()}")
        moto.kill()


class Objects:
    """The objects of one run, seen by AWS's own library."""

    def __init__(self, server, key):
        self.server, self.key, self.address = server, key, f"s3://bucket/{key}"

    def names(self):
        """Return the names of all, but for that which tells of the last push, if that is done."""
        pages = self.server.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket="bucket", Prefix=f"{self.key}/")
        keys = [one["Key"] for page in found for one in page.get("Contents", [])]
        names = {key.removeprefix(f"{self.key}/") for key in keys}
        is_done = "push.json" in names and json.loads(self.get("push.json"))["put"] == []
        return names - {"push.json"} if is_done else names

    def put(self, name, content):
        self.server.put(f"{self.key}/{name}", content)

    def get(self, name):
        return self.server.get(f"{self.key}/{name}")

    def delete(self, name):
        self.server.delete(f"{self.key}/{name}")


@pytest.fixture
def there(server, request, monkeypatch):
    """An address of our own, empty."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setattr(objects, "RETRIES", QUICK)
    return Objects(server, f"runs/{re.sub('[^a-z]+', '-', request.node.name)}")


@pytest.fixture
def machine(tmp_path):
    """Be on another machine from now on: its cache is another one."""

    def at(name):
        choose_folder(str(tmp_path / name))
        return tmp_path / name

    at("one")
    yield at
    choose_folder(None)


def write(address, files, *, seed):
    """Make a run of some files: those alone."""
    store = RunStore.create(address)
    with store.lock():
        fill(store, files, seed)


def fill(store, files, seed):
    old = [
        p for p in store.path.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock")
    ]
    for path in old:
        path.unlink()
    for name, content in files.items():
        (store.path / name).parent.mkdir(parents=True, exist_ok=True)
        (store.path / name).write_bytes(content)
    store.manifest.seed = seed
    store.save()


def read(address):
    """Return the files of a run, and the seed in its manifest."""
    store = RunStore.open(address)
    paths = [
        p for p in store.path.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock")
    ]
    return {
        p.relative_to(store.path).as_posix(): p.read_bytes() for p in paths
    }, store.manifest.seed


BEFORE = {
    "labels.zarr/zarr.json": b"{}",
    "labels.zarr/c/0": b"old",
    "pca/gone.jsonl": b"g",
    "same": b"s",
}
AFTER = {
    "labels.zarr/zarr.json": b"{ }",
    "labels.zarr/c/0": b"new",
    "labels.zarr/c/1": b"n",
    "same": b"s",
}


def killing(monkeypatch, n_requests):
    """Let the process end before its n-th request that changes anything, counted from now on."""
    left = [n_requests]

    def patched(method):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return method(*arguments, **options)

        return call

    for changing in ("put", "put_if", "copy", "delete"):
        monkeypatch.setattr(requests.Bucket, changing, patched(getattr(requests.Bucket, changing)))
    return left


def changed_until_killed(there, machine, monkeypatch, n_requests):
    """Change a run, killed before a request; return whether it was done before."""
    write(there.address, BEFORE, seed=1)
    with monkeypatch.context() as patch:
        store = RunStore.open(there.address)
        try:
            with store.lock():
                killing(patch, n_requests)
                fill(store, AFTER, seed=2)
        except Killed:
            is_done = False
        else:
            is_done = True
    # Nobody renews the lock of a process that was killed.
    there.delete(".lock")
    return is_done


def n_requests_of_a_push(there, monkeypatch):
    write(there.address, BEFORE, seed=1)
    store = RunStore.open(there.address)
    with monkeypatch.context() as patch, store.lock():
        left = killing(patch, 10_000)
        fill(store, AFTER, seed=2)
        store.kept.push()
        return 10_000 - left[0]


@pytest.mark.parametrize("goes_on", [False, True], ids=["elsewhere", "here"])
def test_push_that_is_killed__leaves_the_old_state_or_the_new_one(
    there, machine, monkeypatch, goes_on
):
    n_requests, seen = n_requests_of_a_push(there, monkeypatch), []
    assert n_requests > 12
    for n in range(0, n_requests, 3 if goes_on else 1):
        assert not changed_until_killed(there, machine, monkeypatch, n)
        # What was not pushed is still here, and nowhere else.
        states = [(AFTER, 2)] if goes_on else [(BEFORE, 1), (AFTER, 2)]
        machine("one" if goes_on else "two")
        before = read(there.address)
        assert before in states, n
        with RunStore.open(there.address).lock():
            pass
        assert read(there.address) == before, n
        assert there.names() == {*before[0], "manifest.json"}, n
        seen.append(before[1])
        for file in (*there.names(), "push.json"):
            there.delete(file)
        machine("one")
    assert seen == sorted(seen)
    assert set(seen) == ({2} if goes_on else {1, 2})


def test_push_after_one_that_failed__copies_nothing_that_has_changed(there, machine, monkeypatch):
    write(there.address, BEFORE, seed=1)
    for n in range(2, 20, 3):
        store = RunStore.open(there.address)
        with store.lock():
            old, new = store.path / "labels.zarr/c/0", str(n).encode()
            before, content = store.path / f"before-{n}", old.read_bytes()
            old.replace(before)
            old.write_bytes(new)
            with monkeypatch.context() as patch, contextlib.suppress(Killed):
                killing(patch, n)
                store.kept.push()
        assert there.get(f"before-{n}") == content
        assert there.get("labels.zarr/c/0") == new


def test_reader__sees_no_mix_while_another_machine_pushes(there, machine, monkeypatch):
    monkeypatch.setattr(folder, "PAUSE_S", 0.01)
    generations, ended, found = {f"part/{n}": b"0" for n in range(6)}, threading.Event(), []
    write(there.address, generations, seed=0)
    theirs = folder.Kept(objects.Address.of(there.address), machine("two") / "reader")

    def reads():
        while not ended.is_set():
            theirs.pull()
            parts = {p.read_bytes() for p in (theirs.folder / "part").iterdir()}
            manifest = json.loads((theirs.folder / "manifest.json").read_bytes())
            found.append((manifest["seed"], parts))

    machine("one")
    thread = threading.Thread(target=reads)
    thread.start()
    store = RunStore.open(there.address)
    with store.lock():
        for seed in range(1, 12):
            fill(store, dict.fromkeys(generations, str(seed).encode()), seed)
            store.kept.push()
            time.sleep(0.05)
    ended.set()
    thread.join()
    assert all(parts == {str(seed).encode()} for seed, parts in found)
    assert len({seed for seed, _ in found}) > 2


def test_faults_of_the_network__change_nothing(there, machine, monkeypatch):
    files = {f"part/{n}": np.random.default_rng(n).bytes(30_000 * n) for n in range(12)}
    files["large"] = np.random.default_rng(0).bytes(11 << 20)
    with faulty(there.server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        write(there.address, BEFORE, seed=1)
        write(there.address, files, seed=2)
        machine("two")
        assert read(there.address) == (files, 2)
        assert {"503", "429", "cut", "lost", "slow"} <= set(proxy.seen)
    assert there.names() == {*files, "manifest.json"}


def test_what_is_the_same__is_not_fetched_again_and_a_renamed_file_not_put_again(
    there, machine, monkeypatch
):
    write(there.address, BEFORE, seed=1)
    calls = Counter()

    def counted(what, method):
        def call(*arguments):
            calls[what] += 1
            return method(*arguments)

        return call

    for what in ("fetch", "put", "copy"):
        method = counted(what, getattr(requests.Bucket, what))
        monkeypatch.setattr(requests.Bucket, what, method)
    RunStore.open(there.address)
    assert not calls
    store = RunStore.open(there.address)
    with store.lock():
        (store.path / "same").replace(store.path / "moved")
    assert not calls["fetch"]
    # push.json, before and after; file and manifest are copied beside the run and to their places.
    assert calls == {"put": 2, "copy": 4}
    assert "moved" in there.names()
    assert "same" not in there.names()
    (store.path / "moved").write_bytes(b"altered by somebody")
    shutil.rmtree(store.path / "labels.zarr")
    expected = {**BEFORE, "moved": b"s"}
    del expected["same"]
    assert read(there.address) == (expected, 1)
    shutil.rmtree(store.path)
    assert read(there.address) == (expected, 1)


def test_chunks__are_left_out_where_only_names_are_wanted(there, machine):
    write(there.address, BEFORE, seed=1)
    machine("two")
    store = RunStore.open(there.address, rows=False)
    assert not (store.path / "labels.zarr/c").exists()
    with store.lock():
        (store.path / "more").write_bytes(b"m")
    machine("one")
    assert read(there.address) == ({**BEFORE, "more": b"m"}, 1)
    machine("two")
    assert read(there.address) == ({**BEFORE, "more": b"m"}, 1)


def test_second_writer__is_refused_in_one_line(there, machine):
    write(there.address, BEFORE, seed=1)
    with RunStore.open(there.address).lock():
        with pytest.raises(
            StoreError, match=r"one command at a time may write .*; process \d+ on "
        ):
            RunStore.open(there.address).lock().__enter__()
        machine("two")
        store = RunStore.open(there.address)
        with pytest.raises(StoreError, match=r"may write s3://bucket/.*; process \d+ on .* does"):
            store.lock().__enter__()
    with store.lock():
        pass
    assert ".lock" not in there.names()


def test_lock_that_was_not_renewed__is_taken_over_and_stops_who_held_it(
    there, machine, monkeypatch
):
    write(there.address, BEFORE, seed=1)
    store = RunStore.open(there.address)
    stopped = pytest.raises(StoreError, match=r"must hold the lock of s3://bucket/.*; it was lost")
    monkeypatch.setattr(lock, "STALE_S", 0.0)
    with stopped, store.lock():
        (store.path / "mine").write_bytes(b"m")
        machine("two")
        other = RunStore.open(there.address)
        with other.lock():
            (other.path / "theirs").write_bytes(b"t")
            store.kept.push()
    machine("one")
    with RunStore.open(there.address).lock():
        pass
    assert there.names() == {*BEFORE, "manifest.json", "theirs"}
    assert read(there.address)[0] == {**BEFORE, "theirs": b"t"}


def test_lock__is_renewed_and_one_that_is_late_is_waited_for(there, machine, monkeypatch):
    write(there.address, BEFORE, seed=1)
    monkeypatch.setattr(lock, "RENEWED_S", 0.05)
    with RunStore.open(there.address).lock():
        first = there.get(".lock")
        time.sleep(0.3)
        assert there.get(".lock") != first
    monkeypatch.setattr(lock, "RENEWED_S", 0.0)
    monkeypatch.setattr(lock, "LOOKED_S", 0.1)
    monkeypatch.setattr(lock, "STALE_S", 2.0)
    there.put(
        ".lock",
        json.dumps({"holder": "somebody", "process": "elsewhere:1", "token": "other"}).encode(),
    )
    machine("two")
    started = time.monotonic()
    with RunStore.open(there.address).lock():
        assert time.monotonic() - started > 0.5
    assert ".lock" not in there.names()


def test_lock_of_a_killed_process_of_this_machine__is_free_at_once(there, machine):
    write(there.address, BEFORE, seed=1)
    with subprocess.Popen(["true"]) as ended:
        pass
    space = lock.this_process().rpartition(":")[0]
    there.put(".lock", json.dumps({"process": f"{space}:{ended.pid}", "token": "other"}).encode())
    with RunStore.open(there.address).lock():
        pass


WRONG = {
    "none": (
        "s3://bucket/none",
        r"RUN must be a run folder; s3://bucket/none has no manifest.json",
    ),
    "web": (
        "https://host/run",
        r"RUN must be where it can be written, .*; https://host/run is a ser",
    ),
    "snapshot": ("s3://bucket/repo@main", r"s3://bucket/repo@main is a snapshot of Icechunk"),
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_wrong_address__is_told_in_one_line(there, machine, words, run_cli):
    address, expected = words
    exited, _, err = run_cli("status", address)
    assert exited == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.search(expected, line), line


def test_folder_of_other_objects__is_no_place_for_a_run(there, machine, run_cli):
    there.put("holiday.jpg", b"j")
    with pytest.raises(
        StoreError, match=r"must be new, empty or a run folder; .* holds holiday.jpg"
    ):
        RunStore.create(there.address)
    with pytest.raises(StoreError, match=r"s3://nobodys/run must be readable; it cannot be read"):
        RunStore.create("s3://nobodys/run")


def test_names_that_lead_out_of_the_folder__are_refused():
    for bad in ("../x", "a/../../x", "/etc/x"):
        with pytest.raises(StoreError, match="must have names that stay below"):
            note.is_kept(bad)
    kept = ("a", "wip/labels.zarr/c/0", "x.zarr.partial/c/0", ".x/y")
    left = (".lock", "push.json", "wip/shared/x.npz", "wip/push/1/a", "c/.0.1.partial", "a.tmp")
    assert [n for n in (*kept, *left, ".a.1.discarded/b") if note.is_kept(n)] == list(kept)


def test_workers_that_do_not_see_the_folder__are_told_of_the_setting(there, machine, tmp_path):
    write(there.address, BEFORE, seed=1)
    assert "set compute.working_folder" in _advice(here(there.address) / "wip" / "shared")
    assert "shared file system" in _advice(tmp_path / "run")


@pytest.fixture(scope="module")
def pictures_here(tmp_path_factory):
    """Images on disk, and some more."""
    place, images = tmp_path_factory.mktemp("images"), picture_set(1700)[0]
    np.save(place / "images.npy", images[:1500])
    np.save(place / "more.npy", images[1500:])
    return place


@pytest.fixture(scope="module")
def on_disk(pictures_here, tmp_path_factory):
    """A run on disk: what runs at an address are held against."""
    return small_run(pictures_here, tmp_path_factory.mktemp("disk") / "a")


def small_run(images, out, block_rows=2048):
    return make_run(images / "images.npy", out, None, **LEAN, block_rows=block_rows)


#: What holds times, or the place of the run.
TIMED = ("manifest.json", "summary.json", "report.html")


def assert_as_on_disk(there, run):
    """Hold what is at the address against a run on disk, file by file."""
    files = {p.relative_to(run).as_posix(): p for p in run.rglob("*") if p.is_file()}
    files.pop(".lock")
    assert there.names() == files.keys()
    assert [n for n, p in files.items() if n not in TIMED and p.read_bytes() != there.get(n)] == []


def test_run__is_the_one_on_disk_and_so_is_what_becomes_of_it(
    there, machine, pictures_here, on_disk, tmp_path
):
    small_run(pictures_here, there.address)
    assert_as_on_disk(there, on_disk.path)
    disk = tmp_path / "disk"
    shutil.copytree(on_disk.path, disk)
    for number, change in enumerate(
        [
            lambda run: recut(run, n_clusters=4),
            lambda run: name_cluster(run, 1, "blue"),
            undo,
            lambda run: update(run, pictures_here / "more.npy"),
            undo_update,
        ]
    ):
        machine(f"number {number % 2}")
        change(there.address)
        change(disk)
        assert_same_labels(labels_of(RunStore.open(there.address)), labels_of(RunStore.open(disk)))
        found = {n for n in there.names() if not n.startswith("segments/1/before")}
        paths = [p.relative_to(disk).as_posix() for p in disk.rglob("*") if p.is_file()]
        assert found == {p for p in paths if not p.startswith(("segments/1/before", ".lock"))}
    assert names(there.address) == names(disk)
    machine("last")
    assert status(there.address, verify=True)["damaged"] == []
    run = workflow.Run(there.address)
    assert run.n_clusters == run.summary["n_clusters"]
    run.predict(pictures_here / "more.npy")
    assert "predicted.zarr/label/zarr.json" in there.names()


def test_labels__are_opened_at_the_address_and_an_uploaded_run_is_one(
    there, machine, on_disk, monkeypatch
):
    there.server.upload(on_disk.path, there.key)
    assert status(there.address)["steps"] == status(on_disk.path)["steps"]
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    opened = S3Store(
        "bucket", prefix=f"{there.key}/labels.zarr", client_options={"allow_http": True}
    )
    with xr.open_zarr(ObjectStore(opened, read_only=True)) as labels:
        assert_same_labels(labels.load(), labels_of(on_disk))
    store = RunStore.open(there.address)
    # The lock that was copied is that of a file.
    with store.lock():
        pass
    assert_same_results(store, on_disk)
    assert status(there.address, verify=True)["damaged"] == []
    chunk = "labels.zarr/strength/c/0"
    altered = bytearray(there.get(chunk))
    altered[len(altered) // 2] ^= 1
    there.put(chunk, bytes(altered))
    (damage, *_) = status(there.address, verify=True)["damaged"]
    assert damage.startswith("labels.zarr/strength, rows 0 to ")


KILLED = """
import sys
from workflow.runstore.kept import folder
folder.PUSHED_S, folder.WORK_TO_PUSH = 0.0, 0.0
from workflow.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_run_killed_in_the_middle_of_a_step__goes_on_on_another_machine(
    there, machine, pictures_here, tmp_path, monkeypatch
):
    settings = {**SETTINGS, **LEAN, "block_rows": 128}
    words = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "killed")}
    command = [sys.executable, "-c", KILLED, "run", pictures_here / "images.npy"]
    command += ["--out", there.address, *words]
    journal = "pca/moments.jsonl"
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        n_done = 0
        while n_done < 3 and process.poll() is None:
            with contextlib.suppress(there.server.client.exceptions.NoSuchKey):
                n_done = there.get(journal).count(b"\n") - 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert n_done >= 3
    shutil.rmtree(tmp_path / "killed")
    done, extend = Counter(), Journal.extend

    def counted(journal, records):
        done[journal.path.name] += len(records)
        extend(journal, records)

    monkeypatch.setattr(Journal, "extend", counted)
    store = small_run(pictures_here, there.address, 128)
    n_tasks = len(Journal.read(store.path / journal)[1])
    assert 0 < done["moments.jsonl"] <= n_tasks - 3
    on_disk = small_run(pictures_here, tmp_path / "disk", 128)
    assert_same_results(store, on_disk)
    assert_as_on_disk(there, on_disk.path)
