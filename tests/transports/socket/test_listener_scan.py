"""A scan of the listening port by a peer without a key learns nothing but the refusal."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest
from pydantic import SecretBytes

from portkit import PreSharedKey, SocketPort
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, NONCE_SIZE, Kind
from portkit.link.greeting import greeting
from portkit.link.node import Settings
from tests.support import PATIENCE, eventually
from tests.transports.socket.connections import dialled, is_quiet, place_of
from tests.transports.socket.pki import Pki

KEY = PreSharedKey(id="the-key-id", secret=SecretBytes(b"nobody else has this"))
OTHER = PreSharedKey(id="second-key-id", secret=SecretBytes(b"nor has anybody this one"))
SETTINGS = Settings(greeting_timeout=PATIENCE)
LIMIT = 2.0
"""Seconds for a handshake, where a test waits for that."""

Connect = Callable[[], socket.socket]


@pytest.fixture
def port(request: pytest.FixtureRequest, pki: Pki, no_leftovers: None) -> Iterator[SocketPort]:
    tls = pki.config() if request.param == "TLS" else None
    waits = "limit" in request.fixturenames
    settings = SETTINGS._replace(greeting_timeout=LIMIT) if waits else SETTINGS
    with SocketPort(tls=tls, key=[KEY, OTHER], queue_limit=7531, settings=settings) as made:
        yield made
        assert eventually(lambda: is_quiet(made))


@pytest.fixture
def limit() -> None:
    """For tests that wait until the handshake's time is over, which then is short."""


@pytest.fixture
def connect(request: pytest.FixtureRequest, port: SocketPort, pki: Pki) -> Connect:
    """Makes connections to the port; over TLS, of somebody who is trusted that far."""
    encrypted = request.node.callspec.params["port"] == "TLS"

    def made() -> socket.socket:
        connection = socket.create_connection(place_of(port), PATIENCE)
        if not encrypted:
            return connection
        return pki.config("scanner").client().context.wrap_socket(connection)

    return made


both = pytest.mark.parametrize("port", ["plain", "TLS"], indirect=True)

HELLO = frames.record(Kind.HELLO, greeting(b"i" * 16, 1, Settings().limits))
ASKED = frames.auth(1, b"n" * NONCE_SIZE + KEY.id.encode())
PROBES: dict[str, bytes] = {
    "zeros": bytes(100),
    "noise": Random(5).randbytes(5000),
    "text": b"\r\n\r\nhelp\r\n",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.0\r\n",
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01" + bytes(100),
    "a length without end": HEADER.pack(0xFFFFFFFF, Kind.HELLO, 0, 0),
    "no length": HEADER.pack(0, Kind.HELLO, 0, 0),
    "HELLO": HELLO,
    "WELCOME": frames.record(Kind.WELCOME, HELLO[HEADER_SIZE:]),
    "REFUSED": frames.refusal("no"),
    "OPEN": frames.open_right(1 << 63, bytes(16), bytes(16)),
    "HELLO and OPEN": HELLO + frames.open_right(1 << 63, bytes(16), bytes(16)),
    "MESSAGE": frames.simple_message(Kind.MESSAGE, 1, 0, 0, b"data"),
    "a request": frames.simple_message(Kind.MESSAGE, 1 << 63, 0, 5, b"data"),
    "REPLY": frames.simple_message(Kind.REPLY, 1, 0, 0, b"data"),
    "FAILED": frames.failed(1, 1, "why"),
    "CREDIT": frames.credit(1, 1, 1),
    "RELEASE": frames.release(1, 1),
    "DEAD": frames.dead(1),
    "SEGMENT": frames.segment(1, 1),
    "RETURN": frames.segment_return(1),
    "FORGET": frames.segment_forget(1),
    "PING": frames.ping(),
    "PONG": frames.pong(),
    "PART": HEADER.pack(HEADER_SIZE + 12, Kind.PART, 1, 0) + bytes(12),
    "AUTH of step 2": frames.auth(2, b"n" * NONCE_SIZE),
    "AUTH of step 3": frames.auth(3, b"n" * NONCE_SIZE),
    "AUTH with too long an id": frames.auth(1, b"n" * NONCE_SIZE + b"i" * 65),
    "AUTH and a wrong proof": ASKED + frames.auth(3, b"p" * NONCE_SIZE),
    "AUTH and HELLO": ASKED + HELLO,
    "AUTH twice": ASKED + ASKED,
}
WAITING: dict[str, bytes] = {
    "nothing": b"",
    "a byte": b"\0",
    "half a frame": HELLO[:-1],
    "AUTH without an id": frames.auth(1, b"n" * NONCE_SIZE),
    "AUTH": ASKED,
    "AUTH of an unknown id": frames.auth(1, b"n" * NONCE_SIZE + b"who knows"),
    "AUTH of an id that is no text": frames.auth(1, b"n" * NONCE_SIZE + b"\xff\0"),
}
"""After these, more is awaited."""


def came(connection: socket.socket) -> list[tuple[int, int, bytes]]:
    """All frames until the end: type, flags and body."""
    data = b""
    with connection:
        while more := connection.recv(1 << 16):
            data += more
    found = []
    while data:
        size, kind, flags, count = HEADER.unpack_from(data)
        assert HEADER_SIZE <= size <= len(data)
        assert not count
        found.append((kind, flags, data[HEADER_SIZE:size]))
        data = data[size:]
    return found


def secrets_of(port: SocketPort) -> list[bytes]:
    """What a stranger must not learn."""
    numbers = [os.getpid(), port.queue_limit, *SETTINGS.limits]
    return [
        *[b"%d" % number for number in numbers if number > 1000],  # others stand for lengths
        *[key.id.encode() for key in (KEY, OTHER)],
        *[key.secret.get_secret_value() for key in (KEY, OTHER)],
        port.port_id,
        port._node.incarnation,
        port._node.incarnation.hex().encode(),
        socket.gethostname().encode(),
        b"version",
        b"max_",
    ]


@both
def test_all_that_comes_back_is_a_nonce_at_most_and_the_refusal(
    port: SocketPort, connect: Connect
) -> None:
    for name, probe in PROBES.items():
        connection = connect()
        connection.sendall(probe)
        check(name, came(connection), port)


def check(name: str, found: list[tuple[int, int, bytes]], port: SocketPort) -> None:
    """Whether what came back for that probe tells nothing."""
    *before, (kind, _, text) = found
    assert kind == Kind.REFUSED, name
    nonce = [(Kind.AUTH, 2, NONCE_SIZE)]
    assert [(kind, step, len(body)) for kind, step, body in before] in ([], nonce), name
    assert [secret for secret in secrets_of(port) if secret in text] == [], name


@both
@pytest.mark.usefixtures("limit")
def test_who_does_not_go_on_learns_no_more_when_the_time_is_over(
    port: SocketPort, connect: Connect
) -> None:
    scanners = []
    for probe in WAITING.values():
        scanners.append(connect())
        if probe:
            scanners[-1].sendall(probe)
    for name, scanner in zip(WAITING, scanners, strict=True):
        found = came(scanner)
        check(name, found, port)
        assert found[-1][2] == b"the handshake was not over within 2.0 s"


@both
def test_a_known_id_is_not_told_from_others(port: SocketPort, connect: Connect) -> None:
    def answers(key_id: bytes) -> list[tuple[int, int, bytes]]:
        connection = connect()
        connection.sendall(frames.auth(1, os.urandom(NONCE_SIZE) + key_id))
        connection.sendall(frames.auth(3, os.urandom(NONCE_SIZE)))
        return came(connection)

    challenge, refusal = answers(KEY.id.encode())
    for key_id in (OTHER.id.encode(), b"who knows", b"x", b"\xff" * 64):
        other, same = answers(key_id)
        assert same == refusal
        assert (other[:2], len(other[2])) == (challenge[:2], len(challenge[2]))
        assert other[2] != challenge[2]


@both
@pytest.mark.usefixtures("limit")
def test_a_scan_puts_nobody_else_off(port: SocketPort, connect: Connect, pki: Pki) -> None:
    tls = None if port._security.tls is None else pki.config("client")
    scanners = []
    probes = PROBES | WAITING
    for probe in probes.values():
        scanners.append(connect())
        scanners[-1].sendall(probe)
    start = time.monotonic()
    with dialled(port, tls, key=KEY) as remote:
        remote.send(b"let me through")
        assert port.receive(PATIENCE).data == b"let me through"
    assert time.monotonic() - start < 2.5
    for name, scanner in zip(probes, scanners, strict=True):
        check(name, came(scanner), port)


def test_without_a_certificate_not_even_that_comes(pki: Pki) -> None:
    """What TLS shows to everybody is the listener's certificate."""
    with SocketPort(tls=pki.config(), key=KEY, settings=SETTINGS) as port:
        context = pki.without_certificate().client().context
        with context.wrap_socket(socket.create_connection(place_of(port), PATIENCE)) as scanner:
            scanner.sendall(ASKED)
            with pytest.raises(OSError, match=r"CERTIFICATE_REQUIRED|reset"):
                scanner.recv(1)
        assert eventually(lambda: is_quiet(port))
