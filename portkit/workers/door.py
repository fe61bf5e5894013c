"""A group's door: the port at which its workers check in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from portkit._report import logger, report
from portkit.address import Address
from portkit.errors import CheckInError, PortError
from portkit.message import PortMessage
from portkit.port import Port
from portkit.registry import open_port
from portkit.workers.check_in import REFUSED, Arrival, read

DoorAddress: TypeAlias = "str | tuple[str, int] | Address"


def door_address(over: str, address: DoorAddress) -> Address:
    """Where a group's door is to be.

    Args:
        over: the scheme of the group.
        address: of that scheme; or host and port.

    Raises:
        TypeError, ValueError: it can be none.
    """
    if isinstance(address, tuple):
        if len(address) != 2:
            raise ValueError(f"a door's address is (host, port), not {address!r}")
        host, port = address
        address = f"{over}://[{host}]:{port}" if ":" in host else f"{over}://{host}:{port}"
    parsed = Address.parse(address)
    if parsed.scheme != over:
        raise ValueError(f"{str(parsed)!r} is no address for a group over {over!r}: use over=")
    return parsed


class Door:
    """The port, once it is open.

    Args:
        address: where to open it.
        options: the transport's own.
        admit: called with each check-in and its message, to answer that; what it raises as
            ``CheckInError`` is the reason to refuse it.
        is_for_all: whether others than the group's own workers may come: to refuse one of these is
            worth a warning, and not an error of the program.

    Attributes:
        is_stopping: nobody need be told of those who come too late.
    """

    __slots__ = ("_admit", "_is_for_all", "is_stopping", "port")

    def __init__(
        self,
        address: Address,
        options: Mapping[str, Any],
        admit: Callable[[Arrival, PortMessage], object],
        *,
        is_for_all: bool,
    ) -> None:
        self._admit = admit
        self._is_for_all = is_for_all
        self.is_stopping: bool = False
        self.port: Port = open_port(address, self._receive, **options)

    def _receive(self, message: PortMessage) -> None:
        """The delegate: accept a check-in, or refuse it and say why."""
        try:
            arrival = read(message)
            is_far = message.sender is not None
            if is_far and not (arrival.port.is_remote and arrival.control.is_remote):
                raise CheckInError("a worker brings ports of its own, and none of this process")
            self._admit(arrival, message)
        except CheckInError as error:
            if message.is_request:
                _answer(message, str(error))
            if not self.is_stopping:
                self._tell(error, message)

    def _tell(self, error: CheckInError, message: PortMessage) -> None:
        if self._is_for_all:
            logger.warning("a check-in of %s was refused: %s", message.sender, error)
        else:
            report("a check-in was refused", error, message)


def _answer(message: PortMessage, reason: str) -> None:
    try:
        message.reply(reason.encode(), msgid=REFUSED)
    except PortError:
        pass  # who asked has gone again
