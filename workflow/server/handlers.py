"""What is served, and the handlers that serve it: to whom knows the token, and to no other site's script."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from workflow.errors import WorkflowError, one_line

log = logging.getLogger(__name__)

#: Takes the words of a question, and an event that is set once nobody waits for the answer any more.
Read = Callable[[Mapping[str, str], threading.Event], Any]
#: Names of this machine: a page of another site that has its name lead here comes with that name.
HOSTS = ("127.0.0.1", "localhost", "::1")
#: What a request that changes something must have: no other site can send it without being asked for leave.
HEADER = "X-Overcluster"
#: Questions that are worked on at a time.
N_READERS = 4
#: What the browser is told of everything.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


@dataclass(frozen=True)
class Site:
    """What is served.

    Attributes
    ----------
    page : callable
        Returns the page, HTML.
    state : callable
        Returns a short word that changes when numbers in the page come to mean
        something else.
    picture : callable
        Returns the PNG of an image.
    reads : mapping of str to callable
        Name -> what answers ``GET api/NAME``, JSON-able.
    edits : mapping of str to callable
        Name -> what answers ``POST api/NAME``: takes what was sent, a dict.
        Empty: nothing can be changed.
    token : str
        The first part of every path.
    """

    page: Callable[[], bytes]
    state: Callable[[], str]
    picture: Callable[[int], bytes]
    reads: Mapping[str, Read]
    edits: Mapping[str, Callable[[dict[str, Any]], Any]]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Workers:
    """Threads that questions are worked on in: a long one must not keep others waiting; changes come one by one."""

    def __init__(self) -> None:
        self.readers: Executor = ThreadPoolExecutor(N_READERS, "read")
        self.editor: Executor = ThreadPoolExecutor(1, "edit")

    def close(self) -> None:
        """Leave what is being read; finish what is being changed."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        self.editor.shutdown(wait=True, cancel_futures=True)


def application(site: Site, workers: Workers) -> Application:
    """Return the application that serves a site, and tells of nothing else whether it is there."""
    given = {"site": site, "workers": workers}
    under = r"/(?P<token>[^/]+)/(?:(?P<state>[0-9a-f]+)/)?"
    return Application(
        [
            (under, PageHandler, given),
            (under + r"api/image/(?P<index>\d{1,18})\.png", PictureHandler, given),
            (under + r"api/(?P<name>row)/(?P<index>\d{1,18})", ApiHandler, given),
            (under + r"api/(?P<name>[a-z]+)", ApiHandler, given),
            (r"/(?P<code>[^/]+)", OnceHandler, given),
        ],
        default_handler_class=Handler,
        default_handler_args=given,
        codes=set(),
    )


def one_time_path(app: Application) -> str:
    """Return a path that leads to the page once: what a browser is started with, everybody here can see."""
    code = secrets.token_urlsafe(16)
    app.settings["codes"].add(code)
    return f"/{code}"


class RefusedError(HTTPError):
    """An answer other than the one that was asked for, with the reason in one line."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(status)
        self.said = said


class Handler(RequestHandler):
    """Refuses what does not come from this machine or does not know the token."""

    def initialize(self, site: Site, workers: Workers) -> None:
        """Note what is served."""
        self.site, self.workers, self.gone = site, workers, threading.Event()

    def set_default_headers(self) -> None:
        """Tell the browser to keep this to itself."""
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Check the name that the browser knows this machine by, then the token."""
        if urlsplit(f"//{self.request.host}").hostname not in HOSTS:
            raise RefusedError(403, "only 127.0.0.1 and localhost are served")
        self.require_token()

    def require_token(self) -> None:
        """Answer as if nothing were there, unless the path begins with the token."""
        if not self.is_token(self.path_kwargs.get("token") or ""):
            raise RefusedError(404, "nothing is here")

    def is_token(self, given: str) -> bool:
        """Whether a word is the token."""
        return hmac.compare_digest(given.encode(), self.site.token.encode())

    def require_state(self) -> None:
        """Refuse a question of a page whose numbers mean something else by now."""
        state = self.path_kwargs.get("state")
        if state and state != self.site.state():
            raise RefusedError(
                409, "the clusters have changed since this page was loaded; reload it"
            )

    async def call(self, pool: Executor, function: Callable[..., Any], *given: Any) -> Any:
        """Return what a function gives back, called in a thread; refuse what it refuses."""
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *given)
        except WorkflowError as err:
            raise RefusedError(400, one_line(err)) from None

    def on_connection_close(self) -> None:
        """Tell who works on the answer that nobody waits for it."""
        self.gone.set()

    def write_error(self, status_code: int, **how: Any) -> None:
        """Answer with the error in one line."""
        error = how.get("exc_info", (None, None))[1]
        said = error.said if isinstance(error, RefusedError) else self._reason
        if status_code >= 500:
            said = f"something went wrong ({one_line(error)[:200]}); the terminal tells more"
        self.set_status(status_code, "Error")
        self.send_json({"error": said})

    def send_json(self, content: Any) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(content))

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log what is no refusal of ours."""
        if not isinstance(error, HTTPError | StreamClosedError):
            log.error(
                "%s failed", self.request.path.rpartition("/")[2], exc_info=(kind, error, trace)
            )


class OnceHandler(Handler):
    """Leads to the page once."""

    def require_token(self) -> None:
        """Use up the code; the token leads there, too, where its slash was left out."""
        code, codes = self.path_kwargs["code"], self.application.settings["codes"]
        if code not in codes and not self.is_token(code):
            raise RefusedError(404, "nothing is here")
        codes.discard(code)

    def get(self, code: str) -> None:
        """Lead to the page."""
        del code
        self.redirect(f"/{self.site.token}/")


class PageHandler(Handler):
    """The page, under the state that it shows: what it asks later tells of that state."""

    async def get(self, token: str, state: str | None = None) -> None:
        """Serve the page."""
        now = self.site.state()
        if state != now:
            self.redirect(f"/{token}/{now}/")
            return
        page = await self.call(self.workers.readers, self.site.page)
        # The page has a policy of its own.
        self.clear_header("Content-Security-Policy")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        mode = "edit" if self.site.edits else "read"
        self.finish(with_meta(page, f'<meta name="overcluster-server" content="{mode}">'))


class PictureHandler(Handler):
    """Images."""

    async def get(self, token: str, index: str, state: str | None = None) -> None:
        """Serve an image, which stays what it is."""
        del token, state
        png = await self.call(self.workers.readers, self.site.picture, int(index))
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "private, max-age=86400, immutable")
        self.finish(png)


class ApiHandler(Handler):
    """Questions and changes."""

    async def get(
        self, token: str, name: str, state: str | None = None, index: str | None = None
    ) -> None:
        """Answer a question."""
        del token, state
        if name not in self.site.reads or (name == "row") != (index is not None):
            raise RefusedError(404, f"there is no api/{name}")
        self.require_state()
        query = {key: self.get_query_argument(key) for key in self.request.query_arguments}
        query |= {} if index is None else {"index": index}
        self.send_json(
            await self.call(self.workers.readers, self.site.reads[name], query, self.gone)
        )

    async def post(
        self, token: str, name: str, state: str | None = None, index: str | None = None
    ) -> None:
        """Change something."""
        del token, state
        if HEADER not in self.request.headers:
            raise RefusedError(
                403, f"a request that changes something must have the header {HEADER}"
            )
        if not self.site.edits:
            raise RefusedError(
                403,
                "this page is open for reading only; start it with `overcluster open RUN --edit`",
            )
        if name not in self.site.edits or index is not None:
            raise RefusedError(404, f"there is no api/{name} to change")
        try:
            sent = json.loads(self.request.body or b"{}")
        except ValueError:
            sent = None
        if not isinstance(sent, dict):
            raise RefusedError(400, "a change must be told as a JSON object")
        self.send_json(await self.call(self.workers.editor, self._change, name, sent))

    def _change(self, name: str, sent: dict[str, Any]) -> Any:
        """Do one change after the other, each if what the page shows is still so."""
        self.require_state()
        return self.site.edits[name](sent)


def with_meta(page: bytes, meta: str) -> bytes:
    """Return a page with an element more at the beginning of its head."""
    return re.sub(rb"(<head[^>]*>)", lambda found: found[1] + meta.encode(), page, count=1)
