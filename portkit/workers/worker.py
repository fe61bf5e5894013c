"""A worker as its group sees it."""

from __future__ import annotations

import secrets
from collections import deque

from portkit.errors import InvalidPortError
from portkit.message import Sender
from portkit.port import Port


class Worker:
    """One worker of a group. Made by the group; its attributes are for reading.

    Attributes:
        index: its number, from 0.
        name: its name in messages, and its thread's.
        error: why it ended, a ``WorkerDiedError``; None while it lives or if it just returned.
        pid: its process; None for a thread of this one, or where it is on another host.
        sender: who the connection proved it to be; None for a thread of this process.
        restarts: how often it was started again after it was lost.
        is_restarting: whether it was lost and is to check in again.
        token: what it proves with that it is this worker; another after each restart.
    """

    __slots__ = (
        "_control",
        "_ended",
        "_main_port",
        "_port",
        "_restart_times",
        "error",
        "index",
        "is_restarting",
        "name",
        "pid",
        "restarts",
        "sender",
        "token",
    )

    def __init__(self, index: int, name: str) -> None:
        self.index: int = index
        self.name: str = name
        self.token: str = secrets.token_hex(16)
        self.error: Exception | None = None
        self.pid: int | None = None
        self.sender: Sender | None = None
        self.restarts: int = 0
        self.is_restarting: bool = False
        self._restart_times: deque[float] = deque()
        self._port: Port | None = None
        self._control: Port | None = None
        self._main_port: Port | None = None
        self._ended = False

    def _renew(self) -> None:
        """It is about to be started again, and has not checked in."""
        self.token = secrets.token_hex(16)
        self.pid = None
        self.sender = None
        self.restarts += 1
        self._port = self._control = self._main_port = None
        self._ended = False

    @property
    def port(self) -> Port:
        """The worker's port: messages sent here reach its delegate.

        Raises:
            InvalidPortError: the worker has not checked in.
        """
        if self._port is None:
            raise InvalidPortError(f"{self.name} has not checked in; it has no port yet")
        return self._port

    @property
    def has_checked_in(self) -> bool:
        """Whether it checked in since it was last started."""
        return self._port is not None

    @property
    def is_alive(self) -> bool:
        """Whether it has checked in and not ended."""
        return self._port is not None and not self._ended

    def __repr__(self) -> str:
        if self.is_restarting:
            state = "restarting"
        elif self._ended:
            state = "died" if self.error else "ended"
        else:
            state = "alive" if self.has_checked_in else "starting"
        return f"<Worker {self.name!r} {state}>"
