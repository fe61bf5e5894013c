"""Handles to the ports of other processes, and how they learn of the end."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from portkit import InvalidPortError, Port
from portkit.message import Sender
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.ended import AT_ONCE, Ended
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import OverTCP, Way


class TestHandles:
    def test_of_one_port_are_equal(self, child: Child, way: Way) -> None:
        """P15."""
        child.call(roles.open_port, "others")
        one, other = way.remote("them"), way.remote("them")
        assert one == other
        assert hash(one) == hash(other)
        assert one is not other
        assert one != way.remote("others")
        assert one.is_remote

    def test_each_has_an_end_of_its_own(self, child: Child, way: Way) -> None:
        one, other = way.remote("them"), way.remote("them")
        one.send(b"1", msgid=Do.KEEP)
        one.invalidate()
        assert not one.is_valid
        with pytest.raises(InvalidPortError):
            one.send(b"", msgid=Do.KEEP)
        assert other.is_valid
        assert other.request(b"2", msgid=Do.KEEP).data == b"2"

    def test_in_the_owners_process(self, loop: LoopThread, way: Way) -> None:
        with way.open("us", Recorder(b"!")) as port:
            loop.loop.add_port(port)
            remote = way.remote("us")
            ended = Ended(remote, loop)
            assert remote.is_remote
            assert remote.request(b"?").data == b"!"
            port.invalidate()
            assert ended.wait()
            assert ended.calls == [remote]

    def test_that_come_and_go(self, child: Child, way: Way) -> None:
        """With the last of them the connection goes, while the next one is made by a thread."""

        def use(thread: int) -> None:
            for number in range(thread, 200, 4):
                way.remote("them").send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)
                data = bytes(number * 100)
                answer = way.remote("them").request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
                assert answer.data == data

        for user in [Background(partial(use, thread)) for thread in range(4)]:
            user.result()
        assert eventually(lambda: len(child.call(roles.kept, "them")) == 200)
        assert {int(data or b"") for data in child.call(roles.kept, "them")} == set(range(200))
        if isinstance(way, OverTCP):
            assert eventually(lambda: child.call(roles.connections, "them") == 0)

    def test_that_are_dropped_while_an_answer_is_due(self, child: Child, way: Way) -> None:
        asker = Background(
            lambda: way.remote("them").request(msgid=Do.WAIT, reply_timeout=PATIENCE).data
        )
        assert eventually(lambda: child.call(roles.waiting, "them"))
        gc.collect()
        way.remote("them").send(msgid=Do.ANSWER_WAITING, timeout=PATIENCE)
        assert asker.result() == b"late"

    def test_only_send(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        for receive in (lambda: remote.receive(0), remote.fileno, remote.process):
            with pytest.raises(Exception, match="only sends"):
                receive()

    def test_messages_say_whose_they_are(self, child: Child, way: Way, loop: LoopThread) -> None:
        """As far as the connection proves it."""
        seen = Recorder(b"")
        with way.open("us", seen) as port:
            loop.loop.add_port(port)
            child.call(roles.ask, "us")
        asked = seen.messages[0].sender
        answered = way.remote("them").request(msgid=Do.WHO).sender
        if isinstance(way, OverTCP):
            names = () if way.tls is None else ("server", "localhost", "127.0.0.1", "::1")
            for sender in (asked, answered):
                assert sender is not None
                assert (sender.pid, sender.uid, sender.host) == (None, None, "127.0.0.1")
                assert set(sender.names) == set(names)
        else:
            assert asked == answered == Sender(child.pid, os.getuid())


ENDS: dict[str, Callable[[Child], object]] = {
    "killed": lambda child: child.kill(),
    "terminated": lambda child: child.signal(signal.SIGTERM),
    "invalidated": lambda child: child.call(roles.invalidate, "them"),
    "exit": lambda child: child.end(),
    "_exit": lambda child: child.begin(roles.exit_abruptly),
    "exec": lambda child: child.begin(roles.become_another_program),
}


class TestEnds:
    @pytest.mark.parametrize("how", ENDS.values(), ids=list(ENDS))
    def test_a_remote_learns_of_it_at_once(
        self, child: Child, way: Way, loop: LoopThread, how: Callable[[Child], object]
    ) -> None:
        remote = way.remote("them")
        ended = Ended(remote, loop)
        assert remote.request(msgid=Do.WHO).data == b"%d" % child.pid
        how(child)
        assert ended.wait(AT_ONCE)
        assert ended.calls == [remote]
        assert not remote.is_valid
        with pytest.raises(InvalidPortError) as caught:
            remote.send(b"", msgid=Do.KEEP)
        assert caught.value.code == -3

    def test_handlers_of_an_ended_port_are_called_at_once(self, child: Child, way: Way) -> None:
        """M16."""
        remote = way.remote("them")
        remote.send(b"", msgid=Do.KEEP)
        child.kill()
        assert eventually(lambda: not remote.is_valid)
        calls: list[Port] = []
        remote.add_invalidation_handler(calls.append)
        assert calls == [remote]

    def test_a_new_owner_is_another_port(self, child: Child, way: Way, start: Start) -> None:
        remote = way.remote("them")
        remote.send(b"1", msgid=Do.KEEP)
        child.kill()
        assert eventually(lambda: not remote.is_valid)
        with start() as heir:
            heir.call(roles.open_port, "them")
            with pytest.raises(InvalidPortError):
                remote.send(b"2", msgid=Do.KEEP)
            again = way.remote("them")
            assert again != remote
            assert again.request(msgid=Do.WHO).data == b"%d" % heir.pid

    @pytest.mark.parametrize("size", [0, 10_000])
    def test_what_was_sent_before_a_processs_end_arrives(
        self, child: Child, way: Way, loop: LoopThread, size: int
    ) -> None:
        seen = Recorder()
        with way.open("us", seen) as port:
            loop.loop.add_port(port)
            child.call(roles.send_numbers, "us", 500, size)
            assert child.end() == 0
            assert seen.wait(500)
            got = [(data or b"").rstrip(b"\0") for data in seen.data]
            assert got == [b"%d" % number for number in range(500)]

    def test_what_was_sent_before_the_last_handle_goes_arrives(
        self, child: Child, way: Way
    ) -> None:
        """With the connection, where nothing else needs that."""
        remote = way.remote("them")
        for number in range(50):
            remote.send(b"%d" % number + bytes(10_000), msgid=Do.KEEP, timeout=PATIENCE)
        del remote
        assert eventually(lambda: len(child.call(roles.kept, "them")) == 50)
