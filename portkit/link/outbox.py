"""What waits to be written to a link: whole frames, in order, large ones in turns.

The stream never loses its beat: a frame that was begun is finished before anything else is
written, and what does not go in now stays here.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from itertools import count

from portkit.link.channel import Channel
from portkit.link.decoder import LAST, PART_HEAD
from portkit.link.frames import HEADER, Kind

PART_SIZE = 1 << 16
"""Bytes of a message that are written in one piece; between two such pieces others have a turn."""


class _Stream:
    """A large message on its way in parts, and what follows it to the same port."""

    __slots__ = ("behind", "data", "number", "position", "target")

    def __init__(self, number: int, target: int, data: memoryview) -> None:
        self.number = number
        self.target = target
        self.data = data
        self.position = 0
        self.behind: list[tuple[bytes, Sequence[int]]] = []


class Outbox:
    """Frames on their way out. Used under the link's lock.

    Args:
        channel: where they go.

    Attributes:
        size: bytes that wait here.
    """

    __slots__ = ("_by_target", "_channel", "_flushing", "_numbers", "_queue", "_streams", "size")

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self._queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self._streams: deque[_Stream] = deque()
        self._by_target: dict[int, _Stream] = {}
        self._numbers = count(1)
        self._flushing = False
        self.size: int = 0

    def write(self, frame: bytes, target: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Write a frame, or keep what does not go in now.

        Args:
            frame: the whole of it.
            target: the right it goes to; frames to one right stay in order. 0: any.
            descriptors: duplicated where they have to wait.

        Raises:
            OSError: the connection is lost.
        """
        if not self.size and len(frame) <= PART_SIZE:
            try:
                written = self._open().write(frame, descriptors)
            except BlockingIOError:
                written = 0
            if written == len(frame):
                return
            if written:
                self._keep(memoryview(frame)[written:], ())
            else:
                self._keep(frame, descriptors)
            return
        self.add(frame, target, descriptors)
        self.flush()

    def add(self, frame: bytes, target: int = 0, descriptors: Sequence[int] = ()) -> None:
        """Keep a frame until the next :meth:`flush`."""
        stream = self._by_target.get(target) if self._by_target and target else None
        if stream is not None:
            stream.behind.append((frame, [os.dup(fd) for fd in descriptors]))
            self.size += len(frame)
        elif len(frame) > PART_SIZE and not descriptors:
            stream = _Stream(next(self._numbers), target, memoryview(frame))
            self._streams.append(stream)
            if target:
                self._by_target[target] = stream
            self.size += len(frame)
        else:
            self._keep(frame, descriptors)

    def add_run(self, run: list[bytes], target: int) -> None:
        """Keep small frames to one right until the next :meth:`flush`."""
        if self._by_target and target in self._by_target:
            for frame in run:
                self.add(frame, target)
            return
        data = b"".join(run)
        self._queue.append((data, ()))
        self.size += len(data)

    def flush(self) -> bool:
        """Write as much as goes in now; whether nothing is left.

        Raises:
            OSError: the connection is lost.
        """
        if self._flushing:  # a signal handler, or a finalizer, in the midst of the loop below
            return False
        self._flushing = True
        try:
            while self._queue or self._streams:
                if not self._queue:
                    self._next_part()
                elif len(self._queue) > 1:
                    self._join()
                data, descriptors = self._queue[0]
                written = self._open().write(data, descriptors)
                self.size -= written
                for fd in descriptors:
                    os.close(fd)
                if written == len(data):
                    self._queue.popleft()
                else:
                    self._queue[0] = (memoryview(data)[written:], ())
        except BlockingIOError:
            pass
        finally:
            self._flushing = False
        return not self.size

    def _open(self) -> Channel:
        assert self._channel is not None, "the link looks whether it is closed"
        return self._channel

    def close(self) -> None:
        """Drop what is left, and the channel."""
        self._channel = None
        waiting = list(self._queue)
        for stream in self._streams:
            waiting += stream.behind
        for _, descriptors in waiting:
            for fd in descriptors:
                os.close(fd)
        self._queue.clear()
        self._streams.clear()
        self._by_target.clear()
        self.size = 0

    def _keep(self, data: bytes | memoryview, descriptors: Sequence[int]) -> None:
        self._queue.append((data, [os.dup(fd) for fd in descriptors]))
        self.size += len(data)

    def _join(self) -> None:
        """Make one piece of the small frames at the head, for one system call."""
        pieces: list[bytes | memoryview] = []
        size = 0
        while self._queue and size < PART_SIZE:
            data, descriptors = self._queue[0]
            if descriptors or (pieces and size + len(data) > PART_SIZE):
                break
            pieces.append(data)
            size += len(data)
            self._queue.popleft()
        if pieces:
            self._queue.appendleft((pieces[0] if len(pieces) == 1 else b"".join(pieces), ()))

    def _next_part(self) -> None:
        stream = self._streams[0]
        self._streams.rotate(-1)
        end = min(len(stream.data), stream.position + PART_SIZE)
        last = end == len(stream.data)
        part = stream.data[stream.position : end]
        head = HEADER.pack(PART_HEAD + len(part), Kind.PART, LAST if last else 0, 0)
        self._queue.append((head + stream.number.to_bytes(8, "little"), ()))
        self._queue.append((part, ()))
        self.size += PART_HEAD
        stream.position = end
        if last:
            self._streams.remove(stream)
            self._by_target.pop(stream.target, None)
            for frame, descriptors in stream.behind:
                self.size -= len(frame)
                self.add(frame, stream.target, descriptors)
                for fd in descriptors:
                    os.close(fd)
