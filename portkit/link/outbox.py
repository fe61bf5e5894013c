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
from portkit.link.frames import HEADER, Kind, LongMessage, carries_rights

PART_SIZE = 1 << 16
"""Bytes of a message that are written in one piece; between two such pieces others have a turn."""


class _Stream:
    """A large message on its way in parts, and what follows it to the same port."""

    __slots__ = ("behind", "data", "head", "number", "position", "size", "target")

    def __init__(
        self,
        number: int,
        target: int,
        frame: bytes | LongMessage,
        behind: deque[tuple[bytes | LongMessage, Sequence[int]]],
    ) -> None:
        self.number = number
        self.target = target
        if isinstance(frame, LongMessage):
            self.head, self.data = frame.head, frame.data
        else:
            self.head, self.data = b"", memoryview(frame)
        self.size = len(frame)
        self.position = 0
        self.behind = behind

    def pieces(self, end: int) -> tuple[bytes, memoryview]:
        """What comes from the position on, up to ``end``; the head is less than that."""
        start, skipped = self.position, len(self.head)
        if start:
            return b"", self.data[start - skipped : end - skipped]
        return self.head, self.data[: end - skipped]


class Outbox:
    """Frames on their way out. Used under the link's lock.

    A signal handler may interrupt any method and call :meth:`write`: what it adds waits in a
    queue of its own until the interrupted method, or the next flush, gives it its place.

    Args:
        channel: where they go.

    Attributes:
        most_parts: large messages that the peer takes at the same time.
        size: bytes that wait here.
        written: bytes that were written so far.
    """

    __slots__ = (
        "_active",
        "_added",
        "_ahead",
        "_barred",
        "_by_target",
        "_channel",
        "_flushing",
        "_later",
        "_numbers",
        "_queue",
        "_queued",
        "_waiting",
        "most_parts",
        "size",
        "written",
    )

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self._added: deque[tuple[bytes | LongMessage, int, Sequence[int]]] = deque()
        self._queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self._queued = 0
        self._active: deque[_Stream] = deque()
        self._waiting: deque[_Stream] = deque()
        self._by_target: dict[int, _Stream] = {}
        self._later: deque[tuple[bytes | LongMessage, int, Sequence[int]]] = deque()
        self._barred = False
        self._ahead = 0
        self._numbers = count(1)
        self._flushing = False
        self.most_parts: int = 1
        self.size: int = 0
        self.written: int = 0

    def write(
        self, frame: bytes | LongMessage, target: int = 0, descriptors: Sequence[int] = ()
    ) -> None:
        """Write a frame, or keep what does not go in now.

        Args:
            frame: the whole of it.
            target: the right it goes to; frames to one right stay in order. 0: any.
            descriptors: duplicated where they have to wait.

        Raises:
            OSError: the connection is lost.
        """
        length = len(frame)
        if self.size or self._flushing or length > PART_SIZE:
            self.add(frame, target, descriptors)
            self.flush()
            return
        assert type(frame) is bytes, "a long message is longer"
        self._flushing = True
        try:
            try:
                written = self._open().write(frame, descriptors)
            except BlockingIOError:
                written = 0
            self.written += written
            if written == length:
                return
            if written:
                self._enqueue(memoryview(frame)[written:], ())
            else:
                self._enqueue(frame, _duplicates(descriptors))
            left = length - written
            self.size += left
        finally:
            self._flushing = False

    def add(
        self, frame: bytes | LongMessage, target: int = 0, descriptors: Sequence[int] = ()
    ) -> None:
        """Keep a frame until the next :meth:`flush`; as :meth:`write`."""
        length = len(frame)
        self._added.append((frame, target, _duplicates(descriptors) if descriptors else ()))
        self.size += length

    def add_run(self, run: list[bytes], target: int) -> None:
        """Keep small simple messages to one right until the next :meth:`flush`."""
        data = b"".join(run)
        if len(data) <= PART_SIZE or len(run) == 1:
            self.add(data, target)
            return
        middle = len(run) // 2
        self.add_run(run[:middle], target)
        self.add_run(run[middle:], target)

    def flush(self) -> bool:
        """Write as much as goes in now; whether nothing is left.

        Raises:
            OSError: the connection is lost.
        """
        if self._flushing:  # a signal handler, or a finalizer, in the midst of writing
            return False
        self._flushing = True
        try:
            while self._line_up():
                data, descriptors = self._queue[0]
                written = self._open().write(data, descriptors)
                self.size -= written
                self.written += written
                self._queued -= written
                self._ahead -= written
                if written == len(data):
                    self._queue.popleft()
                else:
                    self._queue[0] = (memoryview(data)[written:], ())
                for fd in descriptors:
                    os.close(fd)
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
        waiting = [descriptors for _, descriptors in self._queue]
        waiting += [descriptors for _, _, descriptors in [*self._added, *self._later]]
        for stream in [*self._active, *self._waiting]:
            waiting += [descriptors for _, descriptors in stream.behind]
        for queue in (self._queue, self._added, self._later, self._active, self._waiting):
            queue.clear()
        self._by_target.clear()
        self._barred = False
        self.size = self._queued = self._ahead = 0
        for descriptors in waiting:
            for fd in descriptors:
                os.close(fd)

    # Only while ``_flushing``: nobody interrupts these to do the same.

    def _enqueue(self, data: bytes | memoryview, descriptors: Sequence[int]) -> None:
        self._queue.append((data, descriptors))
        self._queued += len(data)

    def _line_up(self) -> bool:
        """Have at the head of the queue what is to be written next; False if there is nothing."""
        while self._added:
            self._place(*self._added.popleft())
        if self._ahead <= 0 and (self._active or self._waiting):
            self._next_part()
        if len(self._queue) > 1:
            self._join()
        return bool(self._queue)

    def _place(self, frame: bytes | LongMessage, target: int, descriptors: Sequence[int]) -> None:
        if self._barred:
            self._later.append((frame, target, descriptors))
            return
        stream = self._by_target.get(target)
        if stream is not None:
            stream.behind.append((frame, descriptors))
        elif _is_large(frame, descriptors):
            self._begin(_Stream(next(self._numbers), target, frame, deque()))
        else:
            assert isinstance(frame, bytes), "a long message is large"
            self._enqueue(frame, descriptors)
            return
        # What later frames say of the ports that it names must not come first.
        self._barred = carries_rights(frame)

    def _begin(self, stream: _Stream) -> None:
        self._waiting.append(stream)
        if stream.target:
            self._by_target[stream.target] = stream

    def _next_part(self) -> None:
        """Queue a part of the message whose turn it is. At most one is in the queue."""
        while self._waiting and len(self._active) < self.most_parts:
            self._active.append(self._waiting.popleft())
        stream = self._active.popleft()
        end = min(stream.size, stream.position + PART_SIZE)
        last = end == stream.size
        size = PART_HEAD + end - stream.position
        head = HEADER.pack(size, Kind.PART, LAST if last else 0, 0)
        number = stream.number.to_bytes(8, "little")
        self._enqueue(b"".join((head, number, *stream.pieces(end))), ())
        self.size += PART_HEAD
        self._ahead = self._queued
        stream.position = end
        if last:
            self._end(stream)
        else:
            self._active.append(stream)

    def _end(self, stream: _Stream) -> None:
        """The whole of a large message is queued: now what waited for it."""
        self._by_target.pop(stream.target, None)
        while stream.behind:
            frame, descriptors = stream.behind.popleft()
            if _is_large(frame, descriptors):
                number = next(self._numbers)
                self._begin(_Stream(number, stream.target, frame, stream.behind))
                return
            assert isinstance(frame, bytes), "a long message is large"
            self._enqueue(frame, descriptors)
        if not self._active and not self._waiting:
            self._barred = False
            later, self._later = self._later, deque()
            for frame, target, descriptors in later:
                self._place(frame, target, descriptors)

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


def _is_large(frame: bytes | LongMessage, descriptors: Sequence[int]) -> bool:
    """Whether it goes in parts. Descriptors go with the first byte of a frame of their own."""
    return len(frame) > PART_SIZE and not descriptors


def _duplicates(descriptors: Sequence[int]) -> Sequence[int]:
    duplicates: list[int] = []
    try:
        for fd in descriptors:
            duplicates.append(os.dup(fd))  # noqa: PERF401 - known one by one, to be closed
    except BaseException:
        for fd in duplicates:
            os.close(fd)
        raise
    return duplicates
