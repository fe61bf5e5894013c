"""Ports between the processes of one host, after CFMessagePort and NSMessagePort."""

from __future__ import annotations

import warnings
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from portkit import _fork
from portkit.address import Address
from portkit.errors import InvalidPortError, NameNotFoundError, TransportError
from portkit.link.local_right import LocalRight
from portkit.link.remote_port import RemotePort
from portkit.local_port import LocalPort
from portkit_transports.message.directory import check_name
from portkit_transports.message.host import Host, host

if TYPE_CHECKING:
    from portkit.link.rights import Import
    from portkit.port import Port
    from portkit_transports.message.directory import Record


class MessagePort(LocalPort):
    """A port that other processes of this host can send to.

    With a name they find it by :meth:`remote`; without one they get it in a message. A name is
    free again once its port is invalidated or its process has ended, however it ended.

    Args:
        name: up to 1024 bytes of text; None for a port without a name.
        delegate: what handles arriving messages; see :class:`~portkit.local_port.LocalPort`.
        queue_limit: how many messages of one sender may lie here unread before that sender waits.

    Raises:
        NameInUseError: a port that lives has the name.
        TransportError: the runtime folder, or the socket in it, cannot be used.
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("_host", "_record")

    def __init__(
        self, name: str | None = None, delegate: Any = None, *, queue_limit: int = 1024
    ) -> None:
        self._record: Record | None = None
        self._host: Host = host()
        super().__init__(delegate, queue_limit=queue_limit)
        if name is not None:
            self._record = self._host.publish(self, check_name(name))

    @property
    def name(self) -> str | None:
        """The name under which other processes find the port, or None."""
        return None if self._record is None else self._record.name

    @property
    def address(self) -> Address | None:
        """``message:NAME``, or None for a port without a name."""
        return None if self._record is None else Address(scheme="message", target=self._record.name)

    def set_name(self, name: str | None) -> None:
        """Give the port another name, or none (M7).

        Whoever reached it by the old name sees it end; rights that were sent in messages stay.

        Raises:
            NameInUseError: a port that lives has the name, perhaps this one; nothing changed.
            InvalidPortError: the port is invalid.
        """
        self._check_fork()
        if not self.is_valid:
            raise InvalidPortError(f"{self!r} is invalid and takes no name: make a new one")
        old = self._record
        self._record = None if name is None else self._host.publish(self, check_name(name))
        if old is not None:
            self._host.withdraw(old)
            self._end_addressed()

    def _end_addressed(self) -> None:
        """End the rights of those who came by the old name."""
        for sender in self._senders:
            if getattr(sender, "by_address", False):
                self._drop_sender(sender, None)
                sender.port_ended()

    def _withdraw(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            self._host.withdraw(record)

    @staticmethod
    def remote(name: str) -> Port:
        """A handle that sends to the port with that name. Does not wait, and does not connect.

        The name is looked up with the first use; that raises ``NameNotFoundError`` where nobody
        has it. From then on the handle means that one port, and ends with it. Handles of one name
        are equal, and share one connection to its process (M6, P15).

        Raises:
            TypeError, ValueError: it can be no name.
        """
        return RemotePort(NamedRight.of(check_name(name)))

    def __del__(self) -> None:
        if getattr(self, "_record", None) is None or self._generation != _fork.generation:
            return
        if not self._mailbox.closed:
            warnings.warn(
                f"{self!r} was dropped with its name {self.name!r}: call invalidate()",
                ResourceWarning,
                stacklevel=2,
            )
            self.invalidate()

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self._record is None else f"{text[:-1]} {self._record.name!r}>"


class NamedRight:
    """The right to send to whatever port has a name when the right is first used.

    Args:
        name: looked up then.
    """

    __slots__ = ("__weakref__", "_lock", "_reached", "name")

    _known: ClassVar[weakref.WeakValueDictionary[str, NamedRight]] = weakref.WeakValueDictionary()
    _table_lock: ClassVar[Lock] = Lock()

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._lock = Lock()
        self._reached: Import | LocalRight | None = None

    @classmethod
    def of(cls, name: str) -> NamedRight:
        """The one of that name, unless that has ended: then a new one."""
        with cls._table_lock:
            found = cls._known.get(name)
            if found is None or not found.is_alive:
                found = cls._known[name] = cls(name)
            return found

    @property
    def is_alive(self) -> bool:
        """Whether the port lives, as far as is known; True before it was looked up."""
        return self._reached is None or self._reached.is_alive

    def resolve(self) -> Import | LocalRight:
        """The right to the port, which is looked up and connected to at the first time.

        Raises:
            NameNotFoundError: no port that lives has the name.
            TransportError: its process cannot be connected to.
        """
        reached = self._reached
        if reached is not None:
            return reached
        with self._lock:
            if self._reached is None:
                this = host()
                record = this.directory.find(self.name)
                port = this.local(record)
                if port is not None:
                    self._reached = LocalRight(port)
                else:
                    link = this.link_to(record)
                    self._reached = link.table.open(record.port_id, record.incarnation)
            return self._reached

    def watch(self, handle: RemotePort) -> bool:
        """Have the handle told of the end, which it is to know without using it.

        So this looks the name up. False where there is no such port.
        """
        try:
            return self.resolve().watch(handle)
        except (NameNotFoundError, TransportError):
            return False

    def __repr__(self) -> str:
        return f"to {self.name!r}"
