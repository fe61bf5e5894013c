"""Accepting connections at a listening socket, on the service thread."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from portkit import _fork
from portkit._context import detached
from portkit._report import logger
from portkit.link import service
from portkit.runloop import DescriptorSource, Ready

_ACCEPTS = 64
"""How many connections are accepted before others have their turn."""
_PAUSE = 0.1
"""Seconds without accepting after that has failed."""


class Acceptor:
    """Hands on what connects, until it is closed.

    Args:
        listening: a listening socket, which is the acceptor's from now on.
        accepted: called on the service thread with each connection and its address.
    """

    def __init__(
        self, listening: socket.socket, accepted: Callable[[socket.socket, Any], object]
    ) -> None:
        self._socket = listening
        self._accepted = accepted
        self._is_failing = False
        try:
            listening.setblocking(False)
            self._source = detached(DescriptorSource, listening, self._accept)
            service.join(self).add_source(self._source)
        except BaseException:
            listening.close()
            raise
        _fork.close_in_child(self)

    def _accept(self, source: DescriptorSource, ready: Ready) -> None:
        for _ in range(_ACCEPTS):
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it has gone again
            except OSError as error:
                if not self._source.is_valid:
                    return  # closed meanwhile, on another thread
                # Out of descriptors: who waits stays in the backlog until some are free again.
                if not self._is_failing:
                    self._is_failing = True
                    logger.warning(
                        "connections cannot be accepted for now: %s; close what is not needed, or "
                        "raise 'ulimit -n'",
                        error,
                    )
                self._pause()
                return
            self._is_failing = False
            self._accepted(connection, address)

    def _pause(self) -> None:
        self._source.watch(read=False, write=False)
        loop = service.loop()
        if loop is not None:
            loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._source.is_valid:
            self._source.watch(read=True, write=False)

    def close(self, closed: Callable[[], object] = lambda: None) -> None:
        """Accept no more. Connections that were made go on. Any thread.

        Args:
            closed: called on the service thread once nothing is handed on any more.
        """
        self._source.invalidate()
        self._socket.close()
        # There: it may be handing on a connection just now, for which the thread has to stay.
        service.call(partial(self._leave, closed))

    def _leave(self, closed: Callable[[], object]) -> None:
        try:
            closed()
        finally:
            service.leave(self)

    def close_in_child(self) -> None:
        """Close the child's copy; the socket is the parent's."""
        self._socket.close()
