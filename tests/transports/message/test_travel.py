"""What travels between processes: ports, answers to be given, descriptors, large data."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from portkit import (
    InvalidPortError,
    MachPort,
    MessagePort,
    Port,
    PortMessage,
    ReplyDroppedError,
)
from portkit.link.descriptor import Descriptor
from portkit.link.node import Settings
from portkit_transports.message.host import configure
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.message import roles
from tests.transports.message.processes import Child
from tests.transports.message.roles import Do

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def third(folder: Path) -> Iterator[Child]:
    """One more, with a port named "third"."""
    with Child() as child:
        child.call(roles.open_port, "third")
        yield child


@pytest.fixture
def door() -> Iterator[Recorder]:
    """What comes to a port of ours named "door"."""
    seen = Recorder()
    with LoopThread() as thread, MessagePort("door", seen) as port:
        thread.loop.add_port(port)
        yield seen


class TestPorts:
    def test_of_a_third_process(self, child: Child, third: Child, door: Recorder) -> None:
        """We hand the child's port to the third, which talks to the child through us."""
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        (theirs,) = door.messages[0].ports
        (passed,) = MessagePort.remote("third").request([theirs], msgid=Do.PORT).ports
        assert passed == theirs
        assert third.call(roles.ask_kept, "third", b"through you") == b"through you"
        assert third.call(roles.ask_kept, "third", b"", int(Do.WHO)) == b"%d" % child.pid
        large = bytes(range(256)) * 40_000
        assert third.call(roles.ask_kept, "third", large) == large
        child.call(roles.invalidate, "mach")
        assert eventually(lambda: not third.call(roles.first_is_valid, "third"))
        with pytest.raises(InvalidPortError):
            third.call(roles.ask_kept, "third", b"")

    def test_of_a_third_process_in_order(self, child: Child, third: Child, door: Recorder) -> None:
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        MessagePort.remote("third").request(door.messages[0].ports, msgid=Do.PORT)
        third.call(roles.send_to_kept, "third", 3000)
        assert third.call(roles.ask_kept, "third", b"", int(Do.KEEP)) == b"3001"
        kept = child.call(roles.kept, "mach")
        assert kept == [b"%d" % number for number in range(3000)] + [b""]

    @pytest.mark.parametrize("which", ["owner", "middle"])
    def test_of_a_third_process_end_visibly(self, folder: Path, which: str) -> None:
        """The child's port goes to the second process, and from there to us."""
        with Child() as owner, Child() as middle, LoopThread() as thread:
            door = Recorder()
            middle.call(roles.open_port, "middle")
            owner.call(roles.offer_mach_port_to_server, "middle")
            with MessagePort("door", door) as port:
                thread.loop.add_port(port)
                middle.call(roles.show_kept, "middle", "door")
                assert door.wait(1)
            (relayed,) = door.messages[0].ports
            assert relayed.request(msgid=Do.WHO).data == b"%d" % owner.pid
            ended = Recorder()
            thread.call(relayed.add_invalidation_handler, ended)
            asker = Background(partial(relayed.request, msgid=Do.WAIT, reply_timeout=None))
            assert eventually(lambda: owner.call(roles.waiting, "mach"))
            (owner if which == "owner" else middle).kill()
            assert ended.wait(1)
            with pytest.raises((InvalidPortError, ReplyDroppedError)):
                asker.result()
            assert not relayed.is_valid

    def test_come_home_as_themselves(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        with MachPort() as mach, MessagePort() as message:
            answer = remote.request([mach, b"", message, mach], msgid=Do.ECHO)
            assert answer.components == (mach, b"", message, mach)
            assert answer.components[0] is mach
            assert answer.components[2] is message

    def test_the_childs_own_come_home_there(self, child: Child, door: Recorder) -> None:
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        (theirs,) = door.messages[0].ports
        MessagePort.remote("them").request([theirs], msgid=Do.PORT)
        assert child.call(roles.first_is_own, "them", "mach")

    def test_a_mach_port_serves_another_process(self, child: Child) -> None:
        with LoopThread() as thread, MachPort(Recorder(b"from here")) as port:
            thread.loop.add_port(port)
            answer = MessagePort.remote("them").request([b"?", port], msgid=Do.ASK)
            assert answer.data == b"from here"

    def test_the_reply_port_of_a_one_way_message(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        with MessagePort() as desk:
            remote.send(b"!", msgid=Do.REPLY, reply_port=desk)
            assert desk.receive(PATIENCE).data == b"!"

    def test_go_when_nobody_holds_them(self, child: Child, door: Recorder) -> None:
        gone = Recorder()
        with LoopThread() as thread, MachPort() as port:
            thread.call(port.add_no_senders_handler, gone)
            remote = MessagePort.remote("them")
            remote.request([port], msgid=Do.PORT)
            child.call(roles.drop_ports, "them")
            assert gone.wait(1)

    def test_a_killed_process_holds_none(self, child: Child) -> None:
        gone = Recorder()
        with LoopThread() as thread, MachPort() as port:
            thread.call(port.add_no_senders_handler, gone)
            MessagePort.remote("them").request([port], msgid=Do.PORT)
            child.kill()
            assert gone.wait(1)


class TestRequestsHandedOn:
    def test_to_a_third_process(self, child: Child, third: Child) -> None:
        """The child hands our request on, and the third answers it."""
        onward = MessagePort.remote("third")
        answer = MessagePort.remote("them").request([b"who answers", onward], msgid=Do.PASS_ON)
        assert answer.data == b"who answers"

    def test_to_a_third_process_that_dies(self, child: Child, third: Child) -> None:
        onward = MessagePort.remote("third")
        asker = Background(
            partial(
                MessagePort.remote("them").request,
                [b"", onward],
                msgid=Do.PASS_ON_TO_WAIT,
                reply_timeout=None,
            )
        )
        assert eventually(lambda: third.call(roles.waiting, "third"))
        third.kill()
        with pytest.raises((InvalidPortError, ReplyDroppedError)):
            asker.result()

    def test_as_a_component(self, child: Child) -> None:
        """A send-once right in the midst of a message."""
        waiting: list[PortMessage] = []

        def delegate(message: PortMessage) -> None:
            message.defer()
            waiting.append(message)

        with LoopThread() as thread, MachPort(delegate) as port:
            thread.loop.add_port(port)
            asker = Background(partial(port.request, b"?", reply_timeout=PATIENCE))
            assert eventually(lambda: waiting)
            send_port = waiting[0].send_port
            assert send_port is not None
            MessagePort.remote("them").send(b"over there", msgid=Do.REPLY, reply_port=send_port)
            assert asker.result().data == b"over there"


class TestDescriptors:
    def test_a_pipe(self, child: Child) -> None:
        """The child reads what is written here, and closes it."""
        end, other = os.pipe()
        with Descriptor(end) as pipe:
            MessagePort.remote("them").send([pipe], msgid=Do.HOLD)
        os.close(end)
        os.write(other, b"x")
        os.close(other)
        assert MessagePort.remote("them").request(b"on", msgid=Do.ECHO).data == b"on"

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
        before, theirs = open_descriptors(), child.call(roles.descriptors)
        for _ in range(50):
            with Descriptor(0) as sent:
                remote.request([sent], msgid=Do.ECHO, reply_timeout=PATIENCE)
        gc.collect()
        assert open_descriptors() == before
        assert child.call(roles.descriptors) == theirs


def _is_broken(pipe: int) -> bool:
    try:
        os.write(pipe, b"?")
    except BrokenPipeError:
        return True
    return False


class TestLargeData:
    SIZE = 10 << 20

    def test_both_ways(self, child: Child) -> None:
        data = os.urandom(self.SIZE)
        answer = MessagePort.remote("them").request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data == data

    def test_the_view_is_read_only(self, child: Child) -> None:
        data = os.urandom(self.SIZE)
        answer = MessagePort.remote("them").request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        view = answer.view
        assert view is not None
        assert view.readonly
        assert view == data

    def test_views_outlive_message_port_and_process(self, child: Child) -> None:
        data = os.urandom(self.SIZE)
        remote = MessagePort.remote("them")
        answer = remote.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        view = answer.view
        assert view is not None
        part = view[1000:2000]
        del answer, view
        gc.collect()
        remote.request(bytes(self.SIZE), msgid=Do.ECHO, reply_timeout=PATIENCE)
        child.kill()
        assert eventually(lambda: not remote.is_valid)
        assert part == data[1000:2000]

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

    def test_allocated_buffers(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        buffer = remote.allocate(self.SIZE)
        buffer[:5] = b"first"
        buffer[-4:] = b"last"
        answer = remote.request([buffer], msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data is not None
        assert (answer.data[:5], answer.data[-4:], len(answer.data)) == (
            b"first",
            b"last",
            self.SIZE,
        )

    def test_copied_on_arrival(self, folder: Path) -> None:
        """From a peer that is not trusted to leave alone what it has lent."""
        configure(Settings(copy_out_of_line=True))
        with Child() as child:
            child.call(roles.open_port, "them")
            data = os.urandom(self.SIZE)
            answer = MessagePort.remote("them").request(data, msgid=Do.ECHO)
            assert type(answer.components[0]) is bytes
            assert answer.data == data

    def test_in_the_midst_of_small(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        for number in range(20):
            data = b"%d " % number + bytes(300_000 * (number % 3))
            remote.send(data, msgid=Do.KEEP, timeout=PATIENCE)
        remote.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE)
        kept = child.call(roles.kept, "them")
        assert [(data or b"").split()[0] for data in kept[:-1]] == [b"%d" % n for n in range(20)]


REFUSED: dict[str, Callable[[], object]] = {
    "text": lambda: "text",
    "number": lambda: [5],
    "closed": lambda: [_closed()],
}


def _closed() -> Descriptor:
    descriptor = Descriptor(0)
    descriptor.close()
    return descriptor


@pytest.mark.parametrize("make", REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_travel_is_refused_whole(child: Child, make: Callable[[], object]) -> None:
    """P9: no right stays behind, and the link goes on."""
    remote = MessagePort.remote("them")
    port = MachPort()
    kept = weakref.ref(port)
    wrong = make()
    components: list[object] = [b"", port, *(wrong if isinstance(wrong, list) else [wrong])]
    with pytest.raises((TypeError, ValueError)):
        remote.send(components)  # type: ignore[arg-type]
    del components, port
    gc.collect()
    assert kept() is None
    assert remote.request(b"on", msgid=Do.ECHO).data == b"on"


def test_a_dead_port_arrives_dead(child: Child) -> None:
    port: Port = MachPort()
    port.invalidate()
    (arrived,) = MessagePort.remote("them").request([port], msgid=Do.ECHO).ports
    assert not arrived.is_valid
