"""What the processes on the two hosts do: functions that they are told to call."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Any, ClassVar

from pydantic import SecretBytes

from portkit import (
    Backoff,
    BecameInvalidError,
    ConnectionEvent,
    MachPort,
    Port,
    PortMessage,
    PreSharedKey,
    RunLoop,
    SocketPort,
    TLSConfig,
)
from portkit.link.node import Settings
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.support import PATIENCE

KEY = PreSharedKey(id="hosts", secret=SecretBytes(b"known to both of the test's hosts"))


class Do(IntEnum):
    """The msgid of a message says what :class:`Server` does with it."""

    ECHO = 1
    KEEP = 2
    KEEP_SIZE = 3
    WATCH = 4
    FETCH = 5


class Server:
    """A delegate that does what each message's number says.

    Attributes:
        kept: the data of messages to be kept, in the order in which they came.
        ports: ports that came to be watched.
        ended: how often the end of one was told of.
    """

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.ports: list[Port] = []
        self.ended = 0

    def __call__(self, message: PortMessage) -> Any:
        """Handle the message."""
        data = message.data or b""
        match message.msgid:
            case Do.ECHO:
                return data
            case Do.KEEP:
                self.kept.append(data)
            case Do.KEEP_SIZE:
                self.kept.append(b"%d %d" % (len(data), data.count(data[:1])))
            case Do.WATCH:
                self.ports += message.ports
                for port in message.ports:
                    port.add_invalidation_handler(self.end)
            case Do.FETCH:
                return b"x" * int(data)
        return None

    def end(self, port: Port) -> None:
        """One of the ports has ended."""
        self.ended += 1


class Here:
    """What this process has."""

    server = Server()
    listening: SocketPort | None = None
    handle: RemoteSocketPort | None = None
    own: MachPort | None = None
    events: ClassVar[list[ConnectionEvent]] = []


def listen(
    host: str, port: int = 0, *, heartbeat: float = 30.0, tls: TLSConfig | None = None
) -> int:
    """Serve a port there on this run loop; its number."""
    made = Here.listening = SocketPort(
        (host, port),
        Here.server,
        key=KEY,
        tls=tls,
        settings=Settings(heartbeat=heartbeat),
    )
    RunLoop.current().add_port(made)
    assert made.address is not None
    return int(made.address.target.rpartition(":")[2])


def dial(
    host: str,
    port: int,
    *,
    heartbeat: float = 30.0,
    tls: TLSConfig | None = None,
    reconnect: Backoff | None = None,
    connect_timeout: float = 10.0,
) -> None:
    """Make the handle that the functions below use, and watch it."""
    made = Here.handle = SocketPort.remote(
        host,
        port,
        key=KEY,
        tls=tls,
        reconnect=reconnect,
        connect_timeout=connect_timeout,
        settings=Settings(heartbeat=heartbeat),
    )
    made.add_invalidation_handler(Here.server.end)
    made.add_connection_handler(lambda port, event: Here.events.append(event))


def handle() -> RemoteSocketPort:
    """The handle."""
    assert Here.handle is not None, "call dial first"
    return Here.handle


def ask(data: bytes) -> bytes | None:
    """What the other side answers: the same."""
    answer = handle().request(data, msgid=Do.ECHO, send_timeout=PATIENCE, reply_timeout=PATIENCE)
    return answer.data


def fetch(size: int) -> int:
    """Have the other side answer with as many bytes; how many came."""
    message = handle().request(b"%d" % size, msgid=Do.FETCH, reply_timeout=PATIENCE)
    return len(message.data or b"")


def ask_in_vain() -> bool:
    """Whether a request ends with the connection, as it should."""
    try:
        ask(b"in vain")
    except BecameInvalidError:
        return True
    return False


def lend() -> None:
    """Hand a port of this process to the other side, which is to watch it."""
    Here.own = MachPort(Here.server)
    RunLoop.current().add_port(Here.own)
    handle().send(Here.own, msgid=Do.WATCH, timeout=PATIENCE)


def send_numbers(first: int, end: int, pause: float = 0.0) -> list[int]:
    """Send the numbers from the one to before the other, a message each.

    Returns:
        Those in whose midst the connection went.
    """
    doubtful: list[int] = []
    for number in range(first, end):
        try:
            handle().send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)
        except BecameInvalidError:
            doubtful.append(number)
        time.sleep(pause)
    return doubtful


def send_large(size: int) -> None:
    """Send as many bytes, in one message."""
    handle().send(b"x" * size, msgid=Do.KEEP_SIZE, timeout=PATIENCE)


def kept() -> list[bytes]:
    """What came to be kept, so far."""
    return Here.server.kept


def ended() -> int:
    """How often the end of a port was told of, so far."""
    return Here.server.ended


def events() -> list[ConnectionEvent]:
    """What was told of the handle's connections, so far."""
    return Here.events


def is_valid() -> bool:
    """Whether the handle is."""
    return handle().is_valid
