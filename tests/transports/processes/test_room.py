"""Deadlines and flow between processes: full queues, stopped processes, slow ports beside fast."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from portkit import InvalidPortError, Port, SendTimeoutError
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import Way


@pytest.fixture
def child(start: Start) -> Iterator[Child]:
    """Another process, in which a port named "them" is served."""
    with start() as child:
        child.call(roles.open_port, "them", 16)
        yield child


class TestFullQueues:
    @pytest.fixture
    def full(self, child: Child, way: Way) -> Port:
        """A handle to a port with an unserved queue of 4, which is full."""
        child.call(roles.open_unserved, "full", 4)
        port = way.remote("full")
        for number in range(4):
            port.send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)
        return port

    @pytest.mark.parametrize("timeout", [0, -1, 0.1])
    def test_refuse_in_time(self, child: Child, full: Port, timeout: float) -> None:
        """P6, P7."""
        start = time.monotonic()
        with pytest.raises(SendTimeoutError, match="queue_limit"):
            full.send(b"5", msgid=Do.KEEP, timeout=timeout)
        assert time.monotonic() - start >= timeout
        assert eventually(lambda: child.call(roles.pending, "full") == 4)

    def test_take_the_message_when_there_is_room(self, child: Child, full: Port) -> None:
        sender = Background(partial(full.send, b"4", msgid=Do.KEEP, timeout=None))
        child.call(roles.serve_port, "full")
        sender.result()
        full.request(b"5", msgid=Do.KEEP, reply_timeout=PATIENCE)
        assert child.call(roles.kept, "full") == [b"%d" % number for number in range(6)]

    def test_end_with_their_port(self, child: Child, full: Port) -> None:
        sender = Background(partial(full.send, b"4", timeout=None))
        child.call(roles.invalidate, "full")
        with pytest.raises(InvalidPortError):
            sender.result()

    def test_end_with_their_process(self, child: Child, full: Port) -> None:
        sender = Background(partial(full.send, b"4", timeout=None))
        child.kill()
        with pytest.raises(InvalidPortError):
            sender.result()

    def test_of_one_port_do_not_hold_up_another(self, child: Child, full: Port, way: Way) -> None:
        sender = Background(partial(full.send, b"4", msgid=Do.KEEP, timeout=None))
        other = way.remote("them")
        for number in range(200):
            other.send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)
        assert other.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"201"
        assert sender.is_alive()
        child.call(roles.serve_port, "full")
        sender.result()


class TestStoppedProcesses:
    @pytest.mark.parametrize("size", [1, 1000, 100_000])
    def test_take_what_there_was_room_for(self, child: Child, size: int, way: Way) -> None:
        """Up to the window, in messages or in bytes; and all of it arrives, in order."""
        port = way.remote("them")
        assert port.request(b"warm", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"1"
        child.stop()
        accepted = roles.fill(port, size)
        assert 8 <= accepted <= 16  # room is granted again by half a window
        child.signal(signal.SIGCONT)
        answer = port.request(b"last", msgid=Do.KEEP, send_timeout=PATIENCE, reply_timeout=PATIENCE)
        assert answer.data == b"%d" % (accepted + 2)
        kept = child.call(roles.kept, "them")
        assert kept[0] == b"warm"
        assert [(d or b"").split()[0] for d in kept[1:-1]] == [b"%d" % n for n in range(accepted)]
        assert all(len(data or b"") > size for data in kept[1:-1])
        assert kept[-1] == b"last"

    def test_are_not_dead(self, child: Child, way: Way) -> None:
        port = way.remote("them")
        port.send(b"", msgid=Do.KEEP)
        child.stop()
        assert not eventually(lambda: not port.is_valid, 0.3)
        child.signal(signal.SIGCONT)
        assert port.request(msgid=Do.WHO, reply_timeout=PATIENCE).data == b"%d" % child.pid

    def test_that_never_greeted_take_a_check_in(self, child: Child, way: Way) -> None:
        """P6: a first message needs no answer of the peer's."""
        child.stop()
        port = way.remote("them")
        port.send(b"check-in", msgid=Do.KEEP, timeout=0)
        with pytest.raises(SendTimeoutError):
            port.send(b"more", msgid=Do.KEEP, timeout=0)
        child.signal(signal.SIGCONT)
        assert port.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"2"
        assert child.call(roles.kept, "them") == [b"check-in", b""]

    def test_leave_nothing_half_sent(self, child: Child, way: Way) -> None:
        """Frames larger than the socket's buffer, refused and accepted by turns."""
        child.call(roles.open_port, "large", 1000)
        port, other = way.remote("large"), way.remote("them")
        for used in (port, other):  # more than a first message is allowed after the first answer
            used.request(msgid=Do.WHO, reply_timeout=PATIENCE)
        child.stop()
        accepted = roles.fill(port, 200_000)
        assert accepted
        roles.fill(other, 10)
        child.signal(signal.SIGCONT)
        port.send(b"end", msgid=Do.KEEP, timeout=PATIENCE)
        assert other.request(b"?", msgid=Do.ECHO, reply_timeout=PATIENCE).data == b"?"
        answer = port.request(b"whole", msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data == b"whole"
        kept = child.call(roles.kept, "large")
        assert [(d or b"").split()[0] for d in kept[:-1]] == [b"%d" % n for n in range(accepted)]
        assert kept[-1] == b"end"


def test_a_slow_port_leaves_a_fast_one_its_rate(child: Child, way: Way, tmp_path: Path) -> None:
    """Two loops at the other end: one of them in a long callback, with a full queue."""
    assert child.call(roles.open_apart, "slow", 8) == child.pid
    fast, slow = way.remote("them"), way.remote("slow")
    with roles.held(slow, tmp_path / "lock"):
        assert roles.fill(slow) >= 7
        start = time.monotonic()
        for number in range(500):
            data = b"%d" % number
            assert fast.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE).data == data
        assert time.monotonic() - start < 5.0
    answer = slow.request(b"!", msgid=Do.ECHO, send_timeout=PATIENCE, reply_timeout=PATIENCE)
    assert answer.data == b"!"
