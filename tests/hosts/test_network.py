"""The two hosts that other tests rely on, with plain sockets and over every kind of cable."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.hosts.cable import VethCable
from tests.hosts.line import Impairment
from tests.hosts.namespace import Namespace, UnavailableError
from tests.hosts.network import CABLES, Host, Network, why_not
from tests.hosts.tap_cable import TapCable
from tests.support import PATIENCE, open_descriptors

MIB = 1 << 20


@pytest.fixture(params=[kind for kind in CABLES if not why_not((kind,))] or CABLES)
def network(no_leftovers: None, request: pytest.FixtureRequest) -> Iterator[Network]:
    """The network of this folder's other tests takes the first kind that works; here is each."""
    with Network(seed=7, cables=(request.param,)) as network:
        yield network


@contextmanager
def connection(here: Host, there: Host) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection that ``here`` made to ``there``."""
    with (
        closing(there.inside(lambda: socket.create_server((there.address, 0)))) as listener,
        closing(
            here.inside(lambda: socket.create_connection(listener.getsockname(), PATIENCE))
        ) as dialled,
        closing(listener.accept()[0]) as accepted,
    ):
        for end in (dialled, accepted):
            end.settimeout(PATIENCE)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield dialled, accepted


def receive(end: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count and (data := end.recv(count - len(received))):
        received += data
    return bytes(received)


def transfer(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(sender.sendall, data)
        assert receive(receiver, len(data)) == data
        sending.result(PATIENCE)


def round_trip(one: socket.socket, other: socket.socket) -> float:
    """Seconds."""
    start = time.monotonic()
    one.sendall(b"?")
    assert receive(other, 1) == b"?"
    other.sendall(b"!")
    assert receive(one, 1) == b"!"
    return time.monotonic() - start


def is_silent(end: socket.socket, seconds: float) -> bool:
    """Whether nothing comes for so long."""
    end.settimeout(seconds)
    try:
        end.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)
    return False


def test_either_host_reaches_the_other(network: Network) -> None:
    with connection(network.left, network.right) as ends:
        assert ends[1].getpeername()[0] == network.left.address
        transfer(*ends, b"to the right")
    with connection(network.right, network.left) as ends:
        assert ends[1].getpeername()[0] == network.right.address
        transfer(*ends, b"to the left")


def test_they_speak_ipv6_too(network: Network) -> None:
    if not network.right.address6:
        pytest.skip("this kernel has no IPv6")
    address = (network.right.address6, 0)
    listener = network.right.inside(lambda: socket.create_server(address, family=socket.AF_INET6))
    with listener:
        port = listener.getsockname()[1]
        dialled = network.left.inside(
            lambda: socket.create_connection((network.right.address6, port), PATIENCE)
        )
        with dialled, listener.accept()[0] as accepted:
            transfer(dialled, accepted, b"six")
            assert accepted.getpeername()[0] == network.left.address6


def test_each_has_a_loopback_of_its_own(network: Network) -> None:
    with network.left.inside(lambda: socket.create_server(("127.0.0.1", 0))) as listener:
        name = listener.getsockname()
        network.left.inside(lambda: socket.create_connection(name, PATIENCE)).close()
        with pytest.raises(ConnectionRefusedError):
            network.right.inside(lambda: socket.create_connection(name, PATIENCE))


def test_nothing_outside_is_to_be_seen(network: Network) -> None:
    with pytest.raises(OSError, match="unreachable"):
        network.left.inside(lambda: socket.create_connection(("192.0.2.1", 9), PATIENCE))


def test_programs_and_functions_run_on_a_host(network: Network) -> None:
    bind = f"import socket; socket.create_server(({network.left.address!r}, 0))"
    left = network.run("left", [sys.executable, "-c", bind])
    right = network.run("right", [sys.executable, "-c", bind], stderr=subprocess.PIPE)
    assert b"Cannot assign requested address" in right.communicate(timeout=PATIENCE)[1]
    assert left.wait(PATIENCE) == 0
    assert network.left.call(os.getpid) == network.left.call(os.getpid) != os.getpid()
    with network.left.child() as another:
        assert another.call(os.getpid) != network.left.call(os.getpid)
        assert another.call(bound, network.left.address) == network.left.address
    with pytest.raises(OSError, match="assign"):
        network.right.call(bound, network.left.address)


def bound(address: str) -> str:
    """Called in processes on the hosts."""
    with socket.create_server((address, 0)) as listener:
        return str(listener.getsockname()[0])


def test_a_delay_goes_both_ways(network: Network) -> None:
    with connection(network.left, network.right) as ends:
        network.impair(delay=0.02)
        assert round_trip(*ends) >= 0.04
        network.impair()
        assert min(round_trip(*ends) for _ in range(20)) < 0.04


def test_what_is_lost_or_overtaken_arrives_all_the_same(network: Network) -> None:
    data = random.Random(3).randbytes(2 * MIB)
    with connection(network.left, network.right) as ends:
        network.impair(delay=0.005, jitter=0.001, loss=0.01, reorder=0.1)
        transfer(*ends, data)
    assert network.cable.crossed > len(data)
    if isinstance(network.cable, TapCable):
        assert network.cable.lost > 0


def test_a_clean_cable_is_quick(network: Network) -> None:
    with connection(network.left, network.right) as ends:
        start = time.monotonic()
        transfer(*ends, bytes(8 * MIB))
        assert time.monotonic() - start < 20  # some thousand frames a second at least


def test_a_rate_is_kept(network: Network) -> None:
    with connection(network.left, network.right) as ends:
        network.impair(rate=MIB)
        start = time.monotonic()
        transfer(*ends, bytes(MIB // 2))
        assert time.monotonic() - start > 0.3


def test_a_cut_cable_carries_nothing_and_goes_on_when_mended(network: Network) -> None:
    with connection(network.left, network.right) as (left, right):
        transfer(left, right, b"before")
        network.cut()
        crossed = network.cable.crossed
        left.sendall(b"x")
        assert is_silent(right, 0.3)
        right.sendall(b"y")
        assert is_silent(left, 0.3)
        assert network.cable.crossed == crossed
        network.mend()
        assert receive(right, 1) == b"x"
        assert receive(left, 1) == b"y"


def test_a_cut_loses_what_is_under_way(network: Network) -> None:
    with connection(network.left, network.right) as (left, right):
        network.impair(delay=0.3)
        left.sendall(b"x")
        network.cut()
        assert is_silent(right, 0.5)
        network.impair()
        network.mend()
        assert receive(right, 1) == b"x"


def test_it_can_be_cut_in_mid_transfer(network: Network) -> None:
    data = random.Random(4).randbytes(2 * MIB)
    with connection(network.left, network.right) as (left, right), ThreadPoolExecutor(2) as pool:
        network.impair(rate=4 * MIB)
        sending = pool.submit(left.sendall, data)
        receiving = pool.submit(receive, right, len(data))
        network.cut_after(MIB)
        assert not receiving.done()
        network.impair()
        network.mend()
        assert receiving.result(PATIENCE) == data
        sending.result(PATIENCE)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_nothing_is_left_when_a_test_fails() -> None:
    before = open_descriptors()
    processes: list[Any] = []

    def failing_test() -> None:
        with Network() as network:
            processes.append(network.left.run(["sleep", "1000"]))
            processes.append(network.right.child().process)
            pytest.fail("on purpose")

    with pytest.raises(pytest.fail.Exception, match="on purpose"):
        failing_test()
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2
    assert open_descriptors() == before


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_the_words_for_netem_are_right() -> None:
    """Also where the kernel has none, and nothing else shows it."""
    with closing(Namespace()) as namespace:
        namespace.ip("link", "add", "device", "type", "veth", "peer", "name", "other")
        worst = Impairment(delay=0.02, jitter=0.005, loss=0.01, reorder=0.1, rate=1e6)
        words = ["qdisc", "replace", "dev", "device", "root", "handle", "1:", "netem"]
        refusal = ""
        try:
            namespace.tool("tc", [*words, *worst.netem()])
        except UnavailableError as error:
            refusal = str(error)
        assert not refusal or "qdisc kind is unknown" in refusal


def test_a_network_that_cannot_be_made_says_why_and_leaves_nothing() -> None:
    def none(left: Namespace, right: Namespace, seed: int) -> VethCable:
        raise UnavailableError("there is no cable in the box")

    before = open_descriptors()
    with pytest.raises(UnavailableError, match=r"no cable in the box|root|iproute2|Linux"):
        Network(cables=[none])
    assert open_descriptors() == before


def test_a_program_that_is_missing_is_named(network: Network) -> None:
    with pytest.raises(UnavailableError, match="no-such-program is missing: install iproute2"):
        network.left.namespace.tool("no-such-program", [])
    with pytest.raises(UnavailableError, match="ip link show nowhere"):
        network.left.namespace.ip("link", "show", "nowhere")
