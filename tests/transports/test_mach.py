"""What is particular to MachPort; what every port does is in test_behaviour.py."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from portkit import MachPort, PortError
from tests.ports.helpers import Background, Recorder
from tests.support import open_descriptors


def test_costs_no_descriptor() -> None:
    before = open_descriptors()
    ports = [MachPort(Recorder()) for _ in range(10)]
    for port in ports:
        port.send(b"x")
    assert open_descriptors() == before


def test_just_goes_when_nobody_holds_it() -> None:
    """Without a warning: it owns nothing."""
    port = MachPort()
    port.send([b"itself", port])  # a cycle
    del port
    gc.collect()


def test_is_what_it_says() -> None:
    with MachPort() as port:
        assert not port.is_remote
        assert (port.name, port.address) == (None, None)
        assert (port.queue_limit, port.pending) == (1024, 0)
        assert port == port  # noqa: PLR0124 - its equality is what is tested
        assert port != MachPort()
        assert {port: 1}[port] == 1


def test_is_the_same_object_on_every_thread() -> None:
    with MachPort() as port:
        port.send(port)
        assert Background(lambda: port.receive(0).ports[0]).result() is port


@pytest.mark.parametrize(
    ("limit", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)],
)
def test_queue_limit(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="queue_limit"):
        MachPort(queue_limit=limit)


def test_has_no_attributes_of_its_own() -> None:
    """Slots: a misspelt attribute is an error."""
    with MachPort() as port, pytest.raises(AttributeError):
        port.delegat = Recorder()  # type: ignore[attr-defined]


def test_is_no_iterable_of_messages() -> None:
    with MachPort() as port, pytest.raises(TypeError):
        port.send_many(port)  # type: ignore[arg-type]


def test_errors_are_port_errors() -> None:
    with MachPort(queue_limit=1) as port:
        port.send()
        with pytest.raises(PortError):
            port.send(timeout=0)
