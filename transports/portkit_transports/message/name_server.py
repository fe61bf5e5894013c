"""The name server of one host: names in the runtime folder, no process that serves them."""

from __future__ import annotations

from time import monotonic

from portkit._arguments import check_timeout
from portkit.errors import (
    AuthenticationError,
    NameNotFoundError,
    TransportError,
)
from portkit.names import NameServer, check_name
from portkit.port import Port
from portkit_transports.message.host import host
from portkit_transports.message.port import MessagePort


class MessagePortNameServer(NameServer):
    """Finds the MessagePorts of one user on one host (NSMessagePortNameServer, N5).

    The name that a :class:`MessagePort` is made with is registered already. All objects of this
    class are the same server.
    """

    __slots__ = ()

    def register(self, name: str, port: Port) -> None:
        """As :meth:`NameServer.register`; beside the names that the port has.

        Raises:
            TransportError: it is no MessagePort of this process.
        """
        check_name(name)
        if not isinstance(port, MessagePort):
            raise TransportError(
                f"{port!r} cannot be registered: make a MessagePort, in the process that receives"
            )
        port.add_alias(name)

    def lookup(self, name: str) -> Port:
        """As :meth:`NameServer.lookup`; connects to the port's process, which may be this one."""
        found = MessagePort.remote(name)
        found.prepare_to_travel()
        return found

    def unregister(self, name: str) -> None:
        """As :meth:`NameServer.unregister`. Handles got by the name end (M7)."""
        this = host()
        record = this.directory.find(name)
        port = this.local(record)
        if port is not None:
            port.remove_alias(name)
        elif this.directory.is_live(record):
            raise AuthenticationError(
                f"the name {name!r} is process {record.pid}'s, which alone may take it back: "
                "have it do so, or end it"
            )
        else:
            raise NameNotFoundError(f"the owner of the name {name!r} has ended; nobody has it now")

    def names(self) -> list[str]:
        """As :meth:`NameServer.names`."""
        return host().directory.names()

    def wait_for(self, name: str, timeout: float | None) -> Port:
        """As :meth:`NameServer.wait_for`."""
        check_timeout(timeout)
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            remaining = None if deadline is None else max(0.0, deadline - monotonic())
            host().directory.wait_for(name, remaining)
            try:
                return self.lookup(name)
            except NameNotFoundError:
                continue  # its owner ended in between
