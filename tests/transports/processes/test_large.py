"""Messages of many megabytes, up to the limit, past it, and cut off in their midst."""

from __future__ import annotations

import gc
import os
import weakref
from functools import partial

import pytest

from portkit import InvalidPortError, MachPort, MessageTooLargeError
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import BETWEEN_HOSTS, Way

LIMIT = 64 << 20


def pattern(size: int) -> bytes:
    """Bytes in which a piece that is missing, doubled or moved shows."""
    return (os.urandom((1 << 20) + 7) * (size // (1 << 20) + 1))[:size]


def test_as_large_as_allowed_both_ways(child: Child, way: Way) -> None:
    data = pattern(LIMIT)
    answer = way.remote("them").request(
        data, msgid=Do.ECHO, send_timeout=PATIENCE, reply_timeout=PATIENCE
    )
    assert answer.data == data


@BETWEEN_HOSTS
def test_larger_ones_are_refused_whole(child: Child, way: Way) -> None:
    """Also where the limit of the peer is not known yet."""
    remote = way.remote("them")
    port = MachPort()
    kept = weakref.ref(port)
    with pytest.raises(MessageTooLargeError, match="limit"):
        remote.send([port, bytes(LIMIT), b"!"], timeout=PATIENCE)
    del port
    gc.collect()
    assert kept() is None
    assert remote.request(b"on", msgid=Do.ECHO).data == b"on"


def test_small_ones_for_other_ports_pass_them(child: Child, way: Way, loop: LoopThread) -> None:
    """Over one connection, which the large ones would fill for a while."""
    door = Recorder()
    with way.open("door", door) as port:
        loop.loop.add_port(port)
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        (large,) = door.messages[0].ports
        child.call(roles.open_apart, "apart")
        child.call(roles.send_here, "door", "apart")
        assert door.wait(2)
        (small,) = door.messages[1].ports
        data = pattern(LIMIT // 8)
        for number in range(1, 5):
            large.send(data, msgid=Do.KEEP, timeout=PATIENCE)
            assert small.request(b"%d" % number, msgid=Do.ECHO).data == b"%d" % number
        assert large.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"5"


def test_a_sender_is_killed_in_their_midst(
    child: Child, start: Start, way: Way, loop: LoopThread
) -> None:
    """What has come is whole and in order, and who else sends goes on."""
    seen = Recorder()
    size = 5 << 20
    with start() as other, way.open("us", seen) as port:
        loop.loop.add_port(port)
        child.begin(roles.send_numbers, "us", 1000, size)
        assert seen.wait(3)
        child.kill()
        other.call(roles.send_numbers, "us", 10)
        assert eventually(lambda: b"9" in seen.data)
    got = [data or b"" for data in seen.data]
    assert [data for data in got if len(data) < size] == [b"%d" % number for number in range(10)]
    for number, data in enumerate(data for data in got if len(data) >= size):
        text = b"%d" % number
        assert data.startswith(text + b"\0")
        assert len(data) == len(text) + size


def test_a_receiver_is_killed_in_their_midst(child: Child, start: Start, way: Way) -> None:
    """It had stopped reading. Whoever asked is told, and links to others go on."""
    remote = way.remote("them")
    remote.request(msgid=Do.WHO)
    child.stop()
    ask = partial(remote.request, bytes(LIMIT), msgid=Do.ECHO, reply_timeout=None)
    askers = [Background(ask) for _ in range(2)]
    with start() as other:
        other.call(roles.open_port, "other")
        answer = way.remote("other").request(b"goes on", msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data == b"goes on"
        child.kill()
        for asker in askers:
            with pytest.raises(InvalidPortError):
                asker.result()
        assert way.remote("other").request(b"on", msgid=Do.ECHO).data == b"on"
