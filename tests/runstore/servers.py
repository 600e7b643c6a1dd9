"""Servers on 127.0.0.1: one that has faults in front of another, and one of files that lists nothing."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import itertools
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Of each answer, in turn; every fault is followed by answers as they should be.
FAULTS = ("503", None, "cut", None, None, "slow", "lost", None, "429", None)


class Answers(BaseHTTPRequestHandler):
    """Keeps connections open, and says nothing."""

    protocol_version = "HTTP/1.1"
    #: Else an answer waits some 40 ms for the other side to have seen its first packet.
    disable_nagle_algorithm = True

    def log_message(self, *words):
        """Say nothing."""

    def head(self, status, headers):
        """Send status and headers."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def hang_up(self):
        """Close the connection without a word more."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


@contextlib.contextmanager
def served(handler, **attributes):
    """Run a server in threads; yield it, with its address as ``url``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_port}"
    vars(server).update(attributes)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Faulty(Answers):
    """Hands requests on to another server, and spoils some of the answers."""

    def forward(self):
        """Answer as the other server does, but for the fault that comes next."""
        with self.server.lock:
            fault = next(self.server.faults)
        self.server.seen.append(fault)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        if fault == "lost":
            return self.hang_up()
        if fault in ("403", "429", "503"):
            return self.head(int(fault), {"Content-Length": 0})
        behind = http.client.HTTPConnection(urlsplit(self.server.behind).netloc)
        behind.request(self.command, self.path, content, dict(self.headers))
        answer = behind.getresponse()
        body = answer.read()
        behind.close()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in ("connection", "date")}
        hides = self.server.hides and (answer.status == 404 or "list-type" in self.path)
        self.head(403 if hides else answer.status, {"Content-Length": len(body), **headers})
        if fault == "cut" and body:
            self.wfile.write(body[: len(body) // 2])
            return self.hang_up()
        if fault == "slow":
            time.sleep(0.05)
        self.wfile.write(body)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815


def faulty(behind, faults=FAULTS, *, hides=False):
    """Run a server with faults in front of another one; it may lack the right to list, which hides what is not there."""
    faults, lock = itertools.cycle(faults), threading.Lock()
    return served(Faulty, behind=behind, faults=faults, lock=lock, seen=[], hides=hides)


class Static(Answers):
    """Serves the files of a folder by ranges, as plain servers on the web do."""

    def answer(self):
        """Send a file, or the range of it that is wanted."""
        path = self.server.folder / unquote(urlsplit(self.path).path.lstrip("/"))
        if not path.is_file():
            return self.head(404, {"Content-Length": 0})
        known = path.stat()
        start, stop, status = 0, known.st_size, 200
        headers = {
            "ETag": f'"{known.st_mtime_ns:x}-{known.st_size:x}"',
            "Last-Modified": email.utils.formatdate(known.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = wanted.groups()
            start = int(first) if first else max(0, stop - int(last))
            stop = min(stop, int(last) + 1) if first and last else stop
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{known.st_size}"
            status = 206
        self.head(status, {**headers, "Content-Length": stop - start})
        if self.command == "GET":
            with path.open("rb") as file:
                while start < stop:
                    start += os.sendfile(
                        self.connection.fileno(), file.fileno(), start, stop - start
                    )
        return None

    do_GET = do_HEAD = answer  # noqa: N815


def static(folder):
    """Run a server of the files of a folder."""
    return served(Static, folder=Path(folder))
