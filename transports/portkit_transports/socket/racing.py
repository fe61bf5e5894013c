"""Connecting to the first of several addresses that answers: happy eyeballs (RFC 8305)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from portkit import _fork
from portkit.runloop import DescriptorSource, RunLoop, Timer
from portkit_transports.socket.resolving import Place

NEXT_ATTEMPT = 0.25
"""Seconds after which the next address is tried, while the one before has not answered."""

Option: TypeAlias = tuple[int, int, int | bytes]
"""As ``socket.setsockopt`` takes it: level, name, value."""
Connected: TypeAlias = Callable[["socket.socket | OSError"], object]


def check_options(options: Iterable[Any]) -> tuple[Option, ...]:
    """Options of sockets, as somebody gave them.

    Raises:
        TypeError: one is none.
    """
    checked: list[Option] = []
    for option in options:
        match option:
            case (int(level), int(name), int() | bytes() as value):
                checked.append((level, name, value))
            case _:
                raise TypeError(
                    "one of the options is its level, name and value, such as "
                    f"(SOL_SOCKET, SO_KEEPALIVE, 1), and not {option!r}"
                )
    return tuple(checked)


class Race:
    """Attempts to connect, on a run loop's thread.

    Args:
        places: in the order to try them; at least one.
        options: set on each socket first.
        loop: the loop.
        connected: called once with the socket that was connected, or the error of the first.
    """

    def __init__(
        self,
        places: Sequence[Place],
        options: Sequence[Option],
        loop: RunLoop,
        connected: Connected,
    ) -> None:
        self._left = list(reversed(list(enumerate(places))))
        self._options = options
        self._loop = loop
        self._connected: Connected | None = connected
        self._running: dict[DescriptorSource, tuple[int, socket.socket]] = {}
        self._errors: dict[int, OSError] = {}
        self._timer: Timer | None = None
        _fork.close_in_child(self)

    def start(self) -> None:
        """Begin with the first."""
        self._try_next()

    def _try_next(self) -> None:
        self._stop_timer()
        while self._left and self._connected is not None:
            if self._attempt(*self._left.pop()):
                if self._left:
                    self._timer = self._loop.call_later(NEXT_ATTEMPT, self._try_next)
                return
        if not self._running and self._connected is not None:
            connected, self._connected = self._connected, None
            # The first address is the one that was meant first, whichever failed first.
            first = min(self._errors, default=-1)
            connected(self._errors.get(first, OSError(errno.EHOSTUNREACH, "no address")))

    def _attempt(self, index: int, place: Place) -> bool:
        """Whether it goes on; False where it has failed at once."""
        try:
            attempt = socket.socket(place.family, socket.SOCK_STREAM)
        except OSError as error:
            self._note(index, error)
            return False
        try:
            attempt.setblocking(False)
            for level, name, value in self._options:
                attempt.setsockopt(level, name, value)
            attempt.connect(place.address)
        except BlockingIOError:
            pass
        except OSError as error:
            attempt.close()
            self._note(index, error)
            return False
        source = DescriptorSource(attempt, lambda source, _: self._answered(source), read=False)
        source.watch(read=False, write=True)
        self._running[source] = index, attempt
        self._loop.add_source(source)
        return True

    def _answered(self, source: DescriptorSource) -> None:
        index, attempt = self._running.pop(source)
        source.invalidate()
        status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            attempt.close()
            self._note(index, OSError(status, os.strerror(status)))
            self._try_next()
            return
        connected = self._connected
        self.cancel()
        if connected is not None:
            connected(attempt)

    def _note(self, index: int, error: OSError) -> None:
        # A new one: that which was raised holds on to where it went.
        self._errors[index] = OSError(error.errno, error.strerror or str(error))

    def cancel(self) -> None:
        """Give all attempts up."""
        self._connected = None
        self._stop_timer()
        while self._running:
            source, (_, attempt) = self._running.popitem()
            source.invalidate()
            attempt.close()

    def close_in_child(self) -> None:
        """Close the child's copies; the connections are the parent's."""
        for _, attempt in self._running.values():
            attempt.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.invalidate()
            self._timer = None
