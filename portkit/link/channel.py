"""What a link asks of a transport: a stream of bytes to one peer, and perhaps descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portkit.message import Sender

MOST_DESCRIPTORS = 253
"""How many descriptors come at once: SCM_MAX_FD of Linux, the most of the kernels known."""


class Channel(Protocol):
    """A connection. Nothing of it blocks; its descriptor is closed when the last reference goes.

    So closed, and not by call, because another thread may be waiting on the descriptor.
    """

    @property
    def sender(self) -> Sender | None:
        """Who is at the other end, as far as the kernel vouches for it."""
        ...

    @property
    def carries_descriptors(self) -> bool:
        """Whether open descriptors, and so memory, can be handed over."""
        ...

    def fileno(self) -> int:
        """The descriptor, to be waited on."""
        ...

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        """Read into ``buffer``: how many bytes, 0 at the end, and the descriptors that came.

        Raises:
            BlockingIOError: there is nothing now.
            OSError: the connection is lost.
        """
        ...

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        """Write what goes in now: how many bytes; the descriptors go with the first of them.

        Raises:
            BlockingIOError: nothing goes in now.
            OSError: the connection is lost.
        """
        ...

    @property
    def has_unread(self) -> bool:
        """Whether bytes have left the descriptor that :meth:`read` has not passed on."""
        ...

    def acknowledged(self) -> int | None:
        """How many bytes have reached the peer's host, while others are on their way there.

        None where none are on their way, and where nobody knows.
        """
        ...

    def finish(self) -> bool:
        """End the direction to the peer, after what was written.

        Returns:
            Whether the peer's end is to be waited for, since what it has not got yet would be lost
            if it sent something meanwhile.
        """
        ...

    def shutdown(self) -> None:
        """End both directions; whoever waits on the descriptor is told."""
