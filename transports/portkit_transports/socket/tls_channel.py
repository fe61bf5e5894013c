"""Connections over TCP with TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from threading import RLock

from portkit import _fork
from portkit.errors import AuthenticationError
from portkit.message import Sender
from portkit_transports.socket.certificate_names import peer_names_of
from portkit_transports.socket.connection import NOT_BOTH_TLS, Connection, host_of

_RECEIVED_AT_ONCE = 1 << 17
_MOST_RECEIVED = 4
"""How often in a row, without a byte for the link, before others have their turn."""
_ENCRYPTED_AT_ONCE = 1 << 16
_RECORDS = frozenset(range(20, 25))
"""How a record of TLS can begin."""


class NotTLSError(AuthenticationError):
    """The peer does not speak TLS.

    Attributes:
        beginning: what came instead.
    """

    def __init__(self, text: str, beginning: bytes = b"") -> None:
        super().__init__(text)
        self.beginning: bytes = beginning


class TLSChannel:
    """A connected TCP socket with TLS; see :class:`portkit.link.channel.Channel`.

    TLS works in memory here, apart from the socket: one system call moves many records.

    Args:
        connection: which it owns from now on.
        context: the settings of TLS.
        server: whether this side was connected to.
    """

    __slots__ = (
        "__weakref__",
        "_encrypted",
        "_failure",
        "_has_begun",
        "_has_ended",
        "_incoming",
        "_is_over",
        "_lock",
        "_outgoing",
        "_owed",
        "_socket",
        "_tls",
        "carries_descriptors",
        "sender",
    )

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, *, server: bool) -> None:
        self._socket = Connection.taking(connection)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server)
        # OpenSSL's objects are not for two threads at once; re-entrant for signal handlers.
        self._lock = RLock()
        self._encrypted = b""
        self._owed = 0
        self._has_begun = False
        self._is_over = False
        self._has_ended = False
        self._failure: AuthenticationError | OSError | None = None
        self.carries_descriptors: bool = False
        self.sender: Sender | None = Sender(host=host_of(self._socket))
        _fork.close_in_child(self)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    # The handshake, before there is a link.

    def advance(self) -> bool:
        """Go on with the handshake as far as that is possible now; whether it is over.

        Raises:
            NotTLSError: the peer does not speak TLS.
            AuthenticationError: one side refuses the other.
            OSError: it has failed.
        """
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return True
            except ssl.SSLWantReadError:
                self._flush()
                try:
                    self._receive()
                except BlockingIOError:
                    return False
                if self._incoming.eof:
                    raise ConnectionResetError(
                        "the peer ended in the midst of TLS's handshake"
                    ) from None
            except ssl.SSLError as error:
                self._say_goodbye()
                raise _explained(error) from error

    def peer_names(self) -> tuple[str, ...]:
        """Those of the certificate that the peer has proved to own."""
        return peer_names_of(self._tls)

    def peer_certificate(self) -> bytes:
        """That certificate, DER; empty where it has none."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the socket to take more."""
        return bool(self._encrypted)

    # The link's connection.

    @property
    def has_unread(self) -> bool:
        """As the protocol says; the end counts too, until it was passed on."""
        if self._is_over:
            return not self._has_ended
        return self._tls.pending() > 0 or self._incoming.pending > 0

    def read(self, buffer: memoryview) -> tuple[int, Sequence[int]]:
        """As the protocol says: all that there is, or as much as goes in.

        Raises:
            AuthenticationError: the peer refuses this side.
        """
        with self._lock:
            count = 0 if self._is_over else self._read_all(buffer)
            if not count:
                self._has_ended = True
                if self._failure is not None:
                    # A new one each time: what was raised holds on to where it went.
                    raise type(self._failure)(str(self._failure))
            return count, ()

    def _read_all(self, buffer: memoryview) -> int:
        """At least one byte, unless the end is noted: what came before it is read first."""
        count = 0
        try:
            count = more = self._decrypt(buffer)
            while more and count < len(buffer) and self.has_unread:
                more = int(self._tls.read(len(buffer) - count, buffer[count:]))
                count += more
            self._is_over = not more
        except ssl.SSLWantReadError:
            pass  # the rest of a record is not there yet
        except ssl.SSLZeroReturnError:
            self._is_over = True
        except ssl.SSLError as error:
            self._say_goodbye()
            self._is_over = True
            self._failure = _explained(error)
        return count

    def _decrypt(self, buffer: memoryview) -> int:
        """At least one byte.

        Raises:
            BlockingIOError: there is none now; or much else, and the descriptor tells again.
        """
        received = 0
        while True:
            try:
                if self._incoming.pending or self._tls.pending() or self._incoming.eof:
                    return int(self._tls.read(len(buffer), buffer))
            except ssl.SSLWantReadError:
                pass
            if received == _MOST_RECEIVED:  # TLS may talk of itself for ever
                raise BlockingIOError
            self._receive()
            received += 1

    def _receive(self) -> None:
        data = self._socket.recv(_RECEIVED_AT_ONCE)
        if not data:
            self._incoming.write_eof()
            return
        if not self._has_begun:
            self._has_begun = True
            if not _is_tls(data):
                # Not from a variable: that would keep this frame, and so the connection open.
                raise NotTLSError(NOT_BOTH_TLS, data)
        self._incoming.write(data)

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        """As the protocol says; there are no descriptors.

        All is encrypted at once, and while some of that waits for the socket the last byte counts
        as not written: so the caller comes again.
        """
        with self._lock:
            self._push()
            owed = self._owed
            size = len(data)
            if size > _ENCRYPTED_AT_ONCE or owed:
                data = memoryview(data)[owed:_ENCRYPTED_AT_ONCE]
                size = len(data)
            done = 0
            while done < size:
                done += self._tls.write(data if not done else memoryview(data)[done:])
            self._encrypted = self._outgoing.read()
            self._owed = 1
            try:
                self._push()
            except BlockingIOError:
                if owed + size == 1:
                    raise
                return owed + size - 1
            self._owed = 0
            return owed + size

    def _push(self) -> None:
        """Send what is encrypted.

        Raises:
            BlockingIOError: not all goes in now.
        """
        while self._encrypted:
            sent = self._socket.send(self._encrypted)
            self._encrypted = self._encrypted[sent:]

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._encrypted += self._outgoing.read()
        try:
            self._push()
        except BlockingIOError:
            pass

    def _say_goodbye(self) -> None:
        """Tell the peer what is wrong, as far as that is still possible."""
        try:
            self._flush()
        except OSError:
            pass

    def acknowledged(self) -> int | None:
        """As the protocol says."""
        return self._socket.acknowledged()

    def finish(self) -> bool:
        """As the protocol says: what the peer sends to a closed socket would reset it."""
        with self._lock:
            self._unwrap()
            self._socket.finish()
        return True

    def shutdown(self) -> None:
        """As the protocol says."""
        with self._lock:
            self._unwrap()
            self._socket.end()

    def _unwrap(self) -> None:
        try:
            self._tls.unwrap()
        except (OSError, ValueError):
            pass  # the peer's goodbye has not come yet, or the handshake was not over
        self._say_goodbye()

    def write_plain(self, frame: bytes) -> None:
        """Write to a peer that does not speak TLS.

        Raises:
            OSError: that is not possible.
        """
        self._socket.send(frame)

    def drain(self) -> int:
        """Drop what the peer sends; how much that was, 0 at its end.

        Raises:
            BlockingIOError: there is nothing now.
            OSError: the connection is lost.
        """
        return len(self._socket.recv(_RECEIVED_AT_ONCE))

    def close_in_child(self) -> None:
        """Close the child's copy; the connection is the parent's."""
        self._socket.close()


_DATES = (
    "the peer refuses this side's certificate, and its log says why: look at the dates of both "
    "certificates, and at the clocks"
)


def _is_tls(beginning: bytes) -> bool:
    """Whether this is how a record begins: its type, 3, and a number that is not 0.

    So does no frame: its length would be over 64 KiB.
    """
    is_record = beginning[0] in _RECORDS and beginning[1:2] in (b"", b"\x03")
    return is_record and beginning[2:3] != b"\0"


_REASONS = {
    "CERTIFICATE_REQUIRED": "the peer wants a certificate of this side: give TLSConfig "
    "certificate= and key=",
    "UNKNOWN_CA": "the peer does not trust the authority of this side's certificate: use one CA",
    "CERTIFICATE_EXPIRED": "the peer says that this side's certificate has expired: issue another",
    "BAD_CERTIFICATE": _DATES,
    "CERTIFICATE_UNKNOWN": _DATES,
    "NO_CERTIFICATE": "the peer shows no certificate, and this side wants one: give it "
    "certificate= and key=",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer shows no certificate, and this side wants "
    "one: give it certificate= and key=",
    "PROTOCOL_VERSION": "the peer does not speak TLS 1.3 or later",
    "UNSUPPORTED_PROTOCOL": "the peer does not speak TLS 1.3 or later",
}


def _explained(error: ssl.SSLError) -> AuthenticationError | OSError:
    """The error with what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationError(
            f"the peer's certificate is not trusted: {error.verify_message}. Have both issued by "
            "the CA that both sides name, and look at their dates"
        )
    if isinstance(error, ssl.SSLEOFError):
        return ConnectionResetError("the peer ended without the goodbye of TLS")
    reason = str(error.reason or error)
    for name, text in _REASONS.items():
        if name in reason:
            return AuthenticationError(text)
    return ConnectionResetError(f"TLS has failed: {reason.replace('_', ' ').lower()}")
