"""Ports on two hosts whose network is slow, lossy and gets cut."""

from __future__ import annotations

import os
import time
from functools import partial
from random import Random
from typing import Any

import pytest

from portkit import Backoff, TLSConfig, TransportError
from tests.hosts import roles
from tests.hosts.network import Network
from tests.support import eventually
from tests.transports.processes.child import Child
from tests.transports.socket.pki import Pki, pki

__all__ = ["pki"]

HEARTBEAT = 1.0
LONG = 30.0 if os.environ.get("PORTKIT_STRESS") else 2 * HEARTBEAT
"""Seconds that a long cut lasts: it must be noticed on both sides."""

MIB = 1 << 20
SOON = Backoff(initial=0.05, maximum=0.2)


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def listen(server: Child, network: Network, port: int = 0, **options: Any) -> int:
    return server.call(partial(roles.listen, **options), network.right.address, port)


def dial(network: Network, port: int, **options: Any) -> None:
    network.left.call(partial(roles.dial, **options), network.right.address, port)


def join(network: Network, *, reconnect: Backoff | None = None, **options: Any) -> None:
    """A port on the right, and a handle to it on the left, over which a message has gone."""
    port = network.right.call(partial(roles.listen, **options), network.right.address)
    dial(network, port, reconnect=reconnect, **options)
    assert network.left.call(roles.ask, b"over there") == b"over there"


def arrive(network: Network, last: bytes) -> list[bytes]:
    """What the right host has kept once the last of it is there."""
    kept: list[bytes] = []

    def is_there() -> bool:
        kept[:] = network.right.call(roles.kept)
        return kept[-1:] == [last]

    assert eventually(is_there), f"{len(kept)} messages arrived, but not the last"
    return kept


def ends(network: Network) -> tuple[int, int]:
    """How many ends of ports each host was told of."""
    return network.left.call(roles.ended), network.right.call(roles.ended)


@pytest.fixture(params=["key", "key and certificates"])
def tls(request: pytest.FixtureRequest, network: Network, pki: Pki) -> TLSConfig | None:
    """What the link is secured with besides the key."""
    if request.param == "key":
        return None
    return pki.config("hosts", [network.left.address, network.right.address])


def test_a_request_crosses_by_ipv6(network: Network) -> None:
    if not network.right.address6:
        pytest.skip("this kernel has no IPv6")
    port = network.right.call(roles.listen, network.right.address6)
    network.left.call(roles.dial, network.right.address6, port)
    assert network.left.call(roles.ask, b"six") == b"six"


def test_messages_stay_whole_and_in_order_on_a_bad_network(
    network: Network, tls: TLSConfig | None
) -> None:
    network.impair(delay=0.02, jitter=0.002, loss=0.01, reorder=0.1)
    join(network, tls=tls)
    network.left.call(roles.send_numbers, 0, 2000)
    assert arrive(network, b"1999") == numbers(0, 2000)
    network.left.call(roles.send_large, 2 * MIB)
    assert len(arrive(network, b"%d %d" % (2 * MIB, 2 * MIB))) == 2001
    assert ends(network) == (0, 0)


def test_a_cut_cable_ends_each_port_once_on_both_hosts(network: Network) -> None:
    join(network, heartbeat=HEARTBEAT)
    network.left.call(roles.lend)
    assert network.left.call(roles.ask, b"there") == b"there"
    network.cut()
    start = time.monotonic()
    assert eventually(lambda: ends(network) == (1, 1))
    assert HEARTBEAT / 2 < time.monotonic() - start < 10 * HEARTBEAT
    network.mend()
    assert not network.left.call(roles.is_valid)
    time.sleep(HEARTBEAT)  # a second word about the same end would come by now
    assert ends(network) == (1, 1)


@pytest.mark.parametrize("to_the_right", [True, False], ids=["there", "back"])
def test_a_slow_transfer_is_no_silence(network: Network, to_the_right: bool) -> None:
    """Whoever sends hears nothing meanwhile, and its question lies behind what was sent."""
    join(network, heartbeat=HEARTBEAT / 2)
    network.impair(rate=MIB / 2)
    size = 2 * MIB
    if to_the_right:
        network.left.call(roles.send_large, size)
        arrive(network, b"%d %d" % (size, size))
    else:
        assert network.left.call(roles.fetch, size) == size
    assert ends(network) == (0, 0)


def test_a_host_behind_a_cut_cable_is_told_of_in_time(network: Network) -> None:
    port = network.right.call(roles.listen, network.right.address)
    network.cut()
    dial(network, port, connect_timeout=0.5)
    start = time.monotonic()
    with pytest.raises(TransportError, match=r"did not answer within 0\.5 s \(connecting\)"):
        network.left.call(roles.ask, b"in vain")
    assert 0.4 < time.monotonic() - start < 10
    network.mend()
    assert network.left.call(roles.ask, b"now") == b"now"


def test_a_request_that_waits_when_the_cable_is_cut_is_told(network: Network) -> None:
    join(network, heartbeat=HEARTBEAT)
    network.cut()
    assert network.left.call(roles.ask_in_vain)


def test_a_short_cut_in_mid_transfer_loses_nothing(network: Network, tls: TLSConfig | None) -> None:
    join(network, tls=tls)
    network.impair(rate=8 * MIB)
    network.left.call(roles.send_numbers, 0, 10)
    left = network.left.main
    left.begin(roles.send_large, 6 * MIB)
    network.cut_after(2 * MIB)
    time.sleep(0.3)
    network.mend()
    left.result()
    network.left.call(roles.send_numbers, 10, 20)
    large = b"%d %d" % (6 * MIB, 6 * MIB)
    assert arrive(network, b"19") == [*numbers(0, 10), large, *numbers(10, 20)]
    assert ends(network) == (0, 0)


def test_a_long_cut_in_mid_frame_delivers_no_half_message(
    network: Network, tls: TLSConfig | None
) -> None:
    join(network, tls=tls, heartbeat=HEARTBEAT, reconnect=SOON)
    network.left.call(roles.lend)
    assert network.left.call(roles.ask, b"there") == b"there"
    network.impair(rate=4 * MIB)
    network.left.call(roles.send_large, 3 * MIB)  # it is accepted, and on its way
    network.cut_after(MIB)
    time.sleep(LONG)
    assert eventually(lambda: network.right.call(roles.ended) == 1)
    lost = network.left.call(roles.events)
    assert [event.is_connected for event in lost] == [False]
    assert lost[0].unacknowledged >= 1
    network.mend()
    network.impair()
    assert network.left.call(roles.ask, b"again") == b"again"
    network.left.call(roles.send_numbers, 0, 3)
    assert arrive(network, b"2") == numbers(0, 3)
    assert network.left.call(roles.is_valid)


def test_a_handle_that_reconnects_reports_what_may_be_lost_and_repeats_nothing(
    network: Network,
) -> None:
    join(network, heartbeat=HEARTBEAT, reconnect=SOON)
    network.left.call(roles.send_numbers, 0, 100)
    assert arrive(network, b"99") == numbers(0, 100)
    network.cut()
    network.left.call(roles.send_numbers, 100, 150)
    assert eventually(lambda: network.left.call(roles.events))
    time.sleep(LONG)
    network.mend()
    network.left.call(roles.send_numbers, 150, 200)
    kept = arrive(network, b"199")
    assert kept == sorted(set(kept), key=int)
    assert kept[:100] == numbers(0, 100)
    assert kept[-50:] == numbers(150, 200)
    lost, connected = network.left.call(roles.events)
    assert not lost.is_connected
    assert 200 - len(kept) <= lost.unacknowledged <= 151
    assert "nothing came from the peer" in lost.reason
    assert connected.is_connected
    assert network.left.call(roles.ended) == 0


def test_nothing_comes_twice_over_a_cable_that_fails_again_and_again(network: Network) -> None:
    join(network, heartbeat=0.5, reconnect=SOON)
    network.impair(delay=0.005, loss=0.01)
    random = Random(11)
    left = network.left.main
    left.begin(roles.send_numbers, 0, 200, 0.01)
    for _ in range(3):
        time.sleep(random.uniform(0.1, 0.6))
        network.cut()
        time.sleep(random.uniform(0.1, 1.5))
        network.mend()
    doubtful = left.result()
    network.left.call(roles.send_numbers, 200, 210)
    kept = arrive(network, b"209")
    assert kept == sorted(set(kept), key=int)
    assert kept[-10:] == numbers(200, 210)
    events = network.left.call(roles.events)
    reported = sum(event.unacknowledged for event in events)
    assert 210 - len(kept) <= len(doubtful) + reported
    assert [event.is_connected for event in events] == [False, True] * (len(events) // 2)


@pytest.mark.parametrize("unseen", [False, True], ids=["seen", "behind a cut cable"])
def test_a_server_that_is_started_again_is_found_again(network: Network, unseen: bool) -> None:
    first = network.right.child()
    port = listen(first, network, heartbeat=HEARTBEAT)
    dial(network, port, heartbeat=HEARTBEAT, reconnect=SOON)
    assert network.left.call(roles.ask, b"one") == b"one"
    if unseen:
        network.cut()
    first.kill()
    with network.right.child() as second:
        listen(second, network, port, heartbeat=HEARTBEAT)
        network.mend()
        assert eventually(lambda: len(network.left.call(roles.events)) == 2)
        assert network.left.call(roles.ask, b"two") == b"two"
    assert network.left.call(roles.ended) == 0
