"""The receiving side of data out of line: the peer's segments, mapped for reading.

A segment is mapped once, when its descriptor arrives, and stays so: mapping costs more than
reading. Each message lends one range of one segment; the segment goes back to the peer with the
last reference to the view.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

from portkit import _fork
from portkit.errors import ProtocolError, TransportError
from portkit.link import shared_memory
from portkit.link.guarded import Guarded
from portkit.link.lease import Lease, lend
from portkit.link.segment import SMALLEST_SEGMENT


class _Map:
    """One of the peer's segments."""

    __slots__ = ("lease", "memory", "size")

    def __init__(self, memory: mmap.mmap, size: int) -> None:
        self.memory = memory
        self.size = size
        self.lease: Lease | None = None

    def close(self) -> None:
        self.lease = None
        shared_memory.unmap(self.memory)


class SegmentMaps(Guarded):
    """The segments that one link receives in.

    One thread at a time calls :meth:`add`, :meth:`view` and :meth:`forget`, that of the link's
    reader; any may call :meth:`close`. In a forked child all raise ``InvalidPortError``.

    Args:
        byte_limit: how much the peer may have mapped here, in bytes.
        on_return: called with a segment's number when its last view is gone, by a finalizer: on
            any thread, at any moment. It takes no lock. Not called after :meth:`close`.
    """

    __slots__ = (
        "__weakref__",
        "_byte_limit",
        "_bytes",
        "_maps",
        "_on_return",
    )

    def __init__(self, byte_limit: int, on_return: Callable[[int], None]) -> None:
        super().__init__()
        self._byte_limit = byte_limit
        self._bytes = 0
        self._maps: dict[int, _Map] = {}
        self._on_return = on_return
        _fork.close_in_child(self)

    @property
    def bytes(self) -> int:
        """How much is mapped for the peer."""
        return self._bytes

    @property
    def in_use(self) -> int:
        """How many segments somebody here has a view of."""
        return sum(entry.lease is not None for entry in list(self._maps.values()))

    def add(self, segment_id: int, fd: int, size: int) -> None:
        """Map a segment that the peer announced. ``fd`` is closed, whatever happens.

        Raises:
            ProtocolError: the number is taken, the limit is overstepped, or the memory has not
                that size or not the seals that keep it from changing under its readers.
            TransportError: the system refuses to map it.
            InvalidPortError: the link has ended.
        """
        try:
            with self._entered():
                self._check_announcement(segment_id, size)
                if reason := shared_memory.fault(fd, size):
                    raise ProtocolError(f"segment {segment_id} is refused: {reason}")
                try:
                    memory = shared_memory.map_readable(fd, size)
                except OSError as error:
                    raise TransportError(
                        f"segment {segment_id}, {size} bytes, cannot be mapped: {error}"
                    ) from error
                self._maps[segment_id] = _Map(memory, size)
                self._bytes += size
        finally:
            os.close(fd)

    def view(self, segment_id: int, offset: int, length: int) -> memoryview:
        """What a message says is in a segment, read-only, without a copy.

        It stays readable as long as it or a slice of it is referenced, whatever becomes of the
        link and the peer; the peer could still change it, if it breaks the protocol.

        Raises:
            ProtocolError: there is no such segment or range, or the segment is lent already.
            InvalidPortError: the link has ended.
        """
        with self._entered():
            entry = self._find(segment_id)
            if entry.lease is not None:
                raise ProtocolError(f"segment {segment_id} was sent again before it was returned")
            if offset < 0 or length < 0 or offset + length > entry.size:
                raise ProtocolError(
                    f"{length} bytes at {offset} are not in segment {segment_id}, which has "
                    f"{entry.size} bytes"
                )
            view, entry.lease = lend(entry.memory, offset, length, segment_id, self._ended)
            return view

    def forget(self, segment_id: int) -> None:
        """Unmap a segment that the peer has retired.

        Raises:
            ProtocolError: there is no such segment, or somebody here still reads it.
            InvalidPortError: the link has ended.
        """
        with self._entered():
            entry = self._find(segment_id)
            if entry.lease is not None:
                raise ProtocolError(f"segment {segment_id} was retired before it was returned")
            del self._maps[segment_id]
            self._bytes -= entry.size
            entry.close()

    def close(self) -> None:
        """Unmap everything but what is still referenced: that goes with its views, untold."""
        with self._entered():
            self._closed = True
            self._drop_all()

    def close_in_child(self) -> None:
        """Unmap the child's copies, but for what it has views of."""
        self._drop_all()

    def _drop_all(self) -> None:
        maps, self._maps = self._maps, {}
        self._bytes = 0
        for entry in maps.values():
            entry.close()

    def _check_announcement(self, segment_id: int, size: int) -> None:
        self._check_open()
        if segment_id in self._maps:
            raise ProtocolError(f"segment {segment_id} was announced before")
        if size < 1:
            raise ProtocolError(f"segment {segment_id} was announced with {size} bytes")
        if self._bytes + size > self._byte_limit:
            raise ProtocolError(
                f"segment {segment_id}, {size} bytes, is over the limit of {self._byte_limit} "
                f"bytes, of which {self._bytes} are mapped"
            )
        most = self._byte_limit // SMALLEST_SEGMENT + 1
        if len(self._maps) >= most:  # the kernel's limit on maps is for the whole process
            raise ProtocolError(f"more than {most} segments were announced: they are too small")

    def _find(self, segment_id: int) -> _Map:
        self._check_open()
        entry = self._maps.get(segment_id)
        if entry is None:
            raise ProtocolError(f"segment {segment_id} was not announced, or is retired")
        return entry

    def _ended(self, lease: Lease) -> None:
        """A finalizer's call: it takes no lock."""
        entry = self._maps.get(lease.key)
        if entry is not None and entry.lease is lease:
            entry.lease = None
            self._on_return(lease.key)
