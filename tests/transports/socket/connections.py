"""Connections over TCP by themselves, and sockets that do what sockets do on bad days."""

from __future__ import annotations

import os
import resource
import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from portkit import SocketPort
from portkit.link.rights import Import
from portkit_transports.socket.addressed_right import AddressedRight
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from portkit_transports.socket.resolving import Place
from portkit_transports.socket.tls import TLSConfig
from portkit_transports.socket.tls_channel import TLSChannel
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors


def tcp_pair(buffers: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection over loopback.

    Args:
        buffers: bytes of each buffer of the kernel, as far as it goes along with that.
    """
    with socket.socket() as listening:
        if buffers is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = socket.socket()
        if buffers is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        near.connect(listening.getsockname())
        far, _ = listening.accept()
    for end in (near, far):
        end.settimeout(PATIENCE)
    return near, far


class Meddling:
    """A socket in front of a real one, for a channel.

    Args:
        real: the socket.
        sends, receives: how many bytes the next calls move at most, in turns; 0: nothing is
            possible just now. None is as many as go.
        before_send: called before each call that sends.
    """

    def __init__(
        self,
        real: Any,
        *,
        sends: Iterator[int] | None = None,
        receives: Iterator[int] | None = None,
        before_send: Callable[[], object] = lambda: None,
    ) -> None:
        self._real = real
        self._sends = sends
        self._receives = receives
        self.before_send = before_send

    def send(self, data: bytes) -> int:
        self.before_send()
        sent: int = self._real.send(data[: self._turn(self._sends, len(data))])
        return sent

    def recv(self, size: int) -> bytes:
        data: bytes = self._real.recv(self._turn(self._receives, size))
        return data

    def _turn(self, turns: Iterator[int] | None, size: int) -> int:
        most = size if turns is None else next(turns)
        if not most:
            raise BlockingIOError
        return min(most, size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def meddle(channel: TLSChannel, **how: Any) -> Meddling:
    """Have the channel use its socket through a :class:`Meddling`."""
    found = Meddling(channel._socket, **how)
    channel._socket = found  # type: ignore[assignment]
    return found


@contextmanager
def tls_pair(
    config: TLSConfig, buffers: int | None = None
) -> Iterator[tuple[TLSChannel, TLSChannel]]:
    """Two channels, the left a client's and the right a server's, whose handshake is over."""
    near, far = tcp_pair(buffers)
    right = TLSChannel(far, config.server().context, server=True)
    left = TLSChannel(near, config.client().context, server=False)
    try:
        assert eventually(lambda: left.advance() & right.advance())
        yield left, right
    finally:
        for channel in (left, right):
            channel.shutdown()
            channel.close_in_child()


def await_ready(channel: TLSChannel, events: int = select.POLLIN) -> None:
    """Wait for the socket."""
    poll = select.poll()
    poll.register(channel.fileno(), events)
    assert poll.poll(PATIENCE * 1000), "nothing came"


def reset(connection: socket.socket) -> None:
    """Close it so that the peer gets a reset (RST)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def place_of(port: SocketPort) -> tuple[str, int]:
    """Where it listens."""
    assert port.address is not None
    host, _, number = port.address.target.removeprefix("//").rpartition(":")
    return host.strip("[]"), int(number)


@contextmanager
def dialled(
    port: SocketPort, tls: TLSConfig | None = None, **options: Any
) -> Iterator[RemoteSocketPort]:
    """A connected handle to the port."""
    remote = SocketPort.remote(*place_of(port), tls=tls, **options)
    remote.connect(PATIENCE)
    try:
        yield remote
    finally:
        remote.invalidate()


@contextmanager
def echoing(**options: Any) -> Iterator[SocketPort]:
    """A port that answers with what it gets, on a thread of its own."""
    with (
        LoopThread() as thread,
        SocketPort(delegate=lambda message: message.components, **options) as port,
    ):
        thread.loop.add_port(port)
        yield port
        assert eventually(lambda: is_quiet(port)), "connections are left open"


def is_quiet(port: SocketPort) -> bool:
    """Whether nobody is connected, nor about to be."""
    listener = port._listener
    return not port.connections and (listener is None or not listener._handshakes)


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """This process gets no more than so many further descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1 + spare, hard))
    try:
        try:
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(spare):
                os.close(fillers.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


@contextmanager
def silent() -> Iterator[Place]:
    """An address that does not answer: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        with suppress(TimeoutError):
            while True:
                one = stack.enter_context(socket.socket())
                one.settimeout(0.1)
                one.connect(listening.getsockname())
        yield Place(socket.AF_INET, listening.getsockname())


def open_sockets() -> int:
    """How many this process has."""
    return sum(what.startswith("socket") for what in open_descriptors().values())


def addressed(remote: RemoteSocketPort) -> Import:
    """The right that the handle has on its connection."""
    right = remote._right
    assert isinstance(right, AddressedRight)
    assert right._right is not None, "it is connected"
    return right._right


class RawTLS:
    """TLS in memory on a blocking socket: a peer that sends what records a test likes.

    Args:
        connection: which it owns.
        context: the settings of TLS.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self.socket = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=False)

    def shake(self) -> None:
        """Do the handshake; its last flight is sent too."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.incoming.write(self.socket.recv(1 << 16))
            else:
                self.socket.sendall(self.outgoing.read())
                return

    def records(self, data: bytes) -> bytes:
        """The records that carry ``data``, not sent yet."""
        self.tls.write(data)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        """The record that ends TLS, not sent yet."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()
