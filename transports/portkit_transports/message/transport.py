"""The ``message:`` scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portkit.errors import TransportError
from portkit_transports.message.port import MessagePort

if TYPE_CHECKING:
    from portkit.address import Address
    from portkit.port import Port


class MessageTransport:
    """What the entry point ``message`` names."""

    port_class = MessagePort

    def open(self, address: Address, delegate: Any = None, **options: Any) -> MessagePort:
        """A new port; ``message:`` gives one without a name. Options: those of the class.

        Raises:
            NameInUseError: a port that lives has the name.
            TransportError: the runtime folder cannot be used.
        """
        return MessagePort(address.target or None, delegate, **options)

    def connect(self, address: Address, **options: Any) -> Port:
        """A handle to the port with the name; see ``MessagePort.remote``.

        Raises:
            TransportError: the address has no name.
        """
        if not address.target:
            raise TransportError("to connect name the port: 'message:NAME'")
        return MessagePort.remote(address.target, **options)


transport: MessageTransport = MessageTransport()
