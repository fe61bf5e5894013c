"""Services on the network, which is loopback here; other tests use it at the same time."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import ifaddr
import pytest
from zeroconf import ServiceInfo, Zeroconf

from portkit import NameInUseError, TransportError
from portkit_transports.socket import dns_sd
from portkit_transports.socket.dns_sd import Responder
from portkit_transports.socket.multicast import find_interfaces, nearest, own_addresses
from portkit_transports.socket.service_record import SERVICE_TYPE, Service, instance_of, label_of
from tests.ports.helpers import Background, in_child
from tests.support import PATIENCE, eventually

ANNOUNCER = Path(__file__).with_name("announcer.py")

Open = Callable[..., Responder]


@pytest.fixture
def open_responder() -> Iterator[Open]:
    """Makes responders, and closes them."""
    with ExitStack() as stack:

        def make(ttl: int = 120) -> Responder:
            responder = Responder(["127.0.0.1"], ttl)
            stack.callback(responder.close)
            return responder

        yield make


@pytest.fixture
def here(open_responder: Open) -> Responder:
    """A responder."""
    return open_responder()


@pytest.fixture
def there(open_responder: Open) -> Responder:
    """Another one."""
    return open_responder()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody has the name: it is asked for in a tenth of the time."""
    monkeypatch.setattr(dns_sd, "_INTERVAL", 0.025)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t.{uuid.uuid4().hex[:12]} ü"


def service(name: str, number: int = 7000, **more: Any) -> Service:
    """A service of a port of its own."""
    return Service(name, os.urandom(16), ("127.0.0.1",), number, **more)


def published(responder: Responder, service: Service) -> bool:
    """Whether the name was free: the bare library may answer once more after its goodbye."""
    try:
        responder.publish(service, unexpected)
    except NameInUseError:
        return False
    return True


def unexpected(text: str) -> None:
    """For names that are not lost."""
    raise AssertionError(text)


@contextmanager
def announced(name: str, ttl: int = 120) -> Iterator[tuple[subprocess.Popen[str], bytes]]:
    """Another process that announces a service, and the service's id."""
    with subprocess.Popen(
        [sys.executable, str(ANNOUNCER), name, str(ttl)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, bytes.fromhex(process.stdout.readline())
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> None:
    """Have the process end by itself."""
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


class TestFind:
    @pytest.mark.usefixtures("quick")
    def test_all_that_was_published(self, here: Responder, there: Responder, name: str) -> None:
        published = service(name, tls=True, key=True)
        here.publish(published, unexpected)
        assert there.find(name, PATIENCE) == published
        assert here.find(name, 0) == published
        assert there.find(name, 0) == published, "it was known by then"

    @pytest.mark.usefixtures("quick")
    def test_what_was_there_before(self, here: Responder, open_responder: Open, name: str) -> None:
        published = service(name)
        here.publish(published, unexpected)
        late = open_responder()
        assert late.find(name, 0) is None
        assert late.find(name, PATIENCE) == published

    def test_nobody(self, here: Responder, name: str) -> None:
        assert here.find(name, 0) is None
        assert here.find(name, 0.1) is None

    @pytest.mark.usefixtures("quick")
    def test_case_is_nothing(self, here: Responder, there: Responder, name: str) -> None:
        here.publish(service(name.upper()), unexpected)
        found = there.find(name, PATIENCE)
        assert found is not None
        assert found.name == name

    def test_another_process(self, here: Responder, name: str) -> None:
        with announced(name) as (process, port_id):
            found = here.find(name, PATIENCE)
            assert found is not None
            assert found.port_id == port_id
            end(process)
            assert eventually(lambda: here.find(name, 0) is None), "it said goodbye"

    def test_the_dead_are_gone_after_their_time(self, here: Responder, name: str) -> None:
        with announced(name, ttl=2) as (process, _):
            assert here.find(name, PATIENCE) is not None
            process.kill()
            assert here.find(name, 0) is not None, "it is remembered for 2 s"
            assert eventually(lambda: here.find(name, 0) is None)
            assert here.find(name, 0.1) is None


class TestPublish:
    def test_a_name_in_use(self, here: Responder, there: Responder, name: str) -> None:
        first = service(name, 7001)
        here.publish(first, unexpected)
        for responder in (here, there):
            with pytest.raises(NameInUseError, match="choose another"):
                responder.publish(service(name, 7002), unexpected)
        assert there.find(name, PATIENCE) == first

    def test_a_name_in_use_in_another_process(self, open_responder: Open, name: str) -> None:
        with announced(name) as (_, port_id):
            fresh = open_responder()  # which heard nothing of it
            with pytest.raises(NameInUseError, match=port_id.hex()):
                fresh.publish(service(name), unexpected)

    @pytest.mark.usefixtures("quick")
    def test_the_same_again(self, here: Responder, there: Responder, name: str) -> None:
        published = service(name)
        for responder in (here, here, there):
            responder.publish(published, unexpected)

    def test_a_dead_owners_name(self, here: Responder, there: Responder, name: str) -> None:
        with announced(name) as (process, _):
            assert here.find(name, PATIENCE) is not None
            process.kill()
        heir = service(name)
        here.publish(heir, unexpected)
        assert eventually(lambda: there.find(name, 1) == heir)

    @pytest.mark.usefixtures("quick")
    def test_withdrawn_and_published_again(
        self, here: Responder, there: Responder, name: str
    ) -> None:
        for number in (7001, 7002, 7003):
            published = service(name, number)
            here.publish(published, unexpected)
            assert eventually(lambda one=published: there.find(name, 1) == one)  # type: ignore[misc]
            here.withdraw(published)
            assert eventually(lambda: there.find(name, 0) is None)
            assert here.find(name, 0) is None

    @pytest.mark.usefixtures("quick")
    def test_withdrawn_while_it_is_announced(
        self, here: Responder, there: Responder, name: str
    ) -> None:
        """An announcement after the goodbye would make it live again."""
        published = service(name)
        here.publish(published, unexpected)
        here.withdraw(published)
        assert eventually(lambda: there.find(name, 0) is None)
        assert there.find(name, 0.5) is None, "the last announcement is due after 0.45 s"

    @pytest.mark.usefixtures("quick")
    def test_withdrawn_while_an_answer_is_put_off(
        self, here: Responder, there: Responder, open_responder: Open, name: str
    ) -> None:
        """It would come after the goodbye, and be believed."""
        published = service(name)
        here.publish(published, unexpected)
        asker = open_responder()
        assert there.find(name, PATIENCE) == published
        asking = Background(lambda: asker.names(0.2))  # the answer is put off, being fresh
        asking.result()
        here.withdraw(published)
        assert eventually(lambda: there.find(name, 0) is None)
        assert there.wait(name, 1.5) is None
        there.publish(service(name), unexpected)

    @pytest.mark.usefixtures("quick")
    def test_what_is_withdrawn_is_that_very_service(self, here: Responder, name: str) -> None:
        published = service(name)
        here.publish(published, unexpected)
        here.withdraw(service(name))
        assert here.find(name, 0) == published

    def test_both_at_once(self, here: Responder, there: Responder, name: str) -> None:
        """One of them keeps the name; the other is refused it, or told where it was too late."""
        barrier = Barrier(2)
        ones = [service(name, 7001), service(name, 7002)]
        without: list[int] = []

        def publish(responder: Responder, one: Service) -> None:
            barrier.wait(PATIENCE)
            try:
                responder.publish(one, lambda text: without.append(one.number))
            except NameInUseError:
                without.append(one.number)

        both = [
            Background(lambda r=r, one=one: publish(r, one))  # type: ignore[misc]
            for r, one in zip((here, there), ones, strict=True)
        ]
        for each in both:
            each.result()
        assert eventually(lambda: without)
        (kept,) = [one for one in ones if one.number not in without]
        assert eventually(lambda: here.find(name, 1) == there.find(name, 1) == kept)

    @pytest.mark.usefixtures("quick")
    def test_two_networks_become_one(
        self,
        here: Responder,
        there: Responder,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Both have the name, and one is told that it is lost; the other goes on having it."""
        lost: list[str] = []
        losing = Service(name, b"\x01" * 16, ("127.0.0.1",), 7001)
        winning = Service(name, b"\x02" * 16, ("127.0.0.1",), 7002)
        here.publish(losing, lost.append)
        monkeypatch.setattr(there, "_probe", _nothing)  # no answer came through
        there.publish(winning, unexpected)
        assert eventually(lambda: lost)
        assert "by port 7002" in lost[0]
        assert eventually(lambda: here.find(name, 1) == winning)
        assert there.find(name, 0) == winning


async def _nothing(*_: object) -> None:
    """In the place of what is left out."""


class TestWait:
    @pytest.mark.usefixtures("quick")
    def test_a_name_to_come(self, here: Responder, there: Responder, name: str) -> None:
        waiting = Background(lambda: there.wait(name, PATIENCE))
        published = service(name)
        here.publish(published, unexpected)
        assert waiting.result() == published

    @pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.1])
    def test_in_vain(self, here: Responder, name: str, timeout: float) -> None:
        assert here.wait(name, timeout) is None

    def test_until_it_is_closed(self, open_responder: Open, name: str) -> None:
        here = open_responder()
        waiting = Background(lambda: here.wait(name, None))
        here.find(name, 0)
        here.close()
        with pytest.raises(TransportError, match="closed"):
            waiting.result()


class TestNames:
    @pytest.mark.usefixtures("quick")
    def test_of_all(self, here: Responder, there: Responder, name: str) -> None:
        names = [f"{name}{number}" for number in range(3)]
        for number, one in enumerate(names):
            (here, there)[number % 2].publish(service(one), unexpected)

        def of_this_test(responder: Responder) -> list[str]:
            return [one for one in responder.names(PATIENCE) if one.startswith(name)]

        assert of_this_test(here) == of_this_test(there) == names
        there.close()
        assert eventually(lambda: of_this_test(here) == [names[0], names[2]])

    def test_the_dead_are_gone_after_their_time(self, here: Responder, name: str) -> None:
        with announced(name, ttl=2) as (process, _):
            assert name in here.names(PATIENCE)
            process.kill()
            assert eventually(lambda: name not in here.names(PATIENCE))


class TestStrangers:
    """What comes from the network is believed only if it is right."""

    def test_a_wrong_record(
        self, here: Responder, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with publishing(name, {"version": "7"}) as stranger:
            with pytest.raises(ValueError, match="version: Input should be '1'"):
                here.find(name, PATIENCE)
            assert here.wait(name, 0.1) is None
            assert caplog.text.count("is passed over") == 1
            waiting = Background(lambda: here.wait(name, PATIENCE))
            right = service(name)
            stranger.unregister_all_services()
            assert eventually(lambda: published(here, right))
            assert waiting.result() == right

    def test_names_that_are_none(self, here: Responder, name: str) -> None:
        with publishing(f"{name}.dot", {}):
            assert not [one for one in here.names(PATIENCE) if name in one]

    @pytest.mark.usefixtures("quick")
    def test_garbage(self, here: Responder, there: Responder, name: str) -> None:
        chance = random.Random(4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            for size in range(300):
                header = bytes([0, 0, 0x84, 0, 0, 0, 0, chance.randrange(4), 0, 0, 0, 0])
                sender.sendto(header + chance.randbytes(size), ("224.0.0.251", 5353))
        published = service(name)
        here.publish(published, unexpected)
        assert there.find(name, PATIENCE) == published


@contextmanager
def publishing(name: str, properties: dict[str, str]) -> Iterator[Zeroconf]:
    """A stranger who publishes something under the name."""
    label = name if ".dot" in name else label_of(name)
    info = ServiceInfo(
        SERVICE_TYPE,
        instance_of(label),
        port=7000,
        properties=properties,
        server=f"{uuid.uuid4().hex}.local.",
        parsed_addresses=["127.0.0.1"],
    )
    stranger = Zeroconf(interfaces=["127.0.0.1"])
    try:
        stranger.register_service(info, cooperating_responders=True)
        yield stranger
    finally:
        stranger.close()


class TestOpening:
    def test_interfaces(self, name: str) -> None:
        for interface in ("127.0.0.1", "lo"):
            Responder([interface], 120).close()
        with pytest.raises(TransportError, match=r"there is no interface 'eth77'.*one of .*lo"):
            Responder(["eth77"], 120)

    def test_closed(self, open_responder: Open, name: str) -> None:
        here = open_responder()
        here.close()
        with pytest.raises(TransportError, match="the name server is closed"):
            here.find(name, 1)
        here.withdraw(service(name))

    def test_in_a_forked_child(self, here: Responder, name: str) -> None:
        assert "made before the fork" in in_child(lambda: here.find(name, 1))
        published = service(name)
        here.publish(published, unexpected)
        assert here.find(name, 0) == published

    def test_without_the_library(self) -> None:
        program = """
import sys
sys.modules["zeroconf"] = None
import portkit_transports.socket.multicast
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert "pip install 'portkit[discovery]'" in done.stderr


class TestAddresses:
    """A machine with a network, and the bridge that every machine with containers has."""

    @pytest.fixture(autouse=True)
    def _adapters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def adapter(name: str, index: int, *ips: tuple[Any, int]) -> ifaddr.Adapter:
            return ifaddr.Adapter(name, name, [ifaddr.IP(ip, n, name) for ip, n in ips], index)

        adapters = [
            adapter("lo", 1, ("127.0.0.1", 8), (("::1", 0, 0), 128)),
            adapter("bridge", 2, ("172.17.0.1", 16)),
            adapter("eth0", 3, ("192.168.1.2", 24), (("fe80::2", 0, 3), 64)),
        ]
        monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)

    @pytest.mark.parametrize(
        ("addresses", "best"),
        [
            (["172.17.0.1", "192.168.1.5"], "192.168.1.5"),
            (["10.0.0.1", "192.168.1.5"], "192.168.1.5"),
            (["2001:db8::1", "fe80::5%3"], "fe80::5%3"),
            (["10.0.0.1", "10.0.0.2"], "10.0.0.1"),
            (["172.17.0.1", "192.168.1.2"], "172.17.0.1"),
            (["127.0.0.1"], "127.0.0.1"),
        ],
    )
    def test_the_nearest(self, addresses: list[str], best: str) -> None:
        assert nearest(addresses) == best

    def test_of_all_interfaces(self) -> None:
        assert own_addresses(None, v4=True, v6=False) == ["172.17.0.1", "192.168.1.2"]
        assert own_addresses(None, v4=False, v6=True) == ["fe80::2"]
        assert own_addresses(["eth0"], v4=True, v6=True) == ["192.168.1.2", "fe80::2"]
        assert own_addresses(["127.0.0.1"], v4=True, v6=True) == ["127.0.0.1"]

    def test_interfaces_as_the_library_wants_them(self) -> None:
        assert find_interfaces(["eth0", "127.0.0.1", "eth0"]) == ["192.168.1.2", 3, "127.0.0.1"]
        assert find_interfaces(["lo"]) == ["127.0.0.1"]
