"""What travels between processes of one host alone: descriptors, and memory that is lent."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from portkit import MessagePort
from portkit.link.descriptor import Descriptor
from portkit.link.node import Settings
from portkit_transports.message.host import configure
from tests.ports.helpers import Recorder
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.roles import Do

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def door() -> Iterator[Recorder]:
    """What comes to a port of ours named "door"."""
    seen = Recorder()
    with LoopThread() as thread, MessagePort("door", seen) as port:
        thread.loop.add_port(port)
        yield seen


def test_the_childs_own_come_home_there(child: Child, door: Recorder) -> None:
    child.call(roles.offer_mach_port, "door")
    assert door.wait(1)
    (theirs,) = door.messages[0].ports
    MessagePort.remote("them").request([theirs], msgid=Do.PORT)
    assert child.call(roles.first_is_own, "them", "mach")


class TestDescriptors:
    def test_a_pipe(self, child: Child) -> None:
        """The child reads what is written here, and closes it."""
        end, other = os.pipe()
        os.write(other, b"through it")
        os.close(other)
        with Descriptor(end) as pipe:
            answer = MessagePort.remote("them").request([pipe], msgid=Do.READ)
        os.close(end)
        assert answer.data == b"through it"

    def test_there_and_back(self, child: Child, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"contents")
        near, far = socket.socketpair()
        with path.open("rb") as file, near, far, Descriptor(file) as a, Descriptor(far) as b:
            answer = MessagePort.remote("them").request([a, b"between", b], msgid=Do.ECHO)
            first, between, last = answer.components
            assert between == b"between"
            assert isinstance(first, Descriptor)
            assert isinstance(last, Descriptor)
            with first, last:
                assert not os.get_inheritable(first.fileno())
                assert os.pread(first.fileno(), 100, 0) == b"contents"
                os.write(last.fileno(), b"hello")
                assert near.recv(100) == b"hello"

    def test_many_in_order(self, child: Child, tmp_path: Path) -> None:
        remote = MessagePort.remote("them")
        for number in range(40):
            path = tmp_path / f"{number}"
            path.write_bytes(b"%d" % number)
            with path.open("rb") as file, Descriptor(file) as sent:
                answer = remote.request([sent] * 5, msgid=Do.ECHO, reply_timeout=PATIENCE)
            for got in answer.components:
                assert isinstance(got, Descriptor)
                with got:
                    assert os.pread(got.fileno(), 10, 0) == b"%d" % number

    @pytest.mark.parametrize("how", ["unread", "undelivered", "dead", "dropped"])
    def test_are_closed_where_nobody_takes_them(self, child: Child, how: str) -> None:
        """The pipe's other end tells that the last copy is gone."""
        end, other = os.pipe()
        target = MessagePort.remote("them")
        if how == "unread":
            child.call(roles.open_unserved, "unserved")
            target = MessagePort.remote("unserved")
        with Descriptor(end) as pipe:
            target.send([pipe], msgid=Do.ECHO if how == "dropped" else Do.NOTHING)
        os.close(end)
        if how == "unread":
            assert eventually(lambda: child.call(roles.pending, "unserved"))
            child.call(roles.invalidate, "unserved")
        elif how == "dead":
            child.kill()
        assert eventually(lambda: _is_broken(other))
        os.close(other)

    def test_nothing_stays_open(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        remote.request(msgid=Do.WHO)
        before, theirs = open_descriptors(), _all_but_pollers(child.call(roles.descriptors))
        for _ in range(50):
            with Descriptor(0) as sent:
                remote.request([sent], msgid=Do.ECHO, reply_timeout=PATIENCE)
        gc.collect()
        assert open_descriptors() == before
        assert _all_but_pollers(child.call(roles.descriptors)) == theirs


def _all_but_pollers(descriptors: dict[int, str]) -> dict[int, str]:
    """A loop makes one when it first needs it."""
    return {fd: what for fd, what in descriptors.items() if "eventpoll" not in what}


def _is_broken(pipe: int) -> bool:
    try:
        os.write(pipe, b"?")
    except BrokenPipeError:
        return True
    return False


class TestLentMemory:
    SIZE = 10 << 20

    def test_segments_are_used_again(self, child: Child) -> None:
        """What was read and let go of comes back: the descriptors do not grow in number."""
        remote = MessagePort.remote("them")
        data = bytes(self.SIZE)
        for _ in range(3):
            remote.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        before, theirs = len(open_descriptors()), len(child.call(roles.descriptors))
        for _ in range(20):
            remote.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert len(open_descriptors()) <= before + 1
        assert len(child.call(roles.descriptors)) <= theirs + 1

    def test_copied_on_arrival(self, start: Start) -> None:
        """From a peer that is not trusted to leave alone what it has lent."""
        configure(Settings(copy_out_of_line=True))
        with start() as child:
            child.call(roles.open_port, "them")
            data = os.urandom(self.SIZE)
            answer = MessagePort.remote("them").request(data, msgid=Do.ECHO)
            assert type(answer.components[0]) is bytes
            assert answer.data == data


def test_a_closed_descriptor_is_refused(child: Child) -> None:
    remote = MessagePort.remote("them")
    descriptor = Descriptor(0)
    descriptor.close()
    with pytest.raises(ValueError, match="closed"):
        remote.send([b"", descriptor])
    assert remote.request(b"on", msgid=Do.ECHO).data == b"on"
