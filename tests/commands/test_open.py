"""open: a run served by a process of its own; the answers are those of the commands and of the labels."""

import http.client
import io
import json
import signal
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import photo_name
from tests.conftest import spawn_cli
from tests.runs.helpers import copy_of, labels_of
from workflow.commands.members import members
from workflow.commands.recut import recut
from workflow.commands.similar import similar


class Server:
    """A process that serves a run, and what it answers."""

    def __init__(self, run, *words):
        self.process = spawn_cli("open", run, "--no-browser", "--json", *words)
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.opened = json.loads(line)
        self.path = urlsplit(self.opened["url"]).path

    def get(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.opened["port"], timeout=30)
        connection.request(method, self.path + path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer, json.loads(content) if is_json else content

    def close(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def copied(photo_run, tmp_path_factory):
    return copy_of(photo_run, tmp_path_factory.mktemp("served") / "run")


@pytest.fixture(scope="module")
def server(copied):
    started = Server(copied.path)
    yield started
    started.close()


def test_page__is_that_of_the_run(server, copied):
    answer, _ = server.get("")
    assert answer.status == 302
    answer, page = server.get(answer.headers["Location"].removeprefix(server.path))
    meta = b'<meta name="overcluster-server" content="read">'
    assert answer.status == 200
    assert page.replace(meta, b"", 1) == (copied.path / "report.html").read_bytes()
    assert meta in page[:2000]


@pytest.mark.parametrize("order", ["strongest", "weakest"])
def test_members__are_those_of_the_command_page_by_page(server, copied, order):
    whole = members(copied.path, 1, limit=1000, order=order)
    rows = []
    for offset in range(0, whole["total"] + 60, 60):
        _, found = server.get(f"api/members?cluster=1&order={order}&offset={offset}")
        assert found["total"] == whole["total"]
        rows += found["rows"]
    assert rows == whole["rows"]
    _, some = server.get(f"api/members?cluster=noise&order={order}&limit=3")
    assert some["rows"] == members(copied.path, "noise", limit=3, order=order)["rows"]


def test_image__is_the_picture_enlarged(server, photos):
    for row in (0, 3, 1499):
        answer, png = server.get(f"api/image/{row}.png")
        assert answer.headers["Content-Type"] == "image/png"
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        assert image.shape == (48, 48, 3)
        np.testing.assert_array_equal(image, photos[1][row].repeat(8, 0).repeat(8, 1))


def test_row_similar_and_find__tell_of_images(server, copied):
    labels = labels_of(copied)
    _, row = server.get("api/row/3")
    assert (row["path"], row["cluster"]) == (photo_name(3), labels["label"].values[3])
    _, near = server.get("api/similar?index=3")
    assert (near["of"], near["neighbors"]) == (3, similar(copied.path, 3)["neighbors"])
    for text, expected in (
        ("%3Cb%3E", [4]),
        ("%22quoted%22", [3]),
        ("%C3%A9", [5]),
        ("0/", range(20)),
        ("nowhere", []),
        ("", []),
    ):
        _, found = server.get(f"api/find?path={text}")
        assert [row["sample"] for row in found["rows"]] == list(expected)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("api/members?cluster=99", "a cluster must be"),
        ("api/members", "by cluster, family or region"),
        ("api/members?cluster=1&family=1", "by cluster, family or region"),
        ("api/members?cluster=1&order=best", "strongest or weakest"),
        ("api/members?cluster=1&limit=5000", "`limit` must be"),
        ("api/members?cluster=1&offset=-1", "`offset` must be"),
        ("api/row/1500", "must be 0 to 1499"),
        ("api/image/1500.png", "must be 0 to 1499"),
        ("api/similar?index=one", "`index` must be"),
    ],
)
def test_a_wrong_question__gets_one_line(server, path, said):
    answer, found = server.get(path)
    assert 400 <= answer.status < 500
    assert said in found["error"]
    assert "\n" not in found["error"]


def test_nothing_else__is_served(server):
    for path in (
        "manifest.json",
        "report.html",
        "labels.zarr/zarr.json",
        "../report.html",
        "api/image/../../manifest.json",
        "%2e%2e/manifest.json",
    ):
        answer, found = server.get(path)
        assert (answer.status, found) == (404, {"error": "nothing is here"}), path
    answer, found = server.get("api/name", "POST", b"{}", **{"X-Overcluster": "1"})
    assert (answer.status, "--edit" in found["error"]) == (403, True)


def test_another_cut__leads_to_the_page_of_it(server, copied):
    """Last of those that share the run: its clusters become others."""
    before = server.get("")[0].headers["Location"].removeprefix(server.path)
    assert server.get(f"{before}api/members?cluster=0")[0].status == 200
    recut(copied.path, n_clusters=3)
    answer, found = server.get(f"{before}api/members?cluster=0")
    assert (answer.status, "reload" in found["error"]) == (409, True)
    after = server.get(before)[0].headers["Location"].removeprefix(server.path)
    _, found = server.get(f"{after}api/members?cluster=0&limit=1000")
    assert found["rows"] == members(copied.path, 0, limit=1000)["rows"]


def test_images_that_are_gone__are_shown_as_far_as_they_were_kept(photo_run, tmp_path, photos):
    store = copy_of(photo_run, tmp_path / "run")
    (store.path / "images.zarr").rename(tmp_path / "elsewhere.zarr")
    store.manifest.images["path"] = str(tmp_path / "gone")
    store.save()
    started = Server(store.path)
    try:
        kept = {row: started.get(f"api/image/{row}.png") for row in range(0, 1500, 50)}
    finally:
        status, _, err = started.close()
    assert (status, err) == (0, "")
    shown = [row for row, (answer, _) in kept.items() if answer.status == 200]
    assert shown
    for row, (answer, found) in kept.items():
        assert answer.status == 200 or "gone" in found["error"], row


def test_edits__are_made_by_the_commands_and_shown_by_two_browsers(photo_run, tmp_path):
    """A browser with the page of before can neither read nor merge by numbers that mean others now."""
    store = copy_of(photo_run, tmp_path / "run")
    before, started = labels_of(store)["label"].values, Server(store.path, "--edit")

    def state():
        return started.get("")[0].headers["Location"].removeprefix(started.path)

    def change(page, what, **sent):
        answer, found = started.get(
            f"{page}api/{what}", "POST", json.dumps(sent), **{"X-Overcluster": "1"}
        )
        return answer.status, found

    try:
        page = state()
        assert b'content="edit"' in started.get(page)[1]
        status, found = change(page, "name", cluster=0, name='<b>"sky"')
        assert (status, state()) == (200, page), found
        _, named = started.get(f"{page}api/members?cluster=%3Cb%3E%22sky%22&limit=1000")
        assert named["total"] == np.count_nonzero(before == 0)
        status, found = change(page, "merge", clusters=[1, 2])
        assert (status, bool(found["changed"])) == (200, True)
        _, whole = started.get(f"{state()}api/members?cluster={found['cluster']}&limit=1000")
        merged = np.flatnonzero(np.isin(before, [1, 2]))
        assert sorted(row["sample"] for row in whole["rows"]) == merged.tolist()
        status, found = change(page, "merge", clusters=[1, 2])
        assert (status, "reload" in found["error"]) == (409, True)
        with store.lock():
            status, found = change(state(), "undo")
        assert (status, "one command at a time" in found["error"]) == (400, True)
        assert change(state(), "split", cluster="nowhere")[0] == 400
        assert change(state(), "merge", clusters=3)[0] == 400
        assert change(state(), "undo")[0] == 200
        np.testing.assert_array_equal(labels_of(store)["label"].values, before)
    finally:
        started.close()


def test_ctrl_c__ends_it_with_success(photo_run):
    started = Server(photo_run.path)
    begun = time.monotonic()
    assert started.close() == (0, "", "")
    assert time.monotonic() - begun < 10


def test_what_cannot_be_opened__is_told_in_one_line(run_cli, photo_run, tmp_path, server):
    store = copy_of(photo_run, tmp_path / "run")
    page = (store.path / "report.html").rename(tmp_path / "page.html")
    status, out, err = run_cli("open", store.path, "--no-browser")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"`overcluster report {store.path}` writes it" in err
    page.rename(store.path / "report.html")
    status, out, err = run_cli("open", store.path, "--no-browser", "--port", server.opened["port"])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "`--port` must be one that is free" in err
    store.step("labels").state = "partial"
    store.save()
    status, out, err = run_cli("open", store.path, "--no-browser")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "must have labels" in err


def test_address__is_printed_with_the_way_to_it(photo_run, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 node7.example 22")
    process = spawn_cli("open", photo_run.path)
    lines = [process.stdout.readline() for _ in range(3)]
    port = urlsplit(lines[0]).port
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert lines[2].startswith(f"ssh -N -L {port}:127.0.0.1:{port} ")
    assert lines[2].endswith("@node7.example\n")
    process.communicate()
