"""Handshakes that break off, hang or go wrong anywhere: an error at once, and nothing is left."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretBytes

from portkit import AuthenticationError, PortError, PreSharedKey, SocketPort, TransportError
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, NONCE_SIZE, Kind
from portkit.link.node import Settings
from portkit_transports.socket import handshake as handshake_module
from portkit_transports.socket.handshake import ServerHandshake
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.ports.helpers import Background
from tests.support import PATIENCE, Reports, eventually
from tests.transports.socket.connections import (
    dialled,
    echoing,
    is_quiet,
    open_sockets,
    place_of,
    reset,
)
from tests.transports.socket.pki import Pki
from tests.transports.socket.proxy import Proxy

KEY = PreSharedKey(id="k", secret=SecretBytes(b"the secret of both"))
AT_ONCE = 2.5

Options = Callable[[Pki], dict[str, Any]]
KINDS: dict[str, Options] = {
    "key": lambda _: {"key": KEY},
    "TLS": lambda pki: {"tls": pki.config()},
    "TLS and key": lambda pki: {"tls": pki.config(), "key": KEY},
}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_connection_that_is_cut_anywhere_leaves_nothing(kind: str, pki: Pki) -> None:
    options = KINDS[kind](pki)
    with echoing(**options) as port, Proxy(place_of(port)) as proxy:
        for count in [1, 5, 9, 40, 60, 120, 200, 517, 600, 1000, 1500, 1800, 2000]:
            proxy.cut_after(count)
            # Each with a connection of its own, as each has other arguments.
            remote = SocketPort.remote(
                proxy.host, proxy.port, connect_timeout=PATIENCE + count, **options
            )
            start = time.monotonic()
            assert not isinstance(error_of(remote), AuthenticationError), "nobody refused anybody"
            assert time.monotonic() - start < AT_ONCE
            remote.invalidate()
            proxy.cut()
            assert eventually(lambda: is_quiet(port))
        with dialled(port, **options) as remote:
            assert remote.request(b"?").data == b"?"


def error_of(remote: RemoteSocketPort) -> PortError | None:
    """Of a request."""
    try:
        remote.request(b"?", send_timeout=PATIENCE, reply_timeout=PATIENCE)
    except PortError as error:
        return error.with_traceback(None)
    return None


@kinds
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_listener_that_ends_at_once(kind: str, how: str, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        remote = SocketPort.remote(*listening.getsockname(), **KINDS[kind](pki))

        def serve() -> None:
            connection = listening.accept()[0]
            connection.recv(1)
            if how == "reset":
                reset(connection)
            else:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
                connection.close()

        served = Background(serve)
        match = "was lost: .*reset" if how == "reset" else "ended in the midst of .*handshake"
        with pytest.raises(TransportError, match=match):
            remote.connect(PATIENCE)
        served.result()
        remote.invalidate()


@kinds
def test_a_listener_that_says_nothing(kind: str, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        remote = SocketPort.remote(
            *listening.getsockname(), connect_timeout=0.3, **KINDS[kind](pki)
        )
        start = time.monotonic()
        with pytest.raises(TransportError, match=r"within 0\.3 s"):
            remote.connect(PATIENCE)
        assert 0.2 < time.monotonic() - start < AT_ONCE
        remote.invalidate()


ANSWERS: dict[str, tuple[bytes, str]] = {
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no frame|does not: give tls="),
    "a mail server": (b"220 mail.example ESMTP\r\n", "is no frame|does not: give tls="),
    "endless frames": (HEADER.pack(1 << 31, Kind.AUTH, 2, 0) * 9, "is no frame|give tls="),
    "another frame": (frames.ping(), "does not keep to the exchange|give tls="),
    "a proof, but no challenge": (
        frames.auth(4, bytes(NONCE_SIZE)),
        "does not keep to the exchange|give tls=",
    ),
    "a refusal": (frames.refusal("go away"), "the peer refused .*go away"),
    "a refusal of control characters": (
        frames.refusal("\x1b[2J\r\ngo\0away\x9b"),
        r"the peer refused .*\?\[2J\?\?go\?away\?",
    ),
    "a refusal that is no text": (
        HEADER.pack(HEADER_SIZE + 4, Kind.REFUSED, 0, 0) + b"\xff\xfe\xfd\xfc",
        "the peer refused the connection: ",
    ),
}


@pytest.mark.parametrize("kind", ["key", "TLS"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_who_dials_something_else_is_told(kind: str, answer: str, pki: Pki) -> None:
    data, match = ANSWERS[answer]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        remote = SocketPort.remote(*listening.getsockname(), **KINDS[kind](pki))

        def serve() -> None:
            with listening.accept()[0] as connection:
                connection.settimeout(PATIENCE)
                connection.recv(1)
                connection.sendall(data)
                try:
                    while connection.recv(1 << 16):
                        pass
                except ConnectionResetError:
                    pass

        served = Background(serve)
        start = time.monotonic()
        with pytest.raises(AuthenticationError, match=match) as caught:
            remote.connect(PATIENCE)
        assert time.monotonic() - start < AT_ONCE
        assert str(caught.value).isprintable()
        remote.invalidate()
        served.result()


def test_a_dialler_that_is_given_up_closes_its_connection(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        before = open_sockets()
        remote = SocketPort.remote(*listening.getsockname(), key=KEY)
        remote.send(b"kept until then", timeout=0)
        with listening.accept()[0] as connection:
            connection.settimeout(PATIENCE)
            connection.recv(1)
            other = SocketPort.remote(*listening.getsockname(), key=KEY)
            assert other == remote
            other.invalidate()
            remote.invalidate()
            del other, remote
            connection.sendall(frames.refusal("no"))
            while connection.recv(1 << 16):
                pass
        assert eventually(lambda: open_sockets() == before)


def test_a_port_that_ends_gives_up_those_who_are_in_their_handshake() -> None:
    with SocketPort(key=KEY) as port:
        crowd = [socket.create_connection(place_of(port), PATIENCE) for _ in range(5)]
        listener = port._listener
        assert listener is not None
        assert eventually(lambda: len(listener._handshakes) == 5)
    for one in crowd:
        with one:
            assert not one.recv(1)


# Refusals, and who does not hear them.


@pytest.fixture
def key_port(no_leftovers: None) -> Iterator[SocketPort]:
    with SocketPort(key=KEY, settings=Settings(greeting_timeout=PATIENCE)) as port:
        yield port


def test_who_sends_on_after_a_refusal_is_cut_off(
    key_port: SocketPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake_module, "_MOST_DRAINED", 1 << 17)
    with (
        socket.create_connection(place_of(key_port), PATIENCE) as flood,
        pytest.raises((ConnectionResetError, BrokenPipeError)),
    ):
        send_for_ever(flood)
    assert eventually(lambda: is_quiet(key_port))


def send_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"garbage " * 1000)


def test_who_stays_after_a_refusal_is_cut_off(
    key_port: SocketPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake_module, "_FAREWELL", 0.2)
    with socket.create_connection(place_of(key_port), PATIENCE) as one:
        one.sendall(b"garbage!")
        data = b""
        while more := one.recv(1 << 16):
            data += more
        assert HEADER.unpack_from(data)[:2] == (len(data), Kind.REFUSED)
        start = time.monotonic()
        assert eventually(lambda: is_quiet(key_port))
        assert time.monotonic() - start < AT_ONCE


def test_who_goes_before_it_hears_the_refusal_does_no_harm(key_port: SocketPort) -> None:
    for _ in range(20):
        one = socket.create_connection(place_of(key_port), PATIENCE)
        one.sendall(b"garbage!")
        reset(one)
    assert eventually(lambda: is_quiet(key_port))
    with dialled(key_port, key=KEY):
        pass


def test_a_bug_in_a_handshake_costs_that_connection_alone(
    key_port: SocketPort,
    monkeypatch: pytest.MonkeyPatch,
    reports: Reports,
    caplog: pytest.LogCaptureFixture,
) -> None:

    def broken(self: ServerHandshake, channel: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(ServerHandshake, "_begin_exchange", broken)
        with socket.create_connection(place_of(key_port), PATIENCE) as one:
            one.sendall(frames.auth(1, bytes(NONCE_SIZE) + b"k"))
            one.recv(1 << 16)
        assert eventually(lambda: reports.records)
    assert isinstance(reports.take()[0], ZeroDivisionError)
    caplog.clear()  # what is kept of the report keeps the connection
    with dialled(key_port, key=KEY):
        pass


@pytest.mark.parametrize("tls", [False, True])
def test_a_refusal_of_any_length_is_no_tls(tls: bool, pki: Pki) -> None:
    """Its first byte is that of a length, and may be as a record's of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        for length in [*range(18, 27), *range(274, 282), *range(786, 794)]:
            remote = SocketPort.remote(
                *listening.getsockname(),
                connect_timeout=PATIENCE + length,
                tls=pki.config() if tls else None,
            )
            text = "x" * (length - HEADER_SIZE)
            served = Background(lambda t=text: refuse(listening, t))  # type: ignore[misc]
            with pytest.raises(AuthenticationError, match=f": {text}$"):
                remote.connect(PATIENCE)
            remote.invalidate()
            served.result()


def refuse(listening: socket.socket, text: str) -> None:
    with listening.accept()[0] as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(frames.refusal(text))
        while connection.recv(1 << 16):
            pass
