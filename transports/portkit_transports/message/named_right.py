"""Rights to ports that are known by their names: looked up when they are first used."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from portkit import _fork
from portkit.errors import InvalidPortError, NameNotFoundError, TransportError
from portkit.link.local_right import LocalRight
from portkit_transports.message.host import host

if TYPE_CHECKING:
    from portkit.link.remote_port import RemotePort
    from portkit.link.rights import Import
    from portkit.message import Envelope
    from portkit_transports.message.port import MessagePort
    from portkit_transports.message.record import Record


class LocalName(LocalRight):
    """The right to send to a port of this very process while it has a name.

    Args:
        port: the port.
        record: what the name stands for.
    """

    __slots__ = ("_handles", "_has_ended", "record")

    def __init__(self, port: MessagePort, record: Record) -> None:
        super().__init__(port)
        self.record: Record = record
        self._has_ended = False
        self._handles: list[weakref.ref[RemotePort]] = []

    @property
    def is_alive(self) -> bool:
        """Whether the port is valid, and has the name."""
        return not self._has_ended and super().is_alive

    def post(self, envelope: Envelope, timeout: float | None) -> None:
        """Send; as ``Port._post``."""
        self._check()
        super().post(envelope, timeout)

    def post_many(self, envelopes: Sequence[Envelope], timeout: float | None) -> int:
        """Send; as ``Port._post_many``."""
        self._check()
        return super().post_many(envelopes, timeout)

    def _check(self) -> None:
        if self._has_ended:
            raise InvalidPortError(
                f"the port has the name {self.record.name!r} no more: look it up anew"
            )

    def watch(self, handle: RemotePort) -> bool:
        """Have the handle told of the end; False where that has come."""
        self._handles = [ref for ref in self._handles if ref() is not None]
        self._handles.append(weakref.ref(handle))
        return super().watch(handle) and not self._has_ended

    def end(self) -> None:
        """The name was taken back: tell the handles."""
        self._has_ended = True
        handles, self._handles = self._handles, []
        for ref in handles:
            handle = ref()
            if handle is not None:
                handle._lost()


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
        self._reached: Import | LocalName | None = None

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

    def resolve(self) -> Import | LocalName:
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
                    self._reached = port._right_by(record)
                else:
                    link = this.link_to(record)
                    self._reached = link.table.open(record.port_id, record.incarnation)
            return self._reached

    @property
    def is_resolved(self) -> bool:
        """Whether it was looked up."""
        return self._reached is not None

    def watch(self, handle: RemotePort) -> bool:
        """Have the handle told of the end, which it is to know without using it.

        So this looks the name up. False where there is no such port; it may still come.
        """
        try:
            return self.resolve().watch(handle)
        except (NameNotFoundError, TransportError):
            return False

    def __repr__(self) -> str:
        return f"to {self.name!r}"


def _after_fork_in_child() -> None:
    # The parent's rights are not the child's, which looks the names up anew.
    NamedRight._table_lock = Lock()
    NamedRight._known = weakref.WeakValueDictionary()


_fork.call_in_child(_after_fork_in_child)
