"""A page and functions over HTTP, for one person on this machine.

What is served is handed over as a `Site`; nothing else is, and no file by its name.
"""

from __future__ import annotations

from workflow.server.handlers import Read, Site
from workflow.server.serving import serve

__all__ = ["Read", "Site", "serve"]
