"""The call that is being served, and how deep calls of the two sides are nested."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from portkit.message import Sender
    from portkit.remote.connection import Connection


class Call(NamedTuple):
    """A call from the other side.

    Attributes:
        connection: by which it came.
        sender: who made it, as far as its link proved it; None within the process.
        depth: 1, or more where the two sides call each other back.
    """

    connection: Connection
    sender: Sender | None
    depth: int


class Serving:
    """Holds a call until it has been served.

    What is registered during the call has its context, and so this, for as long as it lasts; but
    not the call.
    """

    __slots__ = ("__weakref__", "call")

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call


_current: ContextVar[Serving | None] = ContextVar("portkit.remote call", default=None)
set_current: Callable[[Serving | None], Token[Serving | None]] = _current.set
reset_current: Callable[[Token[Serving | None]], None] = _current.reset


def current_call() -> Call | None:
    """The call that the present code serves, or None."""
    serving = _current.get()
    return None if serving is None else serving.call
