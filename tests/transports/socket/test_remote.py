"""Remote ports over TCP that do not reconnect: the first use, sharing, and the one end."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portkit import (
    BecameInvalidError,
    InvalidPortError,
    NameNotFoundError,
    PortError,
    SendTimeoutError,
    SocketPort,
    TransportError,
)
from portkit.link.node import Settings
from portkit_transports.socket.shared_key import PreSharedKey
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually
from tests.transports.socket.ends import ASK, NEVER, SOON, Ends, Server, dialled, ends
from tests.transports.socket.pki import Pki

__all__ = ["ends"]

KEY = PreSharedKey.generate("test")


@contextmanager
def nobody() -> Iterator[int]:
    """The number of a port at which nobody listens, nor will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@contextmanager
def mute() -> Iterator[int]:
    """The number of a port where connections are made, and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """The number of a port whose backlog is full: connecting gets no answer."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        place = listening.getsockname()
        waiting: list[socket.socket] = []
        try:
            for _ in range(4):
                one = socket.socket()
                waiting.append(one)
                one.setblocking(False)
                one.connect_ex(place)
            yield place[1]
        finally:
            for one in waiting:
                one.close()


# The first use.


def test_nothing_is_connected_before_the_first_use(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy)
    assert handle.is_valid
    assert handle.is_remote
    assert str(handle.address) == f"socket://127.0.0.1:{proxy.port}"
    assert handle == ends.remote(proxy)
    assert (proxy.accepted, handle.is_connected) == (0, False)
    handle.send(b"first")
    assert (proxy.accepted, handle.is_connected) == (1, True)
    assert server.wait(1)


def test_connect_connects_without_a_message(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    handle = ends.remote(port)
    handle.connect()
    handle.connect()
    assert handle.is_connected
    assert port.connections == 1
    assert server.kept == []


def test_equal_handles_share_one_connection_and_end_together(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handles = [ends.remote(proxy) for _ in range(5)]
    assert len(set(handles)) == 1
    watches = [ends.watch(handle) for handle in handles]
    threads = [Background(lambda h=handle: h.send(b"x")) for handle in handles]  # type: ignore[misc]
    for thread in threads:
        thread.result()
    assert server.wait(5)
    assert proxy.accepted == 1
    proxy.cut()
    for handle, watch in zip(handles, watches, strict=True):
        assert eventually(lambda w=watch: w.ended)  # type: ignore[misc]
        assert watch.ended == [handle]
        with pytest.raises(InvalidPortError):
            handle.send(b"y")


def test_what_differs_is_another_port(ends: Ends, pki: Pki) -> None:
    tls = pki.config()
    plain = SocketPort.remote("127.0.0.1", 7000)
    others = [
        SocketPort.remote("127.0.0.1", 7001),
        SocketPort.remote("localhost", 7000),
        SocketPort.remote("127.0.0.1", 7000, tls=tls),
        SocketPort.remote("127.0.0.1", 7000, key=KEY),
        SocketPort.remote("127.0.0.1", 7000, reconnect=SOON),
        SocketPort.remote("127.0.0.1", 7000, port_id=b"p" * 16),
        SocketPort.remote("127.0.0.1", 7000, settings=Settings(max_links=3)),
        SocketPort.remote("127.0.0.1", 7000, options=[(1, 9, 1)]),
    ]
    assert len({plain, *others}) == 1 + len(others)
    assert SocketPort.remote("127.0.0.1", 7000, tls=tls) == others[2]
    assert SocketPort.remote("127.0.0.1", 7000, key=KEY) == others[3]
    assert SocketPort.remote("127.0.0.1", 7000, options=[[1, 9, 1]]) == others[7]  # type: ignore[list-item]


def test_refused_is_an_error_at_once() -> None:
    with nobody() as number:
        handle = SocketPort.remote("127.0.0.1", number)
        for _ in range(2):
            with pytest.raises(TransportError, match=r"cannot be connected to.*refused.*firewall"):
                handle.send(b"x", timeout=None)
        assert handle.is_valid  # later ones try again
        with pytest.raises(TransportError, match=r"refused"):
            handle.connect()
        with pytest.raises(TransportError, match=r"refused"):
            handle.send_many([b"x"])
        with pytest.raises(TransportError, match=r"refused"):
            handle.request(b"x")


def test_a_port_that_opens_later_is_reached(ends: Ends) -> None:
    with nobody() as number:
        handle = SocketPort.remote("127.0.0.1", number)
        with pytest.raises(TransportError):
            handle.send(b"x")
    server = Server()
    ends.serve(server, ("127.0.0.1", number))
    handle.send(b"y")
    assert server.wait(1)


def test_nobody_answers_in_time() -> None:
    with full() as number:
        handle = SocketPort.remote("127.0.0.1", number)
        with pytest.raises(SendTimeoutError, match=r"no connection.*within 0.1 s.*timeout="):
            handle.send(b"x", timeout=0.1)
        with pytest.raises(SendTimeoutError):
            handle.send_many([b"x"], timeout=0)
        with pytest.raises(SendTimeoutError):
            handle.connect(0)


def test_an_attempt_ends_with_connect_timeout() -> None:
    with full() as number:
        handle = SocketPort.remote("127.0.0.1", number, connect_timeout=0.1)
        with pytest.raises(TransportError, match=r"did not answer within 0.1 s \(connecting\)"):
            handle.send(b"x", timeout=PATIENCE)


def test_so_does_one_where_nobody_greets() -> None:
    with mute() as number:
        handle = SocketPort.remote("127.0.0.1", number, connect_timeout=0.1)
        with pytest.raises(TransportError, match=r"did not greet within 0.1 s") as caught:
            handle.send(b"x", timeout=PATIENCE)
        assert type(caught.value) is TransportError


def test_silence_is_no_refusal() -> None:
    with mute() as number:
        handle = SocketPort.remote(
            "127.0.0.1", number, settings=Settings(greeting_timeout=0.1, heartbeat=5.0)
        )
        with pytest.raises(TransportError, match=r"did not greet within 0.1 s") as caught:
            handle.send(b"x", timeout=PATIENCE)
        assert type(caught.value) is TransportError


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 70 + ".invalid", "a\0b"])
def test_no_such_host(host: str) -> None:
    handle = SocketPort.remote(host, 7000)
    with pytest.raises(NameNotFoundError, match=r"cannot be found.*check the name"):
        handle.send(b"x", timeout=PATIENCE)


def test_a_port_id_that_nobody_has(ends: Ends) -> None:
    port = ends.serve(Server())
    handle = ends.remote(port, port_id=b"p" * 16)
    with pytest.raises(TransportError, match=r"the port that is meant is not there"):
        handle.send(b"x")
    ends.remote(port, port_id=port.port_id).send(b"x")


def test_wrong_arguments() -> None:
    given: tuple[dict[str, Any], ...] = (
        {"reconnect": 1},
        {"tls": "x"},
        {"key": "x"},
        {"options": [(1, 2, [])]},
        {"settings": 1},
    )
    for wrong in given:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            SocketPort.remote("h", 1, **wrong)
    for host, number in (("", 1), ("h", 0), ("h", 65536)):
        with pytest.raises(ValueError, match=r"host|number"):
            SocketPort.remote(host, number)
    with pytest.raises(TypeError):
        SocketPort.remote("h", "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SocketPort.remote(b"h", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"connect_timeout"):
        SocketPort.remote("h", 1, connect_timeout=0)
    with pytest.raises(ValueError, match=r"16 bytes"):
        SocketPort.remote("h", 1, port_id=b"p")


# Without waiting.


def test_one_message_is_accepted_without_waiting(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    proxy.stall()
    handle = ends.remote(proxy)
    handle.send(b"1", timeout=0)
    with pytest.raises(SendTimeoutError):
        handle.send(b"2", timeout=0)
    waiting = Background(lambda: handle.send(b"3", timeout=PATIENCE))
    proxy.stall(False)
    waiting.result()
    assert server.wait(2)
    assert server.kept == [b"1", b"3"]


def test_it_has_a_largest_size(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    handle = ends.remote(port)
    with pytest.raises(SendTimeoutError):
        handle.send([b"x" * 32768, b"x" * 32769], timeout=0)
    largest = b"x" * 65536
    ends.remote(port, port_id=port.port_id).send(largest, timeout=0)
    assert server.wait(1)
    assert server.kept == [largest]


def test_it_goes_though_its_handle_does_not_stay(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    handle = ends.remote(port)
    handle.send(b"x", timeout=0)
    handle.invalidate()
    del handle
    assert server.wait(1)
    assert eventually(lambda: not dialled() and not port.connections)


def test_a_request_without_waiting_is_answered(ends: Ends) -> None:
    handle = ends.remote(ends.serve(Server()))
    assert handle.request(b"x", msgid=ASK, send_timeout=0).data == b"x"


def test_a_request_that_could_not_be_sent_says_why(ends: Ends) -> None:
    with nobody() as number:
        handle = SocketPort.remote("127.0.0.1", number)
        watch = ends.watch(handle)
        with pytest.raises(BecameInvalidError, match=r"refused"):
            handle.request(b"x", send_timeout=0, reply_timeout=PATIENCE)
        assert eventually(lambda: watch.ended)
        assert not handle.is_valid


def test_a_message_that_could_not_be_sent_is_reported(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    with nobody() as number, caplog.at_level(logging.WARNING):
        handle = SocketPort.remote("127.0.0.1", number)
        watch = ends.watch(handle)
        handle.send(b"x", timeout=0)
        assert eventually(lambda: watch.ended)
        assert len(watch.ended) == 1
    assert f"a message to 127.0.0.1:{number} could not be sent: " in caplog.text


# The end.


def test_a_lost_connection_is_one_invalidation(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy)
    watch = ends.watch(handle)
    asking = Background(lambda: handle.request(b"x", msgid=NEVER, reply_timeout=PATIENCE))
    assert eventually(lambda: server.asked)
    proxy.cut()
    with pytest.raises(BecameInvalidError, match=r"the connection was lost: Connection reset"):
        asking.result()
    assert eventually(lambda: watch.ended)
    assert watch.ended == [handle]
    assert watch.events == []
    assert not handle.is_valid
    for timeout in (0, 1):
        with pytest.raises(InvalidPortError, match=r"gone: the connection was lost"):
            handle.send(b"y", timeout=timeout)
        with pytest.raises(InvalidPortError, match=r"gone: the connection was lost"):
            handle.connect(timeout)
    other = ends.remote(proxy)
    assert other != handle
    assert other.request(b"z", msgid=ASK).data == b"z"
    server.asked.clear()


def test_an_invalidated_port_is_one_invalidation_at_once(ends: Ends) -> None:
    port = ends.serve(Server())
    handle = ends.remote(port)
    watch = ends.watch(handle)
    handle.send(b"x")
    port.invalidate()
    assert eventually(lambda: watch.ended)
    with pytest.raises(InvalidPortError, match=r"gone: its owner invalidated it"):
        handle.send(b"y")
    assert eventually(lambda: not port.connections)


def test_an_invalidated_handle_leaves_the_others(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    one, two = ends.remote(port), ends.remote(port)
    one.send(b"1")
    watch = ends.watch(one)
    one.invalidate()
    assert eventually(lambda: watch.ended)
    assert watch.ended == [one]
    with pytest.raises(InvalidPortError, match=r"get another"):
        one.send(b"x")
    two.send(b"2")
    assert server.wait(2)
    assert port.connections == 1


def test_sends_that_wait_for_room_end_with_the_connection(ends: Ends) -> None:
    port = SocketPort(queue_limit=1)
    with port:
        proxy = ends.proxy(port)
        handle = ends.remote(proxy)
        handle.send(b"1")
        threads = [Background(lambda: handle.send(b"2", timeout=PATIENCE)) for _ in range(3)]
        assert eventually(lambda: threading.active_count() > 3)
        proxy.cut()
        for thread in threads:
            with pytest.raises(PortError) as caught:
                thread.result()
            assert isinstance(caught.value, InvalidPortError)
