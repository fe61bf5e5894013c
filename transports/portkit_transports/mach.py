"""Ports between the threads of one process: messages pass by reference, nothing is copied.

After NSMachPort: a bounded in-process queue; the receiving run loop's wake-up pipe is the only
descriptor, unless :meth:`MachPort.fileno` asks for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portkit.errors import TransportError
from portkit.local_port import LocalPort

if TYPE_CHECKING:
    from portkit.address import Address
    from portkit.port import Port


class MachPort(LocalPort):
    """A port for the threads of this process.

    The same object is receive right and send right: hand it to other threads as it is, or in a
    message.

    Args:
        delegate: what handles arriving messages; see :class:`~portkit.local_port.LocalPort`.
        queue_limit: how many messages may lie here unread before senders wait.
    """

    __slots__ = ()

    @property
    def transport(self) -> str:
        """It is "mach"."""
        return "mach"


class MachTransport:
    """The ``mach:`` scheme."""

    port_class = MachPort

    def open(self, address: Address, delegate: Any = None, **options: Any) -> MachPort:
        """A new port. Options are those of :class:`MachPort`.

        Raises:
            TransportError: the address names something; a MachPort has no name.
        """
        if address.target:
            raise TransportError(f"a MachPort has no name: open 'mach:', not '{address}'")
        return MachPort(delegate, **options)

    def connect(self, address: Address, **options: Any) -> Port:
        """Refused: a MachPort is reached by holding it.

        Raises:
            TransportError: always.
        """
        raise TransportError(
            f"'{address}' cannot be connected to: hand the MachPort itself to the other thread, "
            "or send it in a message"
        )


transport: MachTransport = MachTransport()
"""What the entry point ``mach`` names."""
