"""The name server of a network; what all servers do is in tests/names."""

from __future__ import annotations

import gc
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portkit import (
    AuthenticationError,
    NameInUseError,
    NameNotFoundError,
    PortError,
    ReceiveTimeoutError,
    SocketPort,
    TransportError,
)
from portkit_transports.socket import PreSharedKey, SocketPortNameServer, dns_sd
from portkit_transports.socket.service_record import Service
from tests.ports.helpers import in_child
from tests.support import PATIENCE, Reports, eventually
from tests.transports.socket.pki import Pki

ADVERTISER = Path(__file__).with_name("advertiser.py")


@contextmanager
def name_server(**options: Any) -> Iterator[SocketPortNameServer]:
    """A server on loopback."""
    with SocketPortNameServer(interfaces=["127.0.0.1"], **{"timeout": 1.0, **options}) as server:
        yield server


@pytest.fixture
def here(no_leftovers: None) -> Iterator[SocketPortNameServer]:
    """A server."""
    with name_server() as server:
        yield server


@pytest.fixture
def there(no_leftovers: None) -> Iterator[SocketPortNameServer]:
    """Another one."""
    with name_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_sd, "_INTERVAL", 0.05)  # loopback answers in less


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t.{uuid.uuid4().hex[:12]} ü"


@contextmanager
def advertised(name: str, ttl: int = 120) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves a port with the name."""
    with subprocess.Popen(
        [sys.executable, str(ADVERTISER), name, str(ttl)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "socket:" in process.stdout.readline()
            yield process
        finally:
            process.kill()


class TestAnotherProcess:
    def test_is_found_and_says_goodbye(self, here: SocketPortNameServer, name: str) -> None:
        with advertised(name) as process:
            found = here.lookup(name)
            assert found.request(reply_timeout=PATIENCE).data == b"%d" % process.pid
            assert name in here.names()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
            assert eventually(lambda: not found.is_valid)
            assert eventually(lambda: name not in here.names())
            with pytest.raises(NameNotFoundError):
                here.lookup(name)

    def test_dies_without_a_word(self, here: SocketPortNameServer, name: str) -> None:
        with advertised(name, ttl=3) as process:
            here.lookup(name)
            process.kill()
            process.wait(PATIENCE)
            try:
                found = here.lookup(name)
            except NameNotFoundError:
                return  # a slow machine: its time was over
            with pytest.raises(PortError, match="refused"):
                found.send(b"", timeout=PATIENCE)
            assert eventually(lambda: not _is_known(here, name))

    def test_alone_takes_its_name_back(self, here: SocketPortNameServer, name: str) -> None:
        """N2."""
        with advertised(name) as process, SocketPort() as port:
            with pytest.raises(AuthenticationError, match=r"127\.0\.0\.1; where it was registered"):
                here.unregister(name)
            with pytest.raises(NameInUseError, match="choose another"):
                here.register(name, port)
            assert here.lookup(name).request().data == b"%d" % process.pid


def _is_known(server: SocketPortNameServer, name: str) -> bool:
    try:
        server.wait_for(name, 0)
    except ReceiveTimeoutError:
        return False
    return True


class TestTheVeryPort:
    def test_not_one_that_has_its_number_later(
        self, here: SocketPortNameServer, there: SocketPortNameServer, name: str
    ) -> None:
        first = SocketPort()
        here.register(name, first)
        found = there.lookup(name)
        address = first.address
        assert address is not None
        number = int(address.target.rpartition(":")[2])
        first.invalidate()
        with SocketPort(("127.0.0.1", number)) as second:
            with pytest.raises(PortError):
                found.send(b"", timeout=PATIENCE)
            assert second.pending == 0

    def test_at_all_addresses(
        self, here: SocketPortNameServer, there: SocketPortNameServer, name: str
    ) -> None:
        key = PreSharedKey.generate("k")
        with SocketPort(("0.0.0.0", 0), key=key) as port, name_server(key=key) as keyed:
            here.register(name, port)
            with pytest.raises(AuthenticationError, match="give the name server key=Pre"):
                there.lookup(name)
            found = keyed.lookup(name)
            found.send(b"hello", timeout=PATIENCE)
            assert port.receive(PATIENCE).data == b"hello"
            assert "//127.0.0.1:" in str(found.address)

    def test_with_certificates(
        self, here: SocketPortNameServer, there: SocketPortNameServer, name: str, pki: Pki
    ) -> None:
        tls = pki.config()
        with SocketPort(tls=tls) as port, name_server(tls=tls) as proved:
            here.register(name, port)
            with pytest.raises(AuthenticationError, match="give the name server tls=TLS"):
                there.lookup(name)
            proved.lookup(name).send(b"hello", timeout=PATIENCE)
            message = port.receive(PATIENCE)
            assert message.data == b"hello"
            assert message.sender is not None
            assert message.sender.names


class TestEndings:
    def test_close_takes_all_back(self, there: SocketPortNameServer, name: str) -> None:
        with SocketPort() as port:
            with name_server() as server:
                server.register(name, port)
                assert there.wait_for(name, PATIENCE).is_valid
            server.close()
            assert eventually(lambda: not _is_known(there, name))
            assert port.is_valid
            calls = (lambda: server.lookup(name), lambda: server.register(name, port), server.names)
            for call in calls:
                with pytest.raises(TransportError, match="closed: make a new one"):
                    call()
            there.register(name, port)

    def test_dropped(self, there: SocketPortNameServer, name: str) -> None:
        server = SocketPortNameServer(interfaces=["127.0.0.1"])
        with SocketPort() as port:
            server.register(name, port)
            assert there.wait_for(name, PATIENCE).is_valid
            with pytest.warns(ResourceWarning, match=r"call close\(\)"):  # noqa: PT031 - one act
                del server
                gc.collect()
            assert eventually(lambda: not _is_known(there, name))

    def test_a_dropped_port(
        self, here: SocketPortNameServer, there: SocketPortNameServer, name: str
    ) -> None:
        port = SocketPort()
        here.register(name, port)
        assert there.wait_for(name, PATIENCE).is_valid
        with pytest.warns(ResourceWarning, match="dropped while it listened"):  # noqa: PT031 - one act
            del port
            gc.collect()
        assert eventually(lambda: not _is_known(there, name))
        assert not _is_known(here, name)

    def test_ended_while_it_is_registered(
        self, here: SocketPortNameServer, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = SocketPort()
        publish = here._responder.publish

        def end_after(service: Service, lost: Any) -> None:
            publish(service, lost)
            port.invalidate()

        monkeypatch.setattr(here._responder, "publish", end_after)
        with pytest.raises(PortError, match="became invalid"):
            here.register(name, port)
        assert not _is_known(here, name)

    def test_a_name_lost_to_another(
        self,
        here: SocketPortNameServer,
        name: str,
        reports: Reports,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """As when two networks that both have the name become one: the greater id has it."""
        with SocketPort() as port, SocketPort() as other, name_server() as there:
            port.port_id, other.port_id = b"\x01" * 16, b"\x02" * 16
            here.register(name, port)
            monkeypatch.setattr(there._responder, "_probe", _nothing)
            there.register(name, other)
            assert eventually(lambda: reports.records)
            errors = reports.take()
            assert [type(error) for error in errors] == [NameInUseError]
            with pytest.raises(AuthenticationError):
                here.unregister(name)
            assert port.is_valid

    def test_in_a_forked_child(self, here: SocketPortNameServer, name: str) -> None:
        with SocketPort() as port:
            here.register(name, port)
            assert "before the fork" in in_child(lambda: here.lookup(name))
            assert _is_known(here, name)


async def _nothing(*_: object) -> None:
    """In the place of asking whether a name is free."""


class TestArguments:
    def test_names_are_short_here(self, here: SocketPortNameServer) -> None:
        with SocketPort() as port, pytest.raises(ValueError, match="at most 63 bytes"):
            here.register("a" * 64, port)

    def test_a_port_that_does_not_listen(self, here: SocketPortNameServer, name: str) -> None:
        with SocketPort(None) as port, pytest.raises(TransportError, match="does not listen"):
            here.register(name, port)

    def test_no_address_of_the_kind(self, here: SocketPortNameServer, name: str) -> None:
        key = PreSharedKey.generate("k")
        with SocketPort(("::", 0), key=key) as port:
            here.register(name, port)  # it takes IPv4 as well

    @pytest.mark.parametrize(
        ("options", "kind", "said"),
        [
            ({"timeout": 0}, ValueError, "timeout"),
            ({"timeout": None}, ValueError, "timeout"),
            ({"ttl": 0}, ValueError, "ttl"),
            ({"interfaces": "eth0"}, TypeError, "interfaces"),
            ({"interfaces": ["eth77"]}, TransportError, "no interface 'eth77'"),
            ({"tls": "x"}, TypeError, "TLSConfig"),
            ({"key": "x"}, TypeError, "PreSharedKey"),
            ({"reconnect": 3}, TypeError, "Backoff"),
            ({"connect_timeout": 0}, ValueError, "connect_timeout"),
        ],
    )
    def test_wrong(self, options: dict[str, Any], kind: type[Exception], said: str) -> None:
        with pytest.raises(kind, match=said):
            SocketPortNameServer(**options)
