"""Names on a network of two hosts, which multicast reaches while the cable does."""

from __future__ import annotations

import pytest

from tests.hosts import discovery_roles as roles
from tests.hosts.network import Network
from tests.support import eventually


@pytest.fixture
def hosts(network: Network) -> Network:
    """Both hosts, with a name server each."""
    network.left.call(roles.open_names)
    network.right.call(roles.open_names)
    return network


def test_a_port_on_the_other_host(hosts: Network) -> None:
    left, right = hosts.left, hosts.right
    assert right.call(roles.register, "clock", "0.0.0.0", b"tick") == ""
    assert left.call(roles.ask, "clock").startswith(f"tick at socket://{right.address}:")
    assert left.call(roles.names) == right.call(roles.names) == ["clock"]
    assert "NameInUseError" in left.call(roles.register, "clock", left.address, b"tock")
    assert "AuthenticationError" in left.call(roles.unregister, "clock")
    assert right.call(roles.unregister, "clock") == ""
    assert eventually(lambda: left.call(roles.names) == [])
    assert left.call(roles.register, "clock", left.address, b"tock") == ""
    assert right.call(roles.ask, "clock").startswith(f"tock at socket://{left.address}:")


def test_a_bad_network(hosts: Network) -> None:
    hosts.impair(delay=0.02, jitter=0.01, loss=0.05)
    for number in range(3):
        name = f"port {number}"
        assert hosts.right.call(roles.register, name, hosts.right.address, b"here") == ""
        assert hosts.left.call(roles.ask, name).startswith("here at")


def test_a_cable_that_is_mended(hosts: Network) -> None:
    """Both hosts had the name; one has it in the end, and both find that one."""
    left, right = hosts.left, hosts.right
    hosts.cut()
    assert left.call(roles.register, "clock", left.address, b"left") == ""
    assert right.call(roles.register, "clock", right.address, b"right") == ""
    assert left.address in left.call(roles.find, "clock")
    assert right.address in right.call(roles.find, "clock")
    hosts.mend()
    late = left.child()  # with whatever is asked or answered the two hear of each other
    late.call(roles.open_names)

    def is_settled() -> bool:
        late.call(roles.find, "clock")
        return left.call(roles.find, "clock") == right.call(roles.find, "clock")

    assert eventually(is_settled)
    loser = right if left.address in left.call(roles.find, "clock") else left
    assert "AuthenticationError" in loser.call(roles.unregister, "clock")
