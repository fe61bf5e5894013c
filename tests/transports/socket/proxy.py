"""A wire between two sides of a TCP connection that can be cut, stalled, slow and deaf."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tests.support import PATIENCE

_CHUNK = 1 << 14
_TICK = 0.01
_NOTHING = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose closing resets its connection."""


class _Way:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.held: deque[bytes] = deque()
        self.allowed = 0.0
        self.has_ended = False
        self.is_closed = False


class Proxy:
    """Connects on to ``target`` whatever connects to it, until the end of the ``with``.

    Args:
        target: host and port number.

    Attributes:
        host, port: where it listens; the number stays, through ``refuse`` and ``listen`` too.
        accepted: how many connections were made so far.
        passed: bytes that went from those who connected to the target, so far.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._calls: SimpleQueue[tuple[Callable[[], None], Event] | None] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._bell, self._rung = socket.socketpair()
        self._ways: list[_Way] = []
        self._orphans: list[tuple[socket.socket, bytes]] = []
        self._stalled = False
        self._forgets = False
        self._rate = 0.0
        self._fuse = -1
        self._ticked = time.monotonic()
        self._listening: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listening.getsockname()[:2]
        self.accepted = 0
        self.passed = 0
        self._thread = Thread(target=self._run, name="proxy", daemon=True)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._ways) // 2

    # What tests do to it. Each has been done when the call returns.

    def cut(self) -> None:
        """Reset all connections, both sides."""
        self._do(self._cut)

    def cut_after(self, count: int) -> None:
        """Reset all, once the target has got that many bytes more."""
        self._do(lambda: setattr(self, "_fuse", count))

    def orphan(self) -> None:
        """Reset all towards those who connected; what they had sent is kept for :meth:`deliver`."""
        self._do(self._orphan)

    def deliver(self) -> None:
        """Pass on what is kept of connections whose other side has gone, and end them."""
        self._do(self._deliver)

    def stall(self, stalled: bool = True) -> None:
        """Pass nothing on for now."""
        self._do(lambda: setattr(self, "_stalled", stalled))

    def forget(self, forgets: bool = True) -> None:
        """Pass nothing on, ever: what comes now is lost."""
        self._do(lambda: setattr(self, "_forgets", forgets))

    def slow(self, rate: float) -> None:
        """Pass on so many bytes a second each way; 0 for all there are."""
        self._do(lambda: setattr(self, "_rate", rate))

    def refuse(self) -> None:
        """Listen no more, and reset all."""
        self._do(self._refuse)

    def listen(self, target: tuple[str, int] | None = None) -> None:
        """Listen again, perhaps on behalf of another."""
        self._do(lambda: self._listen(target or self._target))

    # On its thread.

    def _do(self, fn: Callable[[], None]) -> None:
        done = Event()
        self._calls.put((fn, done))
        self._bell.send(b"x")
        assert done.wait(PATIENCE), "the proxy hangs"

    def _refuse(self) -> None:
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            self._listening = None
        self._cut()

    def _listen(self, target: tuple[str, int]) -> None:
        self._target = target
        if self._listening is None:
            self._listening = socket.create_server((self.host, self.port))
            self._selector.register(self._listening, selectors.EVENT_READ)

    def _cut(self) -> None:
        self._fuse = -1
        ways, self._ways = self._ways, []
        for way in ways:
            way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING)
            self._forget_socket(way.source)
            way.source.close()

    def _orphan(self) -> None:
        for way in self._ways[::2]:
            try:
                while data := way.source.recv(_CHUNK):
                    way.held.append(data)
            except BlockingIOError:
                pass
            self._orphans.append((way.sink, b"".join(way.held)))
            self._forget_socket(way.sink)
            self._forget_socket(way.source)
            way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING)
            way.source.close()
        self._ways.clear()

    def _deliver(self) -> None:
        while self._orphans:
            far, data = self._orphans.pop()
            with far:
                far.settimeout(PATIENCE)
                far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                while far.recv(_CHUNK):
                    pass

    def _run(self) -> None:
        self._selector.register(self._rung, selectors.EVENT_READ)
        assert self._listening is not None, "it begins listening"
        self._selector.register(self._listening, selectors.EVENT_READ)
        while True:
            busy = self._rate > 0 and any(way.held for way in self._ways)
            for key, _ in self._selector.select(_TICK if busy else None):
                if key.fileobj is self._rung:
                    self._rung.recv(64)
                elif key.fileobj is self._listening:
                    self._accept()
            while not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    return
                call[0]()
                call[1].set()
            self._move()

    def _accept(self) -> None:
        assert self._listening is not None, "it is ready"
        near, _ = self._listening.accept()
        try:
            far = socket.create_connection(self._target, PATIENCE)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING)
            near.close()
            return
        self.accepted += 1
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways += [_Way(near, far), _Way(far, near)]

    def _move(self) -> None:
        now = time.monotonic()
        elapsed, self._ticked = now - self._ticked, now
        for way in list(self._ways):
            if way in self._ways:
                self._move_one(way, elapsed)
        for way in list(self._ways):
            other = next(one for one in self._ways if one.source is way.sink)
            if way.is_closed and other.is_closed:
                self._ways.remove(way)
                self._ways.remove(other)
                for end in (way.source, way.sink):
                    self._forget_socket(end)
                    end.close()
                break
        for way in self._ways:
            self._watch(way)

    def _move_one(self, way: _Way, elapsed: float) -> None:
        if self._stalled:
            return
        try:
            if not way.has_ended and len(way.held) < 4:
                data = way.source.recv(_CHUNK)
                if not data:
                    way.has_ended = True
                elif not self._forgets:
                    way.held.append(data)
        except BlockingIOError:
            pass
        except OSError:
            self._end(way)
            return
        self._pass_on(way, elapsed)

    def _pass_on(self, way: _Way, elapsed: float) -> None:
        most = _CHUNK
        if self._rate:
            way.allowed = min(way.allowed + self._rate * min(elapsed, _TICK), _CHUNK)
            most = int(way.allowed)
        try:
            while way in self._ways and way.held and most > 0:
                most -= self._send(way, most)
        except BlockingIOError:
            return
        except OSError:
            self._end(way)
            return
        if way in self._ways and way.has_ended and not way.held and not way.is_closed:
            way.is_closed = True
            try:
                way.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def _send(self, way: _Way, most: int) -> int:
        forth = self._ways.index(way) % 2 == 0
        if forth and self._fuse >= 0:
            most = min(most, self._fuse)
        data = way.held[0]
        sent = way.sink.send(data[:most])
        way.held[0] = data[sent:]
        if not way.held[0]:
            way.held.popleft()
        way.allowed -= sent if self._rate else 0
        if forth:
            self.passed += sent
            if self._fuse >= 0:
                self._fuse -= sent
                if not self._fuse:
                    self._cut()
        return sent

    def _end(self, way: _Way) -> None:
        """One side has reset it: so is the other."""
        for one in [one for one in self._ways if one.source in (way.source, way.sink)]:
            self._ways.remove(one)
            one.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING)
            self._forget_socket(one.source)
            one.source.close()

    def _watch(self, way: _Way) -> None:
        other = next(one for one in self._ways if one.source is way.sink)
        wanted = 0
        if not self._stalled:
            if not way.has_ended and len(way.held) < 4:
                wanted |= selectors.EVENT_READ
            if other.held and not self._rate:
                wanted |= selectors.EVENT_WRITE
        known = self._selector.get_map().get(way.source)
        if known is None and wanted:
            self._selector.register(way.source, wanted)
        elif known is not None and not wanted:
            self._selector.unregister(way.source)
        elif known is not None and known.events != wanted:
            self._selector.modify(way.source, wanted)

    def _forget_socket(self, end: socket.socket) -> None:
        if self._selector.get_map().get(end) is not None:
            self._selector.unregister(end)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._calls.put(None)
        self._bell.send(b"x")
        self._thread.join(PATIENCE)
        self._refuse()
        self._selector.close()
        self._bell.close()
        self._rung.close()
