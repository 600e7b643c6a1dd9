"""A site over real HTTP: who may ask, what is answered, and that nothing waits for what takes long."""

import contextlib
import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest

from workflow.errors import ConfigError, StoreError
from workflow.server import Site, serve

PAGE = b"<!doctype html><html lang=en><head><title>t</title></head><body><p>&lt;head></body></html>"


class Toy:
    """What a toy site knows: a number, and a door that a question waits at."""

    def __init__(self):
        self.state, self.done = "aa", []
        self.inside, self.door, self.left = (threading.Event() for _ in range(3))

    def wait(self, query, gone):
        self.inside.set()
        while not self.door.wait(0.01):
            if gone.is_set():
                self.left.set()
                return {}
        return {"waited": dict(query)}

    def fail(self, query, gone):
        msg = "a <secret>"
        raise RuntimeError(msg)

    def refuse(self, query, gone):
        msg = "a run must be\n  whole; it is not. Mend it."
        raise StoreError(msg)

    def note(self, sent):
        before = list(self.done)
        self.done.append(sent)
        # Two changes at a time would lose one.
        assert self.done == [*before, sent]
        self.state = f"{len(self.done):02x}"
        return {"changed": f"{len(before)} to {len(self.done)}"}


@contextlib.contextmanager
def served(toy, *, edits):
    """Serve a toy site in a thread of its own."""
    site = Site(
        page=lambda: PAGE,
        state=lambda: toy.state,
        picture=lambda index: b"png %d" % index,
        reads={
            "echo": lambda query, gone: dict(query),
            "row": lambda query, gone: {"row": query["index"]},
            "wait": toy.wait,
            "fail": toy.fail,
            "refuse": toy.refuse,
        },
        edits={"note": toy.note} if edits else {},
    )
    ready, where = threading.Event(), []
    thread = threading.Thread(
        target=serve, args=(site, 0, lambda opened: (where.append(opened), ready.set()))
    )
    thread.start()
    assert ready.wait(10)
    try:
        yield where[0]
    finally:
        toy.door.set()
        where[0].stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def opened(toy):
    with served(toy, edits=True) as where:
        yield where


def ask(opened, path="", method="GET", body=None, **headers):
    """Send one request below the token, or to an absolute path; return status, headers and content."""
    base = urlsplit(opened.url)
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=10)
    target = path if path.startswith("/") else base.path + path
    connection.putrequest(method, target, skip_host="Host" in headers)
    content = b"" if body is None else json.dumps(body).encode()
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(content)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, answer.headers, json.loads(read) if is_json else read


def test_page__says_that_it_is_served_and_is_shown_under_its_state(opened, toy):
    status, headers, _ = ask(opened)
    assert (status, headers["Location"]) == (302, urlsplit(opened.url).path + "aa/")
    status, headers, page = ask(opened, "aa/")
    meta = b'<meta name="overcluster-server" content="edit">'
    assert (status, page) == (200, PAGE.replace(b"<head>", b"<head>" + meta, 1))
    assert (headers["Referrer-Policy"], headers["Cache-Control"]) == ("no-referrer", "no-store")
    assert "Content-Security-Policy" not in headers
    assert "Access-Control-Allow-Origin" not in headers
    with served(Toy(), edits=False) as other:
        assert b'content="read"' in ask(other, "aa/")[2]


def test_who_does_not_know_the_token__finds_nothing(opened):
    token = urlsplit(opened.url).path.strip("/")
    assert len(token) >= 32
    for path in (
        "/",
        "/favicon.ico",
        "/x" + token + "/",
        f"/{token[:-1]}/",
        f"/{token[:-1]}/api/echo",
        "/api/echo",
        "/static/site.py",
        f"/%2e%2e/{token}/",
    ):
        status, _, said = ask(opened, path)
        assert (path, status, said) == (path, 404, {"error": "nothing is here"})
    for path in (
        "page.html",
        "../manifest.json",
        "api/../../x",
        "api/image/..%2f1.png",
        "api/image/-1.png",
        "api/nothing",
        "api/row/x",
    ):
        assert ask(opened, path)[0] in (302, 404), path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"]
)
def test_a_page_of_another_site__is_refused_by_its_name(opened, host):
    for method in ("GET", "POST"):
        status, _, said = ask(opened, "api/echo", method, Host=host, X_Overcluster="1")
        assert status in (400, 403)
        assert status == 400 or "only 127.0.0.1" in said["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:9999", "LOCALHOST", "[::1]:80"])
def test_a_tunnel__may_use_another_port(opened, host):
    assert ask(opened, "api/echo?a=1", Host=host)[2] == {"a": "1"}


def test_questions__are_answered_in_json_and_errors_in_one_line(opened):
    assert ask(opened, "api/echo?path=a%26b%20%C3%A9&n=3")[2] == {"path": "a&b é", "n": "3"}
    assert ask(opened, "api/row/12")[2] == {"row": "12"}
    status, headers, png = ask(opened, "api/image/7.png")
    assert (status, headers["Content-Type"], png) == (200, "image/png", b"png 7")
    assert "immutable" in headers["Cache-Control"]
    status, _, said = ask(opened, "api/refuse")
    assert (status, said) == (400, {"error": "a run must be whole; it is not. Mend it."})
    status, _, said = ask(opened, "api/fail")
    assert status == 500
    assert said["error"].startswith("something went wrong (a <secret>)")
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        status, headers, _ = ask(opened, "api/echo", method)
        assert (status, "Access-Control-Allow-Headers" in headers) == (405, False)


def test_changes__want_the_header_and_the_leave_to_edit(opened, toy):
    status, _, said = ask(opened, "api/note", "POST", {"cluster": 3})
    assert (status, "X-Overcluster" in said["error"]) == (403, True)
    assert ask(opened, "api/echo", "POST", {}, X_Overcluster="1")[0] == 404
    assert ask(opened, "api/note", "POST", [3], X_Overcluster="1")[0] == 400
    assert ask(opened, "api/note")[0] == 404
    assert toy.done == []
    assert ask(opened, "api/note", "POST", {"cluster": 3}, X_Overcluster="1")[2] == {
        "changed": "0 to 1"
    }
    assert toy.done == [{"cluster": 3}]
    with served(other := Toy(), edits=False) as reading:
        status, _, said = ask(reading, "api/note", "POST", {}, X_Overcluster="1")
        assert (status, "--edit" in said["error"], other.done) == (403, True, [])


def test_a_page_of_before__cannot_ask_or_change_by_numbers_that_mean_others_now(opened, toy):
    assert ask(opened, "aa/api/note", "POST", {"n": 1}, X_Overcluster="1")[0] == 200
    for method in ("GET", "POST"):
        name = "echo" if method == "GET" else "note"
        status, _, said = ask(opened, f"aa/api/{name}", method, {}, X_Overcluster="1")
        assert (status, "reload" in said["error"]) == (409, True)
    assert len(toy.done) == 1
    # Images keep their numbers, and the page itself leads on.
    assert ask(opened, "aa/api/image/1.png")[0] == 200
    assert ask(opened, "aa/")[1]["Location"].endswith("/01/")
    assert ask(opened, "01/api/echo?a=1")[2] == {"a": "1"}


def test_changes_of_two_browsers__come_one_after_the_other(opened, toy):
    answers = []

    def change(n):
        answers.append(ask(opened, "api/note", "POST", {"n": n}, X_Overcluster="1")[2]["changed"])

    threads = [threading.Thread(target=change, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [f"{n} to {n + 1}" for n in range(8)]
    assert sorted(sent["n"] for sent in toy.done) == list(range(8))


def test_a_long_question__keeps_nobody_waiting_and_hears_that_nobody_waits(opened, toy):
    answer = []
    thread = threading.Thread(target=lambda: answer.append(ask(opened, "api/wait?a=1")[2]))
    thread.start()
    assert toy.inside.wait(10)
    assert ask(opened, "api/echo?b=2")[2] == {"b": "2"}
    toy.door.set()
    thread.join(10)
    assert answer == [{"waited": {"a": "1"}}]
    toy.door.clear()
    toy.inside.clear()
    connection = http.client.HTTPConnection("127.0.0.1", opened.port)
    connection.request("GET", urlsplit(opened.url).path + "api/wait")
    assert toy.inside.wait(10)
    connection.close()
    assert toy.left.wait(10)


def test_the_address_that_a_browser_is_started_with__leads_on_once(opened):
    path = urlsplit(opened.url_once).path
    assert urlsplit(opened.url).path.strip("/") not in opened.url_once
    status, headers, _ = ask(opened, path)
    assert (status, headers["Location"]) == (302, urlsplit(opened.url).path)
    assert ask(opened, path)[0] == 404
    # The slash at the end is easily lost.
    assert ask(opened, urlsplit(opened.url).path.rstrip("/"))[0] == 302


def test_a_port_that_is_taken__is_told(opened, toy):
    site = Site(lambda: b"", lambda: "", lambda n: b"", {}, {})
    with pytest.raises(ConfigError, match=f"{opened.port} is not .*Give another"):
        serve(site, opened.port, lambda opened: None)
    with pytest.raises(ConfigError, match="70000 is not"):
        serve(site, 70000, lambda opened: None)
