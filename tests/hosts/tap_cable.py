"""A cable for kernels without netem: two TAP devices, and a thread that carries their frames."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from random import Random
from threading import Lock, Thread

from tests.hosts.cable import DEVICE
from tests.hosts.line import Impairment, Line
from tests.hosts.namespace import Namespace, UnavailableError
from tests.support import PATIENCE

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_FRAME = 1 << 16
_BATCH = 64
"""Frames read from one end before those due are delivered."""


class TapCable:
    """Two TAP devices, joined by a thread. What chance decides repeats with its ``seed``.

    Raises:
        UnavailableError: the machine has no TAP devices, or does not let us make one.
    """

    def __init__(self, left: Namespace, right: Namespace, seed: int = 0) -> None:
        random = Random(seed)
        self._lock = Lock()
        self._crossed = 0
        self._error: BaseException | None = None
        self._closing = False
        self._fds: list[int] = []
        try:
            for end in (left, right):
                self._fds.append(end.inside(_open))
        except OSError as error:
            self._close_all()
            raise UnavailableError(f"a TAP device cannot be made: {error}") from error
        self._fds += os.pipe()
        self._lines = (Line(random), Line(random))
        self._thread = Thread(target=self._body, name="cable", daemon=True)
        self._thread.start()

    @property
    def crossed(self) -> int:
        """Bytes that have crossed it, both ways together."""
        return self._crossed

    @property
    def lost(self) -> int:
        """Frames that it lost, both ways together."""
        return sum(line.lost for line in self._lines)

    def impair(self, impairment: Impairment) -> None:
        """Do this to frames that are sent from now on, each way."""
        with self._lock:
            for line in self._lines:
                line.impairment = impairment

    def cut(self) -> None:
        """Lose every frame, also those under way. Nothing crosses once this returns."""
        with self._lock:
            for line in self._lines:
                line.cut()

    def mend(self) -> None:
        """Carry frames again, as impaired as before."""
        with self._lock:
            for line in self._lines:
                line.mend()

    def close(self) -> None:
        """Remove it; raises what ended its thread too early."""
        self._closing = True
        os.write(self._fds[3], b"!")
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the cable's thread did not end"
        self._close_all()
        if self._error is not None:
            raise self._error

    def _close_all(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def _body(self) -> None:
        try:
            self._carry()
        except BaseException as error:
            self._error = error

    def _carry(self) -> None:
        left, right, waker, _ = self._fds
        poll = select.poll()
        for fd in (left, right, waker):
            poll.register(fd, select.POLLIN)
        ways = tuple(zip((left, right), (right, left), self._lines, strict=True))
        wait: float | None = None
        while not self._closing:
            ready = {fd for fd, _ in poll.poll(wait)}
            with self._lock:
                for here, there, line in ways:
                    if here in ready:
                        _take(here, line)
                    self._deliver(there, line)
                wait = self._wait()

    def _deliver(self, fd: int, line: Line) -> None:
        for frame in line.arrived(time.monotonic()):
            try:
                self._crossed += os.write(fd, frame)
            except OSError:  # that end is not up, or has no room: lost, as on any cable
                line.lost += 1

    def _wait(self) -> float | None:
        """Milliseconds until the next frame arrives."""
        arrivals = [at for line in self._lines if (at := line.next_arrival()) is not None]
        return max(0.0, min(arrivals) - time.monotonic()) * 1000 if arrivals else None


def _take(fd: int, line: Line) -> None:
    for _ in range(_BATCH):
        try:
            frame = os.read(fd, _FRAME)
        except BlockingIOError:
            return
        line.put(frame, time.monotonic())


def _open() -> int:
    """The descriptor of a new TAP device in the namespace of this thread."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd
