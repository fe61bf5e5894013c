"""What every name server does that ports can be registered with. One entry below adds a server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from portkit import (
    InvalidPortError,
    MachPort,
    MessagePort,
    NameInUseError,
    NameNotFoundError,
    Port,
    ReceiveTimeoutError,
    SocketPort,
    TransportError,
)
from portkit.names import NameServer
from portkit_transports.message import MessagePortNameServer
from portkit_transports.socket import SocketPortNameServer, dns_sd
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.message.fresh_host import fresh_host


@dataclass
class Servers:
    """A way of finding ports, from both sides.

    Attributes:
        here: with this one ports are registered.
        there: with this one they are found; it may be the same.
        open: makes a port of the kind; takes ``delegate``.
    """

    here: NameServer
    there: NameServer
    open: Callable[..., Port]


@contextmanager
def message() -> Iterator[Servers]:
    """Names of one host."""
    with fresh_host():
        server = MessagePortNameServer()
        yield Servers(server, server, lambda delegate=None: MessagePort(delegate=delegate))


@contextmanager
def dns() -> Iterator[Servers]:
    """Names of a network."""
    with (
        SocketPortNameServer(interfaces=["127.0.0.1"], timeout=1.0) as here,
        SocketPortNameServer(interfaces=["127.0.0.1"], timeout=1.0) as there,
    ):
        yield Servers(here, there, lambda delegate=None: SocketPort(delegate=delegate))


SERVERS: dict[str, Callable[[], AbstractContextManager[Servers]]] = {"message": message, "dns": dns}


@pytest.fixture(params=SERVERS)
def servers(
    request: pytest.FixtureRequest, no_leftovers: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    """Each in turn."""
    monkeypatch.setattr(dns_sd, "_INTERVAL", 0.05)  # loopback answers in less
    with SERVERS[request.param]() as servers:
        yield servers


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t.{uuid.uuid4().hex[:12]} ü"


def test_a_port_is_found(servers: Servers, name: str) -> None:
    with LoopThread() as thread, servers.open(Recorder(b"here")) as port:
        thread.loop.add_port(port)
        servers.here.register(name, port)
        for server in (servers.there, servers.here):
            found = server.lookup(name)
            assert found.is_remote
            assert found.request(b"?", reply_timeout=PATIENCE).data == b"here"
            assert found == server.lookup(name)
            found.invalidate()


def test_several_names(servers: Servers, name: str) -> None:
    names = [f"{name}{number}" for number in range(3)]
    with servers.open() as port:
        for one in names:
            servers.here.register(one, port)
            servers.here.register(one, port)
        for server in (servers.there, servers.here):
            assert [one for one in server.names() if one.startswith(name)] == names
        servers.here.unregister(names[1])
        assert eventually(lambda: names[1] not in servers.there.names())
        assert servers.there.wait_for(names[2], PATIENCE).is_valid


def test_a_name_in_use(servers: Servers, name: str) -> None:
    with servers.open() as port, servers.open() as other:
        servers.here.register(name, port)
        for server in (servers.here, servers.there):
            with pytest.raises(NameInUseError, match="name"):
                server.register(name, other)


def test_a_name_goes_with_its_port(servers: Servers, name: str) -> None:
    with servers.open() as port:
        servers.here.register(name, port)
    assert name not in servers.here.names()
    with pytest.raises(NameNotFoundError, match="name"):
        servers.here.lookup(name)
    assert eventually(lambda: name not in servers.there.names())
    with servers.open() as heir:
        servers.there.register(name, heir)


def test_unregister(servers: Servers, name: str) -> None:
    with servers.open() as port, servers.open() as heir:
        servers.here.register(name, port)
        servers.here.unregister(name)
        assert port.is_valid
        with pytest.raises(NameNotFoundError, match="name"):
            servers.here.unregister(name)
        with pytest.raises(NameNotFoundError, match="name"):
            servers.here.lookup(name)
        servers.here.register(name, heir)


def test_nobody_has_it(servers: Servers, name: str) -> None:
    with pytest.raises(NameNotFoundError, match="name"):
        servers.here.lookup(name)
    with pytest.raises(NameNotFoundError, match="name"):
        servers.here.unregister(name)
    for timeout in (-1, 0, 0.05):
        with pytest.raises(ReceiveTimeoutError, match="nobody"):
            servers.here.wait_for(name, timeout)


def test_wait_for_a_name_to_come(servers: Servers, name: str) -> None:
    waiting = Background(lambda: servers.there.wait_for(name, PATIENCE))
    with servers.open() as port:
        servers.here.register(name, port)
        waiting.result().send(b"hello")
        assert port.receive(PATIENCE).data == b"hello"
        servers.there.wait_for(name, 0).send(b"again")
        assert port.receive(PATIENCE).data == b"again"


def test_what_cannot_be_registered(servers: Servers, name: str) -> None:
    with servers.open() as port:
        servers.here.register(name, port)
        for other in (MachPort(), servers.here.lookup(name)):
            with pytest.raises(TransportError, match=r"make a \w+Port"):
                servers.here.register(f"{name}2", other)
    with pytest.raises(InvalidPortError):
        servers.here.register(name, port)


@pytest.mark.parametrize("bad", ["", "a\0b", "a" * 2000, None])
def test_what_can_be_no_name(servers: Servers, bad: Any) -> None:
    kind = TypeError if bad is None else ValueError
    with servers.open() as port:
        calls: list[Callable[[], object]] = [
            lambda: servers.here.register(bad, port),
            lambda: servers.here.lookup(bad),
            lambda: servers.here.unregister(bad),
            lambda: servers.here.wait_for(bad, 0),
        ]
        for call in calls:
            with pytest.raises(kind, match="name"):
                call()


def test_time_outs_are_checked(servers: Servers, name: str) -> None:
    wrong: Any = "soon"
    with pytest.raises(TypeError, match="time-out"):
        servers.here.wait_for(name, wrong)
