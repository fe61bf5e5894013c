"""Data out of line: segments that this side of a link lends, and those that the peer lent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit._arguments import check_size
from portkit.errors import ProtocolError
from portkit.link import frames
from portkit.link.frames import Frame
from portkit.link.greeting import LEAST_SHARED
from portkit.link.segment import Block, Segment
from portkit.link.segment_maps import SegmentMaps
from portkit.link.segments import SegmentPool

if TYPE_CHECKING:
    from portkit.link.link import Link


class Lending:
    """Shared memory of one link. Nothing is made before it is needed.

    Args:
        link: the link.
        enabled: whether its channel can hand memory over.

    Attributes:
        inline: bytes of data from which on it travels out of line.
    """

    __slots__ = ("_enabled", "_link", "_maps", "_pool", "_settings", "inline")

    def __init__(self, link: Link, *, enabled: bool) -> None:
        self._link = link
        self._enabled = enabled
        self._settings = link.node.settings
        self._pool: SegmentPool | None = None
        self._maps: SegmentMaps | None = None
        self.inline: int = self._settings.out_of_line if enabled else 1 << 62

    @property
    def lent(self) -> int:
        """Bytes of memory that the peer can read, in use or not."""
        return 0 if self._pool is None else self._pool._bytes

    @property
    def borrowed(self) -> int:
        """Bytes of the peer's memory that are mapped here."""
        return 0 if self._maps is None else self._maps._bytes

    def allocate(self, size: int) -> memoryview:
        """A buffer in memory that the peer will see; as ``RemotePort.allocate``."""
        if not self._enabled:
            check_size(size)
            return memoryview(bytearray(size))
        return self._segment_pool().allocate(size)

    def lend(self, data: bytes | memoryview) -> Block | None:
        """Where the data lies out of line, if that is where it belongs."""
        if not self._enabled:
            return None
        if isinstance(data, memoryview):
            block = None if self._pool is None else self._pool.take(data)
            if block is not None:
                return block
        size = len(data) if isinstance(data, bytes) else data.nbytes
        return self._segment_pool().put(data) if size >= self.inline else None

    def unlend(self, block: Block) -> None:
        """The message with that block was not sent."""
        if self._pool is not None:
            self._pool.untake(block)

    def announce(self, segment: Segment) -> None:
        """Hand the segment's descriptor to the peer, once."""
        if not segment.announced and self._pool is not None:
            while self._pool.retired:
                self._link.outbox.add(frames.segment_forget(self._pool.retired.popleft()))
            self._link.outbox.add(frames.segment(segment.id, segment.size), 0, (segment.fd,))
            segment.announced = True

    def borrow(self, segment_id: int, offset: int, length: int) -> bytes | memoryview:
        """A read-only view of data that the peer lent out."""
        if self._maps is None:
            raise ProtocolError(f"segment {segment_id} was never announced")
        view = self._maps.view(segment_id, offset, length)
        return bytes(view) if self._settings.copy_out_of_line else view

    def _segment_pool(self) -> SegmentPool:
        with self._link.lock:
            if self._pool is None:
                self._pool = SegmentPool(self._limit())
            return self._pool

    def _limit(self) -> int:
        most = self._link.peer_limits.shared if self._link.incoming.greeted else LEAST_SHARED
        return min(self._settings.pool_limit, most)

    def greeted(self) -> None:
        """The peer has said how much it accepts."""
        if self._pool is not None:
            self._pool.byte_limit = self._limit()

    def on_segment(self, frame: Frame) -> None:
        """SEGMENT: the peer will lend this memory."""
        fd = self._link.incoming.claim_descriptor()
        if self._maps is None:
            self._maps = SegmentMaps(self._settings.limits.shared, self._link.note_return)
        self._maps.add(frame.a, fd, frame.b)

    def on_return(self, frame: Frame) -> None:
        """RETURN: the peer is done with what lay in a segment of ours."""
        if self._pool is None:
            raise ProtocolError(f"segment {frame.a} was never lent")
        self._pool.returned(frame.a)

    def on_forget(self, frame: Frame) -> None:
        """FORGET: the peer will not lend this memory again."""
        if self._maps is None:
            raise ProtocolError(f"segment {frame.a} was never announced")
        self._maps.forget(frame.a)

    def close(self) -> None:
        """The link has ended. What somebody still has a view of goes with the view."""
        if self._maps is not None:
            self._maps.close()
        if self._pool is not None:
            self._pool.close()
