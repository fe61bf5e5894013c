"""What travels between processes: ports, answers to be given, descriptors, large data."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from portkit import (
    InvalidPortError,
    MachPort,
    Port,
    PortMessage,
    ReplyDroppedError,
)
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import BETWEEN_HOSTS, Way


@pytest.fixture
def door(way: Way) -> Iterator[Recorder]:
    """What comes to a port of ours named "door"."""
    seen = Recorder()
    with LoopThread() as thread, way.open("door", seen) as port:
        thread.loop.add_port(port)
        yield seen


class TestPorts:
    def test_of_a_third_process(self, child: Child, third: Child, door: Recorder, way: Way) -> None:
        """We hand the child's port to the third, which talks to the child through us."""
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        (theirs,) = door.messages[0].ports
        (passed,) = way.remote("third").request([theirs], msgid=Do.PORT).ports
        assert passed == theirs
        assert third.call(roles.ask_kept, "third", b"through you") == b"through you"
        assert third.call(roles.ask_kept, "third", b"", int(Do.WHO)) == b"%d" % child.pid
        large = bytes(range(256)) * 40_000
        assert third.call(roles.ask_kept, "third", large) == large
        child.call(roles.invalidate, "mach")
        assert eventually(lambda: not third.call(roles.first_is_valid, "third"))
        with pytest.raises(InvalidPortError):
            third.call(roles.ask_kept, "third", b"")

    def test_of_a_third_process_in_order(
        self, child: Child, third: Child, door: Recorder, way: Way
    ) -> None:
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        way.remote("third").request(door.messages[0].ports, msgid=Do.PORT)
        third.call(roles.send_to_kept, "third", 3000)
        assert third.call(roles.ask_kept, "third", b"", int(Do.KEEP)) == b"3001"
        kept = child.call(roles.kept, "mach")
        assert kept == [b"%d" % number for number in range(3000)] + [b""]

    @pytest.mark.parametrize("which", ["owner", "middle"])
    def test_of_a_third_process_end_visibly(self, which: str, way: Way, start: Start) -> None:
        """The child's port goes to the second process, and from there to us."""
        with start() as owner, start() as middle, LoopThread() as thread:
            door = Recorder()
            middle.call(roles.open_port, "middle")
            owner.call(roles.offer_mach_port, "middle", Do.PORT)
            with way.open("door", door) as port:
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

    def test_come_home_as_themselves(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        with MachPort() as mach, way.anonymous() as message:
            answer = remote.request([mach, b"", message, mach], msgid=Do.ECHO)
            assert answer.components == (mach, b"", message, mach)
            assert answer.components[0] is mach
            assert answer.components[2] is message

    def test_a_thousand_of_one_process(self, child: Child, door: Recorder) -> None:
        """In one message, over one link, and with no descriptor for each."""
        before = len(open_descriptors())
        child.call(roles.offer_many, "door", 1000)
        assert door.wait(1)
        theirs = door.messages[0].ports
        for number in (0, 1, 499, 999):
            assert theirs[number].request(b"?", reply_timeout=PATIENCE).data == b"%d" % number
        assert len(open_descriptors()) <= before + 6
        child.kill()
        assert eventually(lambda: not any(port.is_valid for port in theirs))

    @BETWEEN_HOSTS
    def test_by_another_connection_come_home_through_us(
        self, child: Child, way: Way, door: Recorder
    ) -> None:
        """A port is known as one's own by the connection on which it was sent; else relayed."""
        child.call(roles.offer_mach_port, "door")
        assert door.wait(1)
        (theirs,) = door.messages[0].ports
        way.remote("them").request([theirs], msgid=Do.PORT)
        assert not child.call(roles.first_is_own, "them", "mach")
        child.call(roles.send_to_kept, "them", 10)
        assert eventually(lambda: len(child.call(roles.kept, "mach")) == 10)

    def test_a_mach_port_serves_another_process(self, child: Child, way: Way) -> None:
        with LoopThread() as thread, MachPort(Recorder(b"from here")) as port:
            thread.loop.add_port(port)
            answer = way.remote("them").request([b"?", port], msgid=Do.ASK)
            assert answer.data == b"from here"

    def test_the_reply_port_of_a_one_way_message(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        with way.anonymous() as desk:
            remote.send(b"!", msgid=Do.REPLY, reply_port=desk)
            assert desk.receive(PATIENCE).data == b"!"

    def test_go_when_nobody_holds_them(self, child: Child, door: Recorder, way: Way) -> None:
        gone = Recorder()
        with LoopThread() as thread, MachPort() as port:
            thread.call(port.add_no_senders_handler, gone)
            remote = way.remote("them")
            remote.request([port], msgid=Do.PORT)
            child.call(roles.drop_ports, "them")
            assert gone.wait(1)

    def test_a_killed_process_holds_none(self, child: Child, way: Way) -> None:
        gone = Recorder()
        with LoopThread() as thread, MachPort() as port:
            thread.call(port.add_no_senders_handler, gone)
            way.remote("them").request([port], msgid=Do.PORT)
            child.kill()
            assert gone.wait(1)


class TestRequestsHandedOn:
    def test_to_a_third_process(self, child: Child, third: Child, way: Way) -> None:
        """The child hands our request on, and the third answers it."""
        onward = way.remote("third")
        answer = way.remote("them").request([b"who answers", onward], msgid=Do.PASS_ON)
        assert answer.data == b"who answers"

    def test_to_a_third_process_that_dies(self, child: Child, third: Child, way: Way) -> None:
        onward = way.remote("third")
        asker = Background(
            partial(
                way.remote("them").request,
                [b"", onward],
                msgid=Do.PASS_ON_TO_WAIT,
                reply_timeout=None,
            )
        )
        assert eventually(lambda: third.call(roles.waiting, "third"))
        third.kill()
        with pytest.raises((InvalidPortError, ReplyDroppedError)):
            asker.result()

    def test_as_a_component(self, child: Child, way: Way) -> None:
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
            way.remote("them").send(b"over there", msgid=Do.REPLY, reply_port=send_port)
            assert asker.result().data == b"over there"


class TestLargeData:
    SIZE = 10 << 20

    def test_both_ways(self, child: Child, way: Way) -> None:
        data = os.urandom(self.SIZE)
        answer = way.remote("them").request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data == data

    def test_the_view_is_read_only(self, child: Child, way: Way) -> None:
        data = os.urandom(self.SIZE)
        answer = way.remote("them").request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        view = answer.view
        assert view is not None
        assert view.readonly
        assert bytes(view) == data

    def test_views_outlive_messages_that_follow_port_and_process(
        self, child: Child, way: Way
    ) -> None:
        data = os.urandom(self.SIZE)
        remote = way.remote("them")
        answer = remote.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
        view = answer.view
        assert view is not None
        part = view[1000:2000]
        del answer, view
        gc.collect()
        for _ in range(3):
            remote.request(bytes(self.SIZE), msgid=Do.ECHO, reply_timeout=PATIENCE)
        child.kill()
        assert eventually(lambda: not remote.is_valid)
        assert part == data[1000:2000]

    def test_what_is_changed_after_the_send_arrives_as_it_was(self, child: Child, way: Way) -> None:
        """The receiver stands still: most of it is not even written yet."""
        remote = way.remote("them")
        remote.request(msgid=Do.WHO)
        data = bytearray(b"before" * (1 << 19))
        child.stop()
        remote.send([data, memoryview(data)], msgid=Do.KEEP, timeout=PATIENCE)
        data[:] = b"AFTER!" * (1 << 19)
        child.signal(signal.SIGCONT)
        remote.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE)
        first, _ = child.call(roles.kept, "them")
        assert first == b"before" * (1 << 19)

    def test_allocated_buffers(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
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

    def test_in_the_midst_of_small(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        for number in range(20):
            data = b"%d " % number + bytes(300_000 * (number % 3))
            remote.send(data, msgid=Do.KEEP, timeout=PATIENCE)
        remote.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE)
        kept = child.call(roles.kept, "them")
        assert [(data or b"").split()[0] for data in kept[:-1]] == [b"%d" % n for n in range(20)]


REFUSED: dict[str, Callable[[], object]] = {
    "text": lambda: "text",
    "number": lambda: [5],
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_travel_is_refused_whole(
    child: Child, make: Callable[[], object], way: Way
) -> None:
    """P9: no right stays behind, and the link goes on."""
    remote = way.remote("them")
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


def test_a_dead_port_arrives_dead(child: Child, way: Way) -> None:
    port: Port = MachPort()
    port.invalidate()
    (arrived,) = way.remote("them").request([port], msgid=Do.ECHO).ports
    assert not arrived.is_valid
