"""Rights to ports of this very process, for handles that were got by name."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from portkit.local_port import LocalPort
from portkit.message import Envelope
from portkit.port import Port

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.link.link import Link
    from portkit.link.remote_port import RemotePort


class LocalRight:
    """The right to send to a port of this very process, held by a handle all the same.

    Args:
        port: the port.
    """

    __slots__ = ("__weakref__", "port")

    def __init__(self, port: LocalPort) -> None:
        self.port: LocalPort = port

    @property
    def is_alive(self) -> bool:
        """Whether the port is valid."""
        return self.port.is_valid

    @property
    def local(self) -> LocalPort:
        """The port."""
        return self.port

    @property
    def reading(self) -> None:
        """None: answers come by no link."""
        return None

    def post(self, envelope: Envelope, timeout: float | None) -> None:
        """Send; as ``Port._post``."""
        self.port._post(envelope, timeout)

    def post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send; as ``Port._post_many``."""
        return self.port._post_many(envelopes, timeout)

    def allocate(self, size: int) -> memoryview:
        """A buffer whose sending copies nothing."""
        return self.port.allocate(size)

    # As portkit.mailbox.Room.

    @property
    def is_connected(self) -> bool:
        """True."""
        return True

    def connecting(self, waiter: Waiter) -> None:
        """None: the port is here."""

    def queue_up(self, waiter: Waiter) -> None:
        """Arm the waiter, and have it rung when there may be room."""
        self.port._mailbox.queue_up(waiter)

    def leave_queue(self, waiter: Waiter) -> None:
        """The sender waits no more."""
        self.port._mailbox.leave_queue(waiter)

    def number_on(self, link: Link) -> int | None:
        """None: the port is no peer's."""
        return None

    def call_when_room(self, size: int, callback: Callable[[], None]) -> bool:
        """Not needed: such a port is sent on itself, not relayed to."""
        raise AssertionError("a port of this process is sent as itself")

    def resolve(self) -> LocalRight:
        """Itself."""
        return self

    @property
    def is_resolved(self) -> bool:
        """True."""
        return True

    def watch(self, handle: RemotePort) -> bool:
        """Have the handle told of the end; False where that has come."""
        return self.port._tell_end(_Ending(handle))

    def __repr__(self) -> str:
        return repr(self.port)


class _Ending:
    """Tells a handle of a local port's end."""

    __slots__ = ("_handle",)

    def __init__(self, handle: RemotePort) -> None:
        self._handle = weakref.ref(handle)

    def notify(self, port: Port) -> None:
        """The port was invalidated."""
        handle = self._handle()
        if handle is not None:
            handle._lost()
