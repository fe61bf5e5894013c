"""Ports between the processes of one host, after CFMessagePort and NSMessagePort."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from portkit import _fork
from portkit.address import Address
from portkit.errors import InvalidPortError, NameNotFoundError
from portkit.link import service
from portkit.link.remote_port import RemotePort, Right
from portkit.link.rights import Export
from portkit.local_port import LocalPort
from portkit.names import check_name
from portkit_transports.message.host import Host, host
from portkit_transports.message.named_right import LocalName, NamedRight

if TYPE_CHECKING:
    from portkit_transports.message.record import Record


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

    __slots__ = ("_aliases", "_host", "_local_names", "_record")

    def __init__(
        self, name: str | None = None, delegate: Any = None, *, queue_limit: int = 1024
    ) -> None:
        self._record: Record | None = None
        self._aliases: dict[str, Record] = {}
        self._local_names: WeakSet[LocalName] = WeakSet()
        self._host: Host = host()
        super().__init__(delegate, queue_limit=queue_limit)
        if name is not None:
            self._record = self._host.publish(self, check_name(name))

    @property
    def name(self) -> str | None:
        """The name under which other processes find the port, or None."""
        record = self._record  # which another thread may take away
        return None if record is None else record.name

    @property
    def transport(self) -> str:
        """It is "message"."""
        return "message"

    @property
    def address(self) -> Address | None:
        """``message:NAME``, or None for a port without a name."""
        name = self.name
        return None if name is None else Address(scheme="message", target=name)

    def set_name(self, name: str | None) -> None:
        """Give the port another name, or none (M7).

        Whoever reached it by the old name sees it end; rights that were sent in messages stay.

        Raises:
            NameInUseError: a port that lives has the name, perhaps this one; nothing changed.
            InvalidPortError: the port is invalid.
        """
        self._check_named()
        old = self._record
        self._record = None if name is None else self._host.publish(self, check_name(name))
        if old is not None:
            self._end_name(old)
        if not self.is_valid:
            self._withdraw()  # another thread ended it meanwhile, and knew nothing of this name

    def add_alias(self, name: str) -> None:
        """Let others find the port under one more name; a name that it has already is no error.

        Raises:
            NameInUseError: another port that lives has the name.
            InvalidPortError: the port is invalid.
        """
        self._check_named()
        if name != self.name and name not in self._aliases:
            self._aliases[name] = self._host.publish(self, check_name(name))
            if not self.is_valid:
                self._withdraw()  # as in set_name

    def remove_alias(self, name: str) -> None:
        """Take back one of the port's names, as :meth:`set_name` does with its own.

        Raises:
            NameNotFoundError: it is none of them.
        """
        if name == self.name:
            self.set_name(None)
            return
        record = self._aliases.pop(name, None)
        if record is None:
            raise NameNotFoundError(f"{self!r} has no name {name!r}: it has {self._names}")
        self._end_name(record)

    @property
    def _names(self) -> list[str]:
        return [record.name for record in (self._record, *self._aliases.values()) if record]

    def _check_named(self) -> None:
        self._check_fork()
        if not self.is_valid:
            raise InvalidPortError(f"{self!r} is invalid and takes no name: make a new one")

    def _end_name(self, record: Record) -> None:
        """Take a name back, and end the rights of those who came by it."""
        self._host.withdraw(record)
        for sender in self._senders:
            if isinstance(sender, Export) and sender.port_id == record.port_id:
                self._drop_sender(sender, service.loop())
                sender.port_ended()
        for right in list(self._local_names):
            if right.record == record:
                right.end()

    def _right_by(self, record: Record) -> LocalName:
        """For handles of this process: the right to send here while the name stands."""
        right = LocalName(self, record)
        self._local_names.add(right)
        return right

    def _withdraw(self) -> None:
        record, self._record = self._record, None
        aliases, self._aliases = self._aliases, {}
        for found in (record, *aliases.values()):
            if found is not None:
                self._host.withdraw(found)

    @staticmethod
    def remote(name: str) -> NamedPort:
        """A handle that sends to the port with that name. Does not wait, and does not connect.

        The name is looked up with the first use; that raises ``NameNotFoundError`` where nobody
        has it. From then on the handle means that one port, and ends with it. Handles of one name
        are equal, and share one connection to its process (M6, P15).

        Raises:
            TypeError, ValueError: it can be no name.
        """
        return NamedPort(name)

    def __del__(self) -> None:
        # May run inside anything on any thread: the service thread takes the names back.
        mailbox = getattr(self, "_mailbox", None)  # missing where it was never made whole
        if mailbox is None or mailbox.closed or self._generation != _fork.generation:
            return
        records = [record for record in (self._record, *self._aliases.values()) if record]
        if records:
            warnings.warn(
                f"{self!r} was dropped with its name {records[0].name!r}: call invalidate()",
                ResourceWarning,
                stacklevel=2,
            )
            for record in records:
                service.call(partial(self._host.withdraw, record))

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self._record is None else f"{text[:-1]} {self._record.name!r}>"


class NamedPort(RemotePort):
    """A handle to the port that has a name; see :meth:`MessagePort.remote`.

    Args:
        name: looked up when the handle is first used.
        right: to the port of that name, if there is a handle already.

    Raises:
        TypeError, ValueError: it can be no name.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str, right: Right | None = None) -> None:
        super().__init__(NamedRight.of(check_name(name)) if right is None else right)
        self._name = name

    @property
    def name(self) -> str:
        """The name that the handle was made with (M8)."""
        return self._name

    @property
    def address(self) -> Address:
        """``message:NAME``."""
        return Address(scheme="message", target=self._name)

    def _twin(self, right: Right) -> NamedPort:
        return NamedPort(self._name, right)
