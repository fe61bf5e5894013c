"""Hosts are found by their names without anybody waiting for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, get_ident
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit import NameNotFoundError, PortError, SendTimeoutError, SocketPort, TransportError
from portkit_transports.socket.resolving import Place, interleaved, resolve
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.connections import echoing, place_of

FOUR, SIX = socket.AF_INET, socket.AF_INET6


def found(host: str, port: int = 7000) -> list[Place] | PortError:
    """What comes of looking it up, which must be told on the loop's thread."""
    came: SimpleQueue[list[Place] | PortError] = SimpleQueue()
    threads: list[int] = []
    with LoopThread() as thread:

        def resolved(outcome: list[Place] | PortError) -> None:
            threads.append(get_ident())
            came.put(outcome)

        resolve(host, port, thread.loop, resolved)
        outcome = came.get(timeout=PATIENCE)
        assert threads == [thread.thread.ident]
    return outcome


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Names are looked up when this is set, and not before."""
    real = socket.getaddrinfo
    goes_on = Event()

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "portkit lookup":
            assert goes_on.wait(PATIENCE)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield goes_on
    goes_on.set()


def look_ups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "portkit lookup"]


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", FOUR, ("127.0.0.1", 7000)),
        ("::1", SIX, ("::1", 7000, 0, 0)),
        ("192.0.2.77", FOUR, ("192.0.2.77", 7000)),
    ],
)
def test_an_ip_address_needs_no_look_up(
    host: str, family: socket.AddressFamily, address: tuple[Any, ...], resolver: Event
) -> None:
    assert found(host) == [Place(family, address)]
    assert not look_ups()


def test_a_name_is_looked_up() -> None:
    places = found("localhost")
    assert isinstance(places, list)
    assert {place.address[0] for place in places} <= {"127.0.0.1", "::1"}
    assert places


@pytest.mark.parametrize(
    "host",
    ["no-such-host.invalid", "a" * 300, "a..b", " ", "b\0ad", "\ud800", "[::1]", "1.2.3.4.5"],
)
def test_a_name_that_nobody_has(host: str) -> None:
    outcome = found(host)
    assert isinstance(outcome, NameNotFoundError)
    assert f"the host {host!r} cannot be found: " in str(outcome)
    assert "check the name, or give its IP address" in str(outcome)


@pytest.mark.parametrize("status", [socket.EAI_AGAIN, socket.EAI_FAIL])
def test_a_resolver_that_fails(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise socket.gaierror(status, "the name server is on fire")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    outcome = found("anything")
    assert isinstance(outcome, NameNotFoundError)
    assert "the name server is on fire" in str(outcome)


@given(st.lists(st.sampled_from([FOUR, SIX]), min_size=1, max_size=12))
def test_families_take_turns(families: list[socket.AddressFamily]) -> None:
    places = [Place(family, (number,)) for number, family in enumerate(families)]
    mixed = interleaved(places)
    assert sorted(mixed, key=lambda place: place.address) == places
    assert mixed[0] == places[0]
    for family in (FOUR, SIX):
        numbers = [place.address for place in mixed if place.family == family]
        assert numbers == sorted(numbers)
    both = 2 * min(families.count(FOUR), families.count(SIX))
    assert all(mixed[n].family != mixed[n + 1].family for n in range(both - 1))


# As ports use it.


def test_a_look_up_that_hangs_ends_by_the_time_limit(resolver: Event) -> None:
    remote = SocketPort.remote("localhost", 7000, connect_timeout=0.3)
    start = time.monotonic()
    with pytest.raises(TransportError, match=r"within 0\.3 s \(looking up the host\)"):
        remote.send(b"", timeout=PATIENCE)
    assert 0.2 < time.monotonic() - start < 3
    assert len(look_ups()) == 1
    resolver.set()
    assert eventually(lambda: not look_ups())


def test_a_send_does_not_wait_longer_for_a_look_up_than_it_may(resolver: Event) -> None:
    remote = SocketPort.remote("localhost", 7000)
    with pytest.raises(SendTimeoutError, match="there is no connection to localhost:7000"):
        remote.send(b"", timeout=0.1)
    remote.invalidate()


def test_other_links_go_on_while_a_look_up_hangs(resolver: Event) -> None:
    with echoing() as port:
        stuck = SocketPort.remote("localhost", place_of(port)[1])
        with pytest.raises(SendTimeoutError):
            stuck.connect(0)
        remote = SocketPort.remote(*place_of(port))
        for _ in range(10):
            assert remote.request(b"?").data == b"?"
        assert not stuck.is_connected
        resolver.set()
        stuck.connect(PATIENCE)
        assert stuck.request(b"?").data == b"?"
        for one in (stuck, remote):
            one.invalidate()


def test_a_handle_that_goes_meanwhile_is_looked_up_in_vain(resolver: Event) -> None:
    with echoing() as port:
        remote = SocketPort.remote("localhost", place_of(port)[1])
        with pytest.raises(SendTimeoutError):
            remote.connect(0)
        assert eventually(look_ups)
        remote.invalidate()
        del remote
        resolver.set()
        assert eventually(lambda: not look_ups())


def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with echoing() as port:
        remote = SocketPort.remote("localhost", place_of(port)[1], connect_timeout=PATIENCE)
        monkeypatch.setattr(threading.Thread, "start", full)
        start = time.monotonic()
        with pytest.raises(PortError, match="can't start new thread"):
            remote.connect(PATIENCE)
        assert time.monotonic() - start < 5
        monkeypatch.undo()
        remote.connect(PATIENCE)
        remote.invalidate()


def test_an_unknown_host_is_told_at_once() -> None:
    remote = SocketPort.remote("no-such-host.invalid", 7000)
    with pytest.raises(NameNotFoundError, match=r"'no-such-host\.invalid' cannot be found"):
        remote.send(b"")
