"""Ports in asyncio and trio, through anyio: receive, send, ask and serve without blocking the loop.

It needs the extra ``aio``. All functions are to be awaited in a task of either; what they have in
common with the blocking ones, parameters, errors and time-outs, is the same.
"""

from __future__ import annotations

try:
    import anyio as _anyio  # noqa: F401 - only to say what is missing
except ImportError as _error:
    raise ImportError(
        'portkit.aio needs anyio: pip install "portkit[aio]"', name=_error.name
    ) from _error

from portkit.aio.hosting import hosting
from portkit.aio.receiving import Receiving, receiving
from portkit.aio.requesting import request
from portkit.aio.sending import send, send_many
from portkit.aio.serving import serve

__all__ = [
    "Receiving",
    "hosting",
    "receiving",
    "request",
    "send",
    "send_many",
    "serve",
]
