"""The sending side of data out of line: a pool of shared segments that belongs to one link.

A segment is in use while the peer has what lies in it (it is *lent*), or while the user holds
the buffer from ``allocate`` (it is *leased*), or both: a buffer that was sent and is still
referenced aliases the message. It is free again when both have ended. The first touch of fresh
memory costs ten times a copy, so free segments stay mapped, and the best fitting one is reused.
"""

from __future__ import annotations

import itertools
import mmap
from collections import deque
from typing import TypeAlias

from portkit._arguments import check_size
from portkit._report import logger
from portkit.errors import (
    MessageTooLargeError,
    PortError,
    ProtocolError,
    SendTimeoutError,
    TransportError,
)
from portkit.link import shared_memory
from portkit.link.guarded import Guarded
from portkit.link.lease import Lease, leases_of, lend
from portkit.link.segment import Block, Segment, whole_pages, with_spare_room

_WASTE = 4
"""A free segment so many times too large is kept for large data while fresh memory is to be had."""
_MAX_ID = 0xFFFFFFFF

Data: TypeAlias = memoryview | bytes


class SegmentPool(Guarded):
    """The segments that one link sends with. Any thread may call; nothing waits for the peer.

    Every method raises ``InvalidPortError`` in a forked child: the segments are the parent's.

    Args:
        byte_limit: how much to map at most, in bytes; the peer has announced it.

    Attributes:
        byte_limit: as above; it may be raised.
        retired: numbers of segments the peer knew and that are no more. The link tells the peer,
            before it announces another segment: else the peer may find the limit overstepped.
    """

    __slots__ = (
        "_bytes",
        "_dropped",
        "_free",
        "_ids",
        "_on_drop",
        "_refused",
        "_segments",
        "byte_limit",
        "retired",
    )

    def __init__(self, byte_limit: int) -> None:
        super().__init__()
        self.retired: deque[int] = deque()
        self.byte_limit: int = byte_limit
        self._bytes = 0
        self._dropped: deque[Lease] = deque()
        self._free: dict[int, Segment] = {}  # the least recently used first
        self._ids = itertools.count(1)
        self._on_drop = self._dropped.append
        self._refused = False
        self._segments: dict[int, Segment] = {}

    @property
    def bytes(self) -> int:
        """How much is mapped, in use or free."""
        with self._entered():
            return self._bytes

    @property
    def in_use(self) -> int:
        """How many segments the peer or a user has."""
        with self._entered():
            self._drain()
            return len(self._segments) - len(self._free)

    @property
    def free(self) -> int:
        """How many segments wait for data."""
        with self._entered():
            self._drain()
            return len(self._free)

    def put(self, data: Data) -> Block | None:
        """Copy ``data`` into a segment, which is lent from now on.

        Returns:
            Where it is; None if the limit or the system leaves no room: send it inline.

        Raises:
            InvalidPortError: the link has ended.
        """
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = data.tobytes()
        length = len(data) if isinstance(data, bytes) else data.nbytes
        with self._entered():
            self._check_open()
            try:
                segment = self._reserve(length)
            except OSError as error:
                self._report_refusal(error)
                segment = None
            if segment is None:
                return None
            segment.lent = True
        block = Block(segment, 0, length)
        try:
            shared_memory.copy(data, segment.memory)
        except BaseException:
            self.untake(block)
            raise
        return block

    def allocate(self, size: int) -> memoryview:
        """A writable buffer of ``size`` bytes; what it holds at first is undefined.

        Sending it, or a contiguous slice, copies nothing. Unsent, it goes back to the pool when
        the last reference to it and its slices goes. Writing to it after it was sent changes, or
        may change, what the receiver reads.

        Raises:
            TypeError: ``size`` is no int.
            ValueError: ``size`` is less than 1.
            MessageTooLargeError: the limit is smaller than ``size``.
            SendTimeoutError: the receiver, or this process, has too much in use now.
            TransportError: the system has no memory or descriptor to give.
            InvalidPortError: the link has ended.
        """
        check_size(size)
        if whole_pages(size) > self.byte_limit:
            raise MessageTooLargeError(
                f"{size} bytes are over the limit of {self.byte_limit} bytes of memory shared with "
                "this peer: allocate less and send several messages, or raise pool_limit here and "
                "limits.shared there"
            )
        with self._entered():
            self._check_open()
            try:
                segment = self._reserve(size)
            except OSError as error:
                raise TransportError(
                    f"the system gave no {size} bytes of shared memory: {error}"
                ) from error
            if segment is None:
                raise SendTimeoutError(
                    f"no room for {size} bytes: of the {self.byte_limit} bytes that may be shared "
                    "with this peer too many are in use. Drop buffers no longer needed, wait until "
                    "the receiver drops what it was sent, or raise pool_limit here and "
                    "limits.shared there"
                )
            view, segment.lease = lend(segment.memory, 0, size, segment.id, self._on_drop)
            return view

    def take(self, view: memoryview) -> Block | None:
        """The place of a buffer from :meth:`allocate`, or a contiguous slice, which is lent now.

        Returns:
            None for any other view, a buffer of another link's pool among them: copy it.

        Raises:
            PortError: the buffer, or a slice of it, was sent already.
            InvalidPortError: the link has ended.
        """
        for lease in leases_of(view):
            if lease.on_end is self._on_drop and view.c_contiguous:
                return self._take(view, lease)
        return None

    def untake(self, block: Block) -> None:
        """Take a block back that was not sent: a buffer is the user's again, a copy is gone."""
        with self._entered():
            segment = block.segment
            if segment.lent and self._segments.get(segment.id) is segment:
                if segment.lease is not None:
                    segment.lease.spent = False
                self._end_loan(segment)

    def returned(self, segment_id: int) -> None:
        """The peer is done with what lay in the segment.

        Raises:
            ProtocolError: it does not have that segment.
        """
        with self._entered():
            if self._closed:
                return
            segment = self._segments.get(segment_id)
            if segment is None or not segment.lent:
                raise ProtocolError(f"the peer returned segment {segment_id}, which it has not")
            segment.announced = True  # the sending thread may not have come to saying so
            self._end_loan(segment)

    def close(self) -> None:
        """Unmap everything but what users still have views of: that goes with the views."""
        with self._entered():
            self._closed = True
            segments = list(self._segments.values())
            self._segments.clear()
            self._free.clear()
            self.retired.clear()
            self._bytes = 0
        for segment in segments:
            segment.close()

    def _take(self, view: memoryview, lease: Lease) -> Block:
        with self._entered():
            self._check_open()
            segment = self._segments[lease.key]
            if lease.spent:
                raise PortError("the buffer was sent already: allocate another one")
            with shared_memory.Pinned(view) as pinned:
                offset = pinned.address - segment.address if pinned.length else 0
                block = Block(segment, offset, pinned.length)
            lease.spent = True
            segment.lent = True
            return block

    def _end_loan(self, segment: Segment) -> None:
        segment.lent = False
        self._drain()
        if segment.lease is None:
            self._free[segment.id] = segment

    def _drain(self) -> None:
        """Free what users dropped. Their finalizers only leave a note of it."""
        while self._dropped:
            lease = self._dropped.popleft()
            segment = self._segments.get(lease.key)
            if segment is not None and segment.lease is lease:
                segment.lease = None
                if not segment.lent:
                    self._free[segment.id] = segment

    def _reserve(self, size: int) -> Segment | None:
        """A segment for ``size`` bytes that is free no longer; None where there is no room."""
        self._drain()
        best = min(
            (segment for segment in self._free.values() if segment.size >= size),
            key=lambda segment: segment.size,
            default=None,
        )
        fresh = min(with_spare_room(size), self.byte_limit // mmap.PAGESIZE * mmap.PAGESIZE)
        roomy = self._bytes + fresh <= self.byte_limit
        if best is not None and (best.size <= _WASTE * fresh or not roomy):
            del self._free[best.id]
            return best
        if fresh < size or not self._make_room(fresh):
            return None
        number = next(self._ids)
        if number > _MAX_ID:
            return None
        segment = Segment(number, fresh)
        self._segments[segment.id] = segment
        self._bytes += fresh
        return segment

    def _make_room(self, size: int) -> bool:
        """Whether ``size`` bytes fit into the limit once free segments went, oldest first."""
        free = sum(segment.size for segment in self._free.values())
        if self._bytes - free + size > self.byte_limit:
            return False
        while self._bytes + size > self.byte_limit:
            self._retire(next(iter(self._free.values())))
        return True

    def _retire(self, segment: Segment) -> None:
        del self._free[segment.id]
        del self._segments[segment.id]
        self._bytes -= segment.size
        if segment.announced:
            self.retired.append(segment.id)
        segment.close()

    def _report_refusal(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            logger.warning("large data travels inline, by copies: no shared memory: %s", error)

    def __repr__(self) -> str:
        return (
            f"<SegmentPool {self._bytes} of {self.byte_limit} bytes, "
            f"{len(self._segments)} segments, {len(self._free)} free>"
        )
