"""Floods of connections, and a system that has no more: who is welcome gets in all the same."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import pytest
from pydantic import SecretBytes

from portkit import (
    AuthenticationError,
    NameInUseError,
    PreSharedKey,
    SocketPort,
    TransportError,
)
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, Kind
from portkit.link.greeting import greeting
from portkit.link.node import Settings
from portkit_transports.socket.shared_key import KeyDialler
from tests.support import PATIENCE, eventually, open_descriptors
from tests.transports.socket.connections import (
    dialled,
    echoing,
    few_descriptors,
    is_quiet,
    place_of,
    reset,
)
from tests.transports.socket.pki import Pki

KEY = PreSharedKey(id="k", secret=SecretBytes(b"the secret of both"))
AT_ONCE = 2.5
ELSEWHERE = "127.0.0.2"
"""Another address of this host, as if it were another host."""

Options = Callable[[Pki], dict[str, Any]]
KINDS: dict[str, Options] = {
    "plain": lambda _: {},
    "key": lambda _: {"key": KEY},
    "TLS": lambda pki: {"tls": pki.config()},
}
kinds = pytest.mark.parametrize("kind", KINDS)


class Raw:
    """A connection by hand, perhaps from another address."""

    def __init__(self, port: SocketPort, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(place_of(port), PATIENCE, source_address=(source, 0))
        self._received = b""

    def next(self) -> tuple[int, bytes]:
        """The next frame: its type, and the whole of it."""
        head = self._receive(HEADER_SIZE)
        size, kind, _, _ = HEADER.unpack(head)
        return kind, head + self._receive(size - HEADER_SIZE)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def greet(self) -> None:
        """Prove the key, and be welcomed."""
        exchange = KeyDialler(KEY, b"")
        self.socket.sendall(exchange.begin())
        while not exchange.is_done:
            self.socket.sendall(exchange.received(self.next()[1]))
        self.hello()

    def hello(self) -> None:
        record = greeting(os.urandom(16), os.getpid(), Settings().limits)
        self.socket.sendall(frames.record(Kind.HELLO, record))
        assert self.next()[0] == Kind.WELCOME

    def refusal(self) -> str:
        """Why it is not wanted: the only thing that comes before the end."""
        kind, frame = self.next()
        assert kind == Kind.REFUSED
        assert not self.socket.recv(1)
        return frame[HEADER_SIZE:].decode()

    def ended(self) -> bool:
        """Whether the end comes, perhaps after a reason that this side does not understand."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.WARNING, "portkit")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def in_flight(port: SocketPort) -> int:
    """Connections that have not proved who they are."""
    assert port._listener is not None
    return len(port._listener._handshakes) + len(port._node._awaited)


@contextmanager
def silent(port: SocketPort, count: int) -> Iterator[list[Raw]]:
    """So many connections that say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(Raw(port)) for _ in range(count)]


# Those who connect and say nothing.


@kinds
def test_one_host_may_not_have_many_connections_that_say_nothing(
    kind: str, pki: Pki, logged: Callable[[], str]
) -> None:
    settings = Settings(max_handshakes_per_host=4, greeting_timeout=PATIENCE)
    with (
        SocketPort(settings=settings, **KINDS[kind](pki)) as port,
        silent(port, 4),
    ):
        assert eventually(lambda: in_flight(port) == 4)
        start = time.monotonic()
        with Raw(port) as late:
            text = late.refusal()
        assert time.monotonic() - start < AT_ONCE
        assert "4 connections from 127.0.0.1 are in their handshake already" in text
        assert text.removeprefix("the port refuses the connection: ") in logged()
        assert in_flight(port) == 4


@kinds
def test_a_dialler_is_told_that_there_are_too_many(kind: str, pki: Pki) -> None:
    settings = Settings(max_handshakes_per_host=2, greeting_timeout=PATIENCE)
    options = KINDS[kind](pki)
    with SocketPort(settings=settings, **options) as port, silent(port, 2) as crowd:
        assert eventually(lambda: in_flight(port) == 2)
        remote = SocketPort.remote(*place_of(port), **options)
        for _ in range(10):
            with pytest.raises(AuthenticationError, match=r"2 connections from 127\.0\.0\.1 are"):
                remote.connect(PATIENCE)
        for raw in crowd:
            raw.close()
        assert eventually(lambda: in_flight(port) == 0)
        remote.connect(PATIENCE)
        remote.invalidate()


@pytest.mark.parametrize("kind", ["plain", "key"])
def test_another_host_gets_in(kind: str, pki: Pki) -> None:
    settings = Settings(max_handshakes_per_host=4, greeting_timeout=PATIENCE)
    with SocketPort(settings=settings, **KINDS[kind](pki)) as port, silent(port, 4):
        assert eventually(lambda: in_flight(port) == 4)
        with Raw(port, ELSEWHERE) as other:
            if kind == "key":
                other.greet()
            else:
                other.hello()
            with Raw(port) as late:
                assert "4 connections from 127.0.0.1" in late.refusal()


def test_all_hosts_together_may_not_either() -> None:
    settings = Settings(max_handshakes=4, greeting_timeout=PATIENCE)
    with SocketPort(settings=settings, key=KEY) as port, silent(port, 4):
        assert eventually(lambda: in_flight(port) == 4)
        with Raw(port, ELSEWHERE) as late:
            assert "4 connections are in their handshake already" in late.refusal()


@kinds
def test_who_says_nothing_is_dropped_in_time(
    kind: str, pki: Pki, logged: Callable[[], str]
) -> None:
    options = KINDS[kind](pki)
    settings = Settings(max_handshakes_per_host=8, greeting_timeout=0.7)
    with echoing(settings=settings, **options) as port:
        with silent(port, 8) as crowd:
            for raw in crowd:
                assert raw.ended()
                raw.close()
            assert eventually(lambda: is_quiet(port))
            with dialled(port, **options) as remote:
                assert remote.request(b"?").data == b"?"
        assert "within 0.7 s" in logged()


def test_a_flood_leaves_no_more_open_than_the_limit_allows() -> None:
    settings = Settings(max_handshakes_per_host=16, greeting_timeout=PATIENCE)
    with SocketPort(settings=settings, key=KEY) as port:
        before = len(open_descriptors())
        for _ in range(20):
            with silent(port, 50) as crowd:
                assert "16 connections from" in crowd[-1].refusal()
                assert len(open_descriptors()) <= before + 50 + 16 + 2
                assert in_flight(port) <= 16
            assert eventually(lambda: in_flight(port) == 0)


def test_a_flood_of_garbage_leaves_no_more_open_than_that_either(
    logged: Callable[[], str],
) -> None:
    """Who is refused has a moment to read why; those who take it do not add up."""
    settings = Settings(max_handshakes_per_host=16, greeting_timeout=PATIENCE)
    with SocketPort(settings=settings, key=KEY) as port:
        before = len(open_descriptors())
        with silent(port, 100) as crowd:
            for raw in crowd:
                try:
                    raw.socket.sendall(b"garbage\r\n")
                except (BrokenPipeError, ConnectionResetError):
                    pass  # it was refused before
            assert eventually(lambda: logged().count("was refused") >= 100)
            assert len(open_descriptors()) <= before + 100 + 16 + 2
        assert eventually(lambda: len(open_descriptors()) <= before)


# Those who are slow.


@pytest.mark.parametrize("kind", ["plain", "key", "TLS"])
def test_bytes_one_by_one_do_not_put_the_limit_off(kind: str, pki: Pki) -> None:
    hello = b"\x16\x03\x01\x02\x00" if kind == "TLS" else HEADER.pack(4000, Kind.HELLO, 0, 0)
    settings = Settings(greeting_timeout=0.3)
    with SocketPort(settings=settings, **KINDS[kind](pki)) as port, Raw(port) as slow:
        slow.socket.settimeout(0.02)
        start = time.monotonic()
        for byte in hello + bytes(3000):
            try:
                slow.socket.send(bytes([byte]))
                if slow.socket.recv(1 << 16, socket.MSG_PEEK) is not None:
                    break  # the refusal, or the end
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.25 < time.monotonic() - start < 0.3 + AT_ONCE
        assert slow.ended()
        slow.close()
        assert eventually(lambda: is_quiet(port))


def test_handshakes_of_tls_that_stop_half_way_are_dropped(
    pki: Pki, logged: Callable[[], str]
) -> None:
    context = pki.config("client").client().context
    with echoing(tls=pki.config(), settings=Settings(greeting_timeout=0.7)) as port:
        with silent(port, 8) as crowd:
            for raw in crowd:
                tls = context.wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO())
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                raw.socket.sendall(outgoing.read())
            for raw in crowd:
                assert raw.ended()
        assert eventually(lambda: is_quiet(port))
        assert logged().count("the handshake was not over within 0.7 s") == 8
        with dialled(port, pki.config("client")) as remote:
            assert remote.request(b"?").data == b"?"


@kinds
def test_those_who_are_gone_before_they_are_accepted_do_no_harm(kind: str, pki: Pki) -> None:
    options = KINDS[kind](pki)
    with echoing(**options) as port:
        for _ in range(50):
            reset(socket.create_connection(place_of(port), PATIENCE))
        assert eventually(lambda: is_quiet(port))
        with dialled(port, **options) as remote:
            assert remote.request(b"?").data == b"?"


# Links.


@kinds
def test_one_link_too_many_is_refused(kind: str, pki: Pki) -> None:
    options = KINDS[kind](pki)
    settings = Settings(max_links=3)
    with echoing(settings=settings, **options) as port, ExitStack() as stack:
        remotes = [
            # Handles that are equal share their link; these are not.
            stack.enter_context(dialled(port, connect_timeout=11.0 + number, **options))
            for number in range(3)
        ]
        late = SocketPort.remote(*place_of(port), **options)
        with pytest.raises(AuthenticationError, match="it has 3 connections already"):
            late.connect(PATIENCE)
        assert [remote.request(b"?").data for remote in remotes] == [b"?"] * 3
        remotes[0].invalidate()
        assert eventually(lambda: port.connections < 3)
        late.connect(PATIENCE)
        late.invalidate()


def test_the_default_allows_4096_links() -> None:
    with SocketPort() as port:
        assert port._node.settings.max_links == 4096


# A system without descriptors.


def test_without_descriptors_accepting_pauses_and_goes_on(logged: Callable[[], str]) -> None:
    with echoing() as port, dialled(port) as first, ExitStack() as stack:
        crowd = [stack.enter_context(socket.socket()) for _ in range(10)]
        with few_descriptors(3):
            for one in crowd:
                one.settimeout(PATIENCE)
                one.connect(place_of(port))  # they wait in the backlog
            assert eventually(lambda: "connections cannot be accepted for now" in logged())
            assert first.request(b"?").data == b"?"
            time.sleep(0.3)  # it is tried again meanwhile, which need not be told each time
            assert logged().count("cannot be accepted") == 1
            assert port.connections < 10
        assert eventually(lambda: port.connections == 11)
        for one in crowd:
            one.close()
        assert eventually(lambda: port.connections == 1)


def test_without_descriptors_dialling_says_so() -> None:
    with echoing() as port, dialled(port) as first:
        with few_descriptors(0):
            remote = SocketPort.remote(*place_of(port), connect_timeout=9.0)
            with pytest.raises(TransportError, match=r"Too many open files.*ulimit -n"):
                remote.connect(PATIENCE)
        remote.connect(PATIENCE)
        assert remote.request(b"?").data == first.request(b"?").data == b"?"
        remote.invalidate()


# Where to listen.


def test_a_number_that_is_taken() -> None:
    with SocketPort() as port:
        host, number = place_of(port)
        with pytest.raises(
            NameInUseError, match=rf"{host}:{number} is taken: .* such as 0 for any"
        ):
            SocketPort((host, number))
        with (
            socket.create_server((host, 0)) as other,
            pytest.raises(NameInUseError, match="is taken"),
        ):
            SocketPort(other.getsockname())
    with SocketPort((host, number)):
        pass  # it is free again at once


def test_a_number_is_free_again_although_connections_linger() -> None:
    with echoing() as port:
        with dialled(port) as remote:
            remote.request(b"?")
        place = place_of(port)
    with SocketPort(place) as again:
        assert place_of(again) == place


@pytest.mark.parametrize(
    ("host", "match"),
    [
        ("192.0.2.1", "cannot be listened at: .* give an address of this host"),
        ("no-such-host.invalid", "cannot be found: .* give an IP address of this host"),
        ("2001:db8::1", r"\[2001:db8::1\]:0 cannot be listened at"),
        ("a" * 300, "cannot be found"),
    ],
)
def test_an_address_that_is_not_of_this_host(host: str, match: str) -> None:
    with pytest.raises(TransportError, match=match):
        SocketPort((host, 0), key=KEY)


def test_a_number_for_which_this_user_has_no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: socket.socket, place: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:80 .*Permission denied.*may use"):
        SocketPort(("127.0.0.1", 80))
