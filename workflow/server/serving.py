"""Serve a site on 127.0.0.1 until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tornado.httpserver import HTTPServer

from workflow.errors import ConfigError
from workflow.server.handlers import Site, Workers, application, one_time_path

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: The only address that is listened at.
ADDRESS = "127.0.0.1"
#: Bytes that a request may send.
MAX_SENT = 2**20


class Opened(NamedTuple):
    """Where a site is served.

    Attributes
    ----------
    url : str
        The page.
    url_once : str
        Leads there once.
    port : int
        The port.
    stop : callable
        Ends it, from any thread.
    """

    url: str
    url_once: str
    port: int
    stop: Callable[[], object]


def serve(site: Site, port: int, ready: Callable[[Opened], None]) -> None:
    """Serve a site until Ctrl-C, SIGTERM or a call of `Opened.stop`.

    Parameters
    ----------
    site : Site
        What is served.
    port : int
        Where; 0 takes one that is free.
    ready : callable
        Called once requests are taken.

    Raises
    ------
    ConfigError
        If the port cannot be had.
    """
    asyncio.run(_serve(site, port, ready))


async def _serve(site: Site, port: int, ready: Callable[[Opened], None]) -> None:
    """Serve a site in the loop of this thread."""
    listening = _listen(port)
    loop, ended, workers = asyncio.get_running_loop(), asyncio.Event(), Workers()
    app = application(site, workers)
    server = HTTPServer(app, max_buffer_size=MAX_SENT)
    server.add_socket(listening)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
    port = listening.getsockname()[1]
    origin = f"http://{ADDRESS}:{port}"
    ready(
        Opened(
            f"{origin}/{site.token}/",
            origin + one_time_path(app),
            port,
            partial(loop.call_soon_threadsafe, ended.set),
        )
    )
    try:
        await ended.wait()
    finally:
        server.stop()
        await loop.run_in_executor(None, workers.close)
        await server.close_all_connections()


def _listen(port: int) -> socket.socket:
    """Return a socket that listens at a port of this machine alone."""
    why = "there is no such port"
    if 0 <= port < 2**16:
        try:
            listening = socket.create_server((ADDRESS, port), backlog=128)
        except OSError as err:
            why = os.strerror(err.errno or 0)
        else:
            listening.settimeout(0)
            return listening
    msg = f"`--port` must be one that is free, 0 to 65535, and open to users; {port} is not ({why}). Give another, or leave it out."
    raise ConfigError(msg)
