"""Before there is a link: TLS, then the pre-shared key, on the service thread.

Who does not pass gets the reason, as far as it understands what is said, and at once.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from portkit._report import report
from portkit._text import printable
from portkit.errors import AuthenticationError, PortError, TransportError
from portkit.link import frames, service
from portkit.link.frames import HEADER, HEADER_SIZE, MAX_RECORD, Kind
from portkit.message import Sender
from portkit.runloop import DescriptorSource, Ready, Timer
from portkit_transports.socket.channel import TCPChannel
from portkit_transports.socket.security import Security
from portkit_transports.socket.shared_key import KeyDialler, KeyListener, binding_of
from portkit_transports.socket.tls_channel import NotTLSError, TLSChannel

SocketChannel: TypeAlias = TCPChannel | TLSChannel
Over: TypeAlias = "Callable[[Handshake, PortError | None], object]"
"""Called once on the service thread when a handshake is over: with why not, or None."""

_FAREWELL = 1.0
"""Seconds for a peer that was refused to read why."""
_MOST_DRAINED = 1 << 20


class Handshake(ABC):
    """One side of the handshake of one connection; everything on the service thread.

    Args:
        connection: which it owns from now on.
        security: what is to be proved.
        timeout: seconds for all of it.
        over: told when it is.

    Attributes:
        channel: the connection, ready for a link once the handshake is over.
        host: the address at the other end.
        gone: called once when a peer that was refused has read why, or had its time for that.
    """

    def __init__(
        self, connection: socket.socket, security: Security, timeout: float, over: Over
    ) -> None:
        self._security = security
        self._timeout = timeout
        self._over: Over | None = over
        self._exchange: KeyDialler | KeyListener | None = None
        self._certificate = b""
        self._is_encrypted = False
        self._received = b""
        self._unwritten = b""
        self._drained = 0
        self._is_refused = False
        self._source: DescriptorSource | None = None
        self._timer: Timer | None = None
        self.gone: Callable[[], object] | None = None
        try:
            self.channel: SocketChannel = self._make_channel(connection)
        except BaseException:
            connection.close()
            raise
        sender = self.channel.sender
        self.host: str = "" if sender is None else sender.host

    def start(self) -> None:
        """Begin; it may be over at once."""
        loop = service.join(self)
        if self._security.is_nothing:
            self._end()
            return
        self._timer = loop.call_later(self._timeout, self._too_late)
        self._source = DescriptorSource(self.channel, self._ready)
        loop.add_source(self._source)
        self._go_on()

    def cancel(self) -> None:
        """Give the connection up, unless the handshake is over."""
        if self._over is not None:
            self._over = None
            self._end()
            self.channel.shutdown()

    @abstractmethod
    def _make_channel(self, connection: socket.socket) -> SocketChannel:
        """The channel, with TLS or without."""

    @abstractmethod
    def _check_names(self, names: tuple[str, ...]) -> None:
        """Whether the peer's certificate is that of somebody who is wanted.

        Raises:
            AuthenticationError: it is not.
        """

    @abstractmethod
    def _begin_exchange(self, channel: SocketChannel) -> KeyDialler | KeyListener | None:
        """The proof of a pre-shared key, if there is to be one."""

    @abstractmethod
    def _refuse(self, error: PortError) -> bool:
        """Tell the peer why, if that is for this side to say; whether its end is to be awaited."""

    def _ready(self, source: DescriptorSource, ready: Ready) -> None:
        if self._is_refused:
            self._drain()
        else:
            self._go_on()

    def _go_on(self) -> None:
        try:
            if self._advance():
                self._end()
            elif self._source is not None:
                self._source.watch(read=True, write=self._waits_to_write)
        except PortError as error:
            self._fail(error)
        except OSError as error:
            self._fail(TransportError(f"the connection was lost: {error.strerror or error}"))
        except Exception as error:
            report("a handshake failed", error, self)
            self._fail(TransportError(f"the handshake failed: {error!r}"))

    @property
    def is_refused(self) -> bool:
        """Whether the peer was refused, and is reading why."""
        return self._is_refused and self._source is not None

    @property
    def _waits_to_write(self) -> bool:
        channel = self.channel
        return bool(self._unwritten) or (isinstance(channel, TLSChannel) and channel.has_unsent)

    def _advance(self) -> bool:
        """Do what is possible now; whether all is done."""
        channel = self.channel
        if isinstance(channel, TLSChannel) and not self._is_encrypted:
            if not channel.advance():
                return False
            self._is_encrypted = True
            names = channel.peer_names()
            self._check_names(names)
            channel.sender = Sender(host=self.host, names=names)
        exchange = self._exchange
        if exchange is None:
            exchange = self._exchange = self._begin_exchange(channel)
            if exchange is None:
                return True
            self._unwritten = exchange.begin()
        while self._write():
            if exchange.is_done:
                self._note_key(exchange)
                return True
            frame = self._read_frame()
            if frame is None:
                return False
            self._unwritten = exchange.received(frame)
        return False

    def _note_key(self, exchange: KeyDialler | KeyListener) -> None:
        sender = self.channel.sender
        assert sender is not None, "every channel has one"
        self.channel.sender = sender._replace(key_id=exchange.key_id)

    def _write(self) -> bool:
        """Whether nothing is left to be written."""
        try:
            while self._unwritten:
                written = self.channel.write(self._unwritten, ())
                self._unwritten = self._unwritten[written:]
        except BlockingIOError:
            return False
        return True

    def _read_frame(self) -> bytes | None:
        """The next frame, and not a byte of what follows it; None while it is not whole."""
        while True:
            size = HEADER_SIZE
            if len(self._received) >= HEADER_SIZE:
                size = HEADER.unpack_from(self._received)[0]
                if not HEADER_SIZE <= size <= HEADER_SIZE + MAX_RECORD:
                    raise AuthenticationError(
                        "what the peer sends is no frame of a handshake: see what it is"
                    )
                if len(self._received) == size:
                    frame, self._received = self._received, b""
                    return frame
            buffer = bytearray(size - len(self._received))
            try:
                count, _ = self.channel.read(memoryview(buffer))
            except BlockingIOError:
                return None
            if not count:
                raise TransportError("the peer ended in the midst of the handshake")
            self._received += buffer[:count]

    def _too_late(self) -> None:
        self._fail(AuthenticationError(f"the handshake was not over within {self._timeout} s"))

    def _fail(self, error: PortError) -> None:
        over, self._over = self._over, None
        self._is_refused = self._source is not None and self._refuse(error)
        if self._is_refused:
            self._await_farewell()
        else:
            self._end()
            self.channel.shutdown()
        if over is not None:
            over(self, error)

    def _await_farewell(self) -> None:
        assert self._source is not None, "it was started"
        self._source.watch(read=True, write=False)
        if self._timer is not None:
            self._timer.invalidate()
        self._timer = service.join(self).call_later(_FAREWELL, self._give_up)

    def _give_up(self) -> None:
        self._end()
        self.channel.shutdown()
        gone, self.gone = self.gone, None
        if gone is not None:
            gone()

    def _drain(self) -> None:
        """Until the peer has read why, and ended: an early close would destroy what was said."""
        try:
            count = self.channel.drain()
            self._drained += count
            if count and self._drained < _MOST_DRAINED:
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._give_up()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.invalidate()
        if self._source is not None:
            self._source.invalidate()
        self._timer = self._source = None
        service.leave(self)
        over, self._over = self._over, None
        if over is not None:
            over(self, None)


class ServerHandshake(Handshake):
    """That of the side that was connected to."""

    def _make_channel(self, connection: socket.socket) -> SocketChannel:
        tls = self._security.tls
        if tls is None:
            return TCPChannel(connection)
        context, self._certificate = tls.server()
        return TLSChannel(connection, context, server=True)

    def _check_names(self, names: tuple[str, ...]) -> None:
        tls = self._security.tls
        assert tls is not None, "there is a certificate"
        reason = tls.check_peer(names, None)
        if reason:
            raise AuthenticationError(f"the peer is not wanted: {reason}")

    def _begin_exchange(self, channel: SocketChannel) -> KeyListener | None:
        keys = self._security.keys
        return KeyListener(keys, binding_of(self._certificate)) if keys else None

    def _refuse(self, error: PortError) -> bool:
        frame = frames.refusal(str(error))
        channel = self.channel
        try:
            if isinstance(error, NotTLSError) and isinstance(channel, TLSChannel):
                channel.write_plain(frame)
            elif self._is_encrypted or isinstance(channel, TCPChannel):
                channel.write(frame, ())
            channel.finish()
        except OSError:
            return False
        return True

    @property
    def claim(self) -> str:
        """What the peer said of itself, proved or not; for the log."""
        exchange = self._exchange
        claim = exchange.claim if isinstance(exchange, KeyListener) else ""
        who = str(self.channel.sender or "a peer")
        return f"{who}, {claim}" if claim else who


class ClientHandshake(Handshake):
    """That of the side that dialled.

    Args:
        connection, security, timeout, over: as for :class:`Handshake`.
        dialled: the host, as the caller named it.
    """

    def __init__(
        self,
        connection: socket.socket,
        security: Security,
        timeout: float,
        over: Over,
        *,
        dialled: str,
    ) -> None:
        self._dialled = dialled
        super().__init__(connection, security, timeout, over)

    def _make_channel(self, connection: socket.socket) -> SocketChannel:
        tls = self._security.tls
        if tls is None:
            return TCPChannel(connection)
        return TLSChannel(connection, tls.client().context, server=False)

    def _check_names(self, names: tuple[str, ...]) -> None:
        tls = self._security.tls
        assert tls is not None, "there is a certificate"
        reason = tls.check_peer(names, self._dialled)
        if reason:
            raise AuthenticationError(f"{self._dialled} is not who was expected: {reason}")

    def _begin_exchange(self, channel: SocketChannel) -> KeyDialler | None:
        if not self._security.keys:
            return None
        certificate = channel.peer_certificate() if isinstance(channel, TLSChannel) else b""
        return KeyDialler(self._security.keys[0], binding_of(certificate))

    def _refuse(self, error: PortError) -> bool:
        return False


def reason_of(error: NotTLSError) -> str:
    """What a peer says that does not speak TLS: its refusal, if that is what it is."""
    beginning = error.beginning
    if len(beginning) > HEADER_SIZE:
        size, kind, _, _ = HEADER.unpack_from(beginning)
        if kind == Kind.REFUSED and size <= HEADER_SIZE + frames.MAX_TEXT:
            return printable(beginning[HEADER_SIZE:size])
    return ""
