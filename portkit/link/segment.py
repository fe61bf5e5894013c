"""A piece of shared memory as its owner sees it."""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

from portkit import _fork
from portkit.link import shared_memory
from portkit.link.lease import Lease

SMALLEST_SEGMENT = 256 * 1024
"""Bytes; smaller data shares such a segment with nothing."""


class Segment:
    """Shared memory, mapped for writing and sealed.

    Args:
        segment_id: unsigned 32-bit.
        size: in bytes, a multiple of the page size.

    Raises:
        OSError: the system has no memory or descriptor to give.

    Attributes:
        id: its number on the link, never used again.
        fd: to be sent to the peer, once; -1 after that.
        size: in bytes.
        memory: the standing map.
        lease: what the user holds of it.
        lent: whether a message has it.
    """

    __slots__ = (
        "__weakref__",
        "_announced",
        "_holds_map",
        "address",
        "fd",
        "id",
        "lease",
        "lent",
        "memory",
        "size",
    )

    def __init__(self, segment_id: int, size: int) -> None:
        self.id: int = segment_id
        self.size: int = size
        self.lease: Lease | None = None
        self.lent: bool = False
        self._announced = False
        self._holds_map = False
        self.fd: int = -1
        self.fd = shared_memory.create(size)
        _fork.close_in_child(self)
        try:
            self.memory: mmap.mmap = shared_memory.map_writable(self.fd, size)
            self._holds_map = True
            with shared_memory.Pinned(self.memory) as pinned:
                self.address: int = pinned.address
        except BaseException:
            self.close()
            raise

    @property
    def announced(self) -> bool:
        """Whether the peer has the descriptor. Set by the link once it was sent: closes ours."""
        return self._announced

    @announced.setter
    def announced(self, announced: bool) -> None:
        self._announced = announced
        if announced:
            self._close_fd()

    def close(self) -> None:
        """Let go of the memory. What somebody still has a view of goes with the last view."""
        self._close_fd()
        if self._holds_map:
            self._holds_map = False
            shared_memory.unmap(self.memory)

    def close_in_child(self) -> None:
        """As :meth:`close`; the parent's copies are its own."""
        self.close()

    def __del__(self) -> None:
        self._close_fd()

    def _close_fd(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        state = " lent" * self.lent + " leased" * (self.lease is not None)
        return f"<Segment {self.id} of {self.size} bytes{state or ' free'}>"


class Block(NamedTuple):
    """What a message says of data out of line: where it is, in bytes."""

    segment: Segment
    offset: int
    length: int


def whole_pages(size: int) -> int:
    """``size`` bytes, rounded up to what can be mapped."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def with_spare_room(size: int) -> int:
    """The size of a fresh segment: eight steps to each power of two, so at most 1/8 is waste."""
    if size <= SMALLEST_SEGMENT:
        return whole_pages(SMALLEST_SEGMENT)
    step = 1 << ((size - 1).bit_length() - 4)
    return whole_pages(-(-size // step) * step)
