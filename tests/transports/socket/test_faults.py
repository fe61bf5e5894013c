"""What peers and networks do to a connection: what was reached by it ends once, with the reason."""

from __future__ import annotations

import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest

from portkit import BecameInvalidError, InvalidPortError, Port, SendTimeoutError, SocketPort
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, Entry, Kind, Part
from portkit.link.greeting import greeting
from portkit.link.node import Settings
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.connections import (
    addressed,
    dialled,
    echoing,
    is_quiet,
    place_of,
    reset,
)
from tests.transports.socket.pki import Pki

HEARTBEAT = 0.3
PATIENT_HEARTBEAT = 0.7
"""Where the peer is to keep up with it, on a busy machine too."""
QUIET = Settings(heartbeat=PATIENCE)
"""Of links whose end is not to be found by the heartbeat."""


class Peer:
    """A peer by hand, on either side of a connection.

    Args:
        connection: perhaps with TLS.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(PATIENCE)
        self.opened = 0

    def next(self) -> tuple[int, bytes]:
        """The next frame: its type, and what follows the header."""
        size, kind, _, _ = HEADER.unpack(self._receive(HEADER_SIZE))
        return kind, self._receive(size - HEADER_SIZE)

    def await_frame(self, wanted: Kind) -> bytes:
        """The next frame of that type, past all others."""
        while True:
            kind, body = self.next()
            if kind == wanted:
                return body

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def record(self, kind: Kind) -> bytes:
        return frames.record(kind, greeting(os.urandom(16), os.getpid(), Settings().limits))

    def welcome(self, messages: int = 1024, size: int = 1 << 20) -> Self:
        """Be the side that was connected to, with one port and so much room in it."""
        self.await_frame(Kind.HELLO)
        self.socket.sendall(self.record(Kind.WELCOME))
        self.opened = int.from_bytes(self.await_frame(Kind.OPEN)[:8], "little")
        self.socket.sendall(frames.credit(self.opened, messages, size))
        return self

    def hello(self) -> Self:
        """Be the side that dialled, and open the port."""
        self.socket.sendall(self.record(Kind.HELLO))
        self.await_frame(Kind.WELCOME)
        self.opened = (1 << 63) | 1
        self.socket.sendall(frames.open_right(self.opened, bytes(16), bytes(16)))
        self.await_frame(Kind.CREDIT)
        return self

    def lend(self) -> None:
        """Send a port of this side."""
        entry = Entry(Part.MINE, 1024, 7, 1 << 20)
        self.socket.sendall(frames.message(Kind.MESSAGE, self.opened, 0, 0, [entry], []))

    def close(self) -> None:
        self.socket.close()


def detached(connection: socket.socket) -> socket.socket:
    """The same connection without TLS on top."""
    if isinstance(connection, ssl.SSLSocket):
        return socket.socket(fileno=connection.detach())
    return connection


class Watched:
    """What a handle is told of its end."""

    def __init__(self, handle: Port, thread: LoopThread) -> None:
        self.handle = handle
        self._thread = thread
        self.ends = 0
        handle.add_invalidation_handler(self._ended, loop=thread.loop)

    def _ended(self, port: Port) -> None:
        assert port is self.handle
        self.ends += 1

    def reason(self) -> str:
        """Why it has ended, of which it is told once."""
        assert eventually(lambda: self.ends)
        with pytest.raises(InvalidPortError) as caught:
            self.handle.send(b"in vain")
        self._thread.call(lambda: None)
        assert self.ends == 1
        assert not self.handle.is_valid
        return str(caught.value)


class Stage:
    """Connections between this process and peers by hand, all of one kind."""

    def __init__(self, pki: Pki, stack: ExitStack, *, encrypted: bool) -> None:
        self._pki = pki
        self._stack = stack
        self.options: dict[str, Any] = {"tls": pki.config()} if encrypted else {}
        self.encrypted = encrypted
        self.thread = stack.enter_context(LoopThread())

    def dial(self, settings: Settings = QUIET, **room: int) -> tuple[RemoteSocketPort, Peer]:
        """A handle, and the peer that it is connected to."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.settimeout(PATIENCE)
            handle = SocketPort.remote(*listening.getsockname(), settings=settings, **self.options)
            accepted = Background(lambda: self._accept(listening, room))
            handle.connect(PATIENCE)
            peer: Peer = accepted.result()
        self._stack.callback(peer.close)
        self._stack.callback(handle.invalidate)
        return handle, peer

    def _accept(self, listening: socket.socket, room: dict[str, int]) -> Peer:
        connection = listening.accept()[0]
        connection.settimeout(PATIENCE)
        if self.encrypted:
            context = self.options["tls"].server().context
            connection = context.wrap_socket(
                connection, server_side=True, suppress_ragged_eofs=False
            )
        return Peer(connection).welcome(**room)

    def listen(self, settings: Settings = QUIET) -> tuple[Port, Peer, SocketPort]:
        """A port that arrived from the peer, the peer that dialled, and what it dialled."""
        port = self._stack.enter_context(SocketPort(settings=settings, **self.options))
        connection = socket.create_connection(place_of(port), PATIENCE)
        if self.encrypted:
            context = self.options["tls"].client().context
            connection = context.wrap_socket(connection, suppress_ragged_eofs=False)
        peer = Peer(connection).hello()
        self._stack.callback(peer.close)
        peer.lend()
        (handle,) = port.receive(PATIENCE).ports
        return handle, peer, port


@pytest.fixture(params=["plain", "TLS"])
def stage(request: pytest.FixtureRequest, pki: Pki, no_leftovers: None) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(pki, stack, encrypted=request.param == "TLS")


def end(peer: Peer) -> None:
    """End properly, after what was sent."""
    if isinstance(peer.socket, ssl.SSLSocket):
        peer.socket.setblocking(False)
        try:
            peer.socket.unwrap()
        except ssl.SSLError:
            pass  # the other side's goodbye is not awaited
    detached(peer.socket).close()


def cut(peer: Peer) -> None:
    """End without a word."""
    detached(peer.socket).close()


HALF = frames.simple_message(Kind.MESSAGE, 7, 0, 0, bytes(1000))[:500]
ENDINGS: dict[str, tuple[Callable[[Peer], object], str, str]] = {
    "reset": (lambda peer: reset(detached(peer.socket)), "reset by peer", "reset by peer"),
    "end": (end, "the peer has ended", "the peer has ended"),
    "cut": (cut, "the peer has ended", "without the goodbye of TLS"),
}


@pytest.mark.parametrize("side", ["dialled", "accepted"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("begun", [b"", HALF], ids=["between frames", "in mid-frame"])
def test_an_end_is_told_once_with_the_reason(
    stage: Stage, side: str, ending: str, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    handle: Port
    if side == "dialled":
        handle, peer = stage.dial()
    else:
        handle, peer, port = stage.listen()
    watched = Watched(handle, stage.thread)
    peer.socket.sendall(begun)
    do, plain, encrypted = ENDINGS[ending]
    do(peer)
    expected = encrypted if stage.encrypted else plain
    if begun and expected == "the peer has ended":
        expected = "it broke off in mid-frame"
    assert expected in watched.reason()
    if side == "accepted":
        assert eventually(lambda: is_quiet(port))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_request_that_waits_is_told(stage: Stage, ending: str) -> None:
    handle, peer = stage.dial()
    request = Background(lambda: handle.request(b"?", reply_timeout=PATIENCE))
    peer.await_frame(Kind.MESSAGE)
    do, plain, encrypted = ENDINGS[ending]
    do(peer)
    with pytest.raises(BecameInvalidError, match=encrypted if stage.encrypted else plain):
        request.result()


def test_a_send_that_waits_for_room_is_told(stage: Stage) -> None:
    handle, peer = stage.dial(messages=1)
    send_until_full(handle, 0)
    sending = Background(lambda: handle.send(b"waits", timeout=PATIENCE))
    assert eventually(lambda: addressed(handle).waiting)
    reset(detached(peer.socket))
    with pytest.raises(BecameInvalidError, match="reset by peer"):
        sending.result()


# Peers that are silent.


def test_a_peer_that_is_silent_is_found_by_the_heartbeat(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "portkit")
    handle, peer = stage.dial(Settings(heartbeat=HEARTBEAT))
    watched = Watched(handle, stage.thread)
    start = time.monotonic()
    assert f"nothing came from the peer for {HEARTBEAT} s" in watched.reason()
    assert time.monotonic() - start < 5
    peer.await_frame(Kind.PING)
    assert sum("nothing came" in record.getMessage() for record in caplog.records) == 1


def test_so_is_one_that_connected(stage: Stage) -> None:
    handle, peer, port = stage.listen(Settings(heartbeat=HEARTBEAT))
    assert f"nothing came from the peer for {HEARTBEAT} s" in Watched(handle, stage.thread).reason()
    peer.await_frame(Kind.PING)
    assert eventually(lambda: is_quiet(port))


def test_any_byte_is_a_sign_of_life(stage: Stage) -> None:
    handle, peer = stage.dial(Settings(heartbeat=PATIENT_HEARTBEAT))
    frame = frames.simple_message(Kind.MESSAGE, 7, 0, 0, bytes(100))
    begun = time.monotonic()
    for byte in frame[:30]:  # one that never gets whole
        peer.socket.sendall(bytes([byte]))
        time.sleep(PATIENT_HEARTBEAT / 20)
    assert time.monotonic() - begun > PATIENT_HEARTBEAT
    assert handle.is_valid


def test_who_answers_pings_stays(stage: Stage) -> None:
    handle, peer = stage.dial(Settings(heartbeat=PATIENT_HEARTBEAT))
    begun = time.monotonic()
    while time.monotonic() - begun < 2 * PATIENT_HEARTBEAT:
        peer.await_frame(Kind.PING)
        peer.socket.sendall(frames.pong())
    assert handle.is_valid


# Peers that do not read.


def test_a_peer_that_does_not_read_is_waited_for_and_gets_all(stage: Stage) -> None:
    """The outbox is bounded; when the peer reads on, all that was accepted comes, in order."""
    handle, peer = stage.dial(messages=1 << 30, size=1 << 40)
    accepted = send_until_full(handle, 0.1)
    link = addressed(handle).link
    assert link.outbox.size <= link.node.settings.outbox_limit + 2 * LARGE
    with pytest.raises(SendTimeoutError):
        handle.send(b"one more", timeout=0)
    sending = Background(lambda: handle.send(b"#%06d#" % accepted, timeout=PATIENCE))
    parts: dict[bytes, bytes] = {}
    came: list[int] = []
    while len(came) <= accepted:
        kind, body = peer.next()
        if kind == Kind.PART:  # the number of a large message, and a part of it
            parts[body[:8]] = parts.get(body[:8], b"") + body[8:]
            if len(parts[body[:8]]) == HEADER.unpack_from(parts[body[:8]])[0]:
                came.append(number_in(parts.pop(body[:8])))
        elif kind == Kind.MESSAGE:
            came.append(number_in(body))
    sending.result()
    assert came == list(range(accepted + 1))
    assert handle.is_valid


LARGE = 100_000


def send_until_full(handle: Port, timeout: float) -> int:
    """Send large messages until that raises for want of room; how many were accepted."""
    accepted = 0
    try:
        while True:
            handle.send(b"#%06d#" % accepted + bytes(LARGE), timeout=timeout)
            accepted += 1
    except SendTimeoutError:
        return accepted


def number_in(body: bytes) -> int:
    """Of such a message."""
    found = re.search(rb"#(\d{6})#", body)
    assert found is not None
    return int(found[1])


def test_a_peer_that_never_reads_is_found_by_the_heartbeat(stage: Stage) -> None:
    handle, _ = stage.dial(Settings(heartbeat=HEARTBEAT), messages=1 << 30, size=1 << 40)
    watched = Watched(handle, stage.thread)
    with pytest.raises(InvalidPortError, match="nothing came from the peer"):
        send_until_full(handle, PATIENCE)
    assert f"nothing came from the peer for {HEARTBEAT} s" in watched.reason()


# Bytes that are none of a peer's.


@pytest.mark.parametrize(
    "garbage",
    [
        HEADER.pack(0, Kind.MESSAGE, 0, 0),
        HEADER.pack(8, 200, 0, 0),
        frames.simple_message(Kind.MESSAGE, 12345, 0, 0, b"to nobody")[:-1] + b"?" * 100,
        frames.record(Kind.HELLO, b"{}"),
        frames.auth(1, bytes(32)),
    ],
    ids=["no length", "unknown type", "noise", "a second greeting", "a late proof"],
)
def test_garbage_ends_one_link_with_a_reason(
    stage: Stage, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "portkit")
    found, peer, port = stage.listen()
    with dialled(port, settings=QUIET, **stage.options) as other:
        watched = Watched(found, stage.thread)
        peer.socket.sendall(garbage)
        reason = watched.reason().rpartition("ended: ")[2].rpartition("is gone: ")[2]
        assert [reason in record.getMessage() for record in caplog.records].count(True) == 1
        other.send(b"still here")
        assert port.receive(PATIENCE).data == b"still here"


# Whole connections that come and go.


def test_many_connections_that_break_off_leave_nothing(stage: Stage) -> None:
    with echoing(settings=QUIET, **stage.options) as port:
        for count in range(30):
            connection = socket.create_connection(place_of(port), PATIENCE)
            if stage.encrypted:
                context = stage.options["tls"].client().context
                connection = context.wrap_socket(connection)
            peer = Peer(connection).hello()
            peer.socket.sendall(HALF[: count * 10])
            (end, cut, lambda peer: reset(detached(peer.socket)))[count % 3](peer)
        assert eventually(lambda: is_quiet(port))
        with dialled(port, **stage.options) as remote:
            assert remote.request(b"?").data == b"?"
