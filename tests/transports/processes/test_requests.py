"""Requests between processes: their outcomes, their time-outs, and who calls whom meanwhile."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from portkit import (
    BecameInvalidError,
    InvalidPortError,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    SendTimeoutError,
)
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.ended import AT_ONCE
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import Way


class TestOutcomes:
    def test_an_answer(self, child: Child, way: Way) -> None:
        answer = way.remote("them").request([b"1", b"", b"3"], msgid=Do.ECHO)
        assert answer.components == (b"1", b"", b"3")

    def test_none_is_empty_data_both_ways(self, child: Child, way: Way) -> None:
        """M11."""
        remote = way.remote("them")
        assert remote.request(msgid=Do.NOTHING).components == (b"",)
        assert remote.request(msgid=Do.ECHO).components == ()

    def test_no_room_in_time(self, child: Child, way: Way) -> None:
        child.call(roles.open_unserved, "full", 1)
        remote = way.remote("full")
        remote.send(b"1")
        with pytest.raises(SendTimeoutError) as caught:
            remote.request(b"2", send_timeout=0.05, reply_timeout=PATIENCE)
        assert caught.value.code == -1

    def test_no_answer_in_time(self, child: Child, way: Way) -> None:
        with pytest.raises(ReceiveTimeoutError) as caught:
            way.remote("them").request(msgid=Do.WAIT, send_timeout=PATIENCE, reply_timeout=0.05)
        assert caught.value.code == -2
        assert child.call(roles.waiting, "them") == 1

    def test_an_invalid_port(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        remote.request(msgid=Do.WHO)
        child.call(roles.invalidate, "them")
        assert eventually(lambda: not remote.is_valid)
        with pytest.raises(InvalidPortError) as caught:
            remote.request(b"")
        assert caught.value.code == -3

    @pytest.mark.parametrize("how", ["kill", "_exit"])
    def test_the_process_ends_meanwhile(self, child: Child, how: str, way: Way) -> None:
        remote = way.remote("them")
        asker = Background(partial(remote.request, msgid=Do.WAIT, reply_timeout=None))
        assert eventually(lambda: child.call(roles.waiting, "them"))
        if how == "kill":
            child.kill()
        else:
            child.begin(roles.exit_abruptly)
        with pytest.raises(BecameInvalidError) as caught:
            asker.result()
        assert caught.value.code == -5

    def test_the_port_ends_with_the_request_unread(self, child: Child, way: Way) -> None:
        child.call(roles.open_unserved, "unserved")
        remote = way.remote("unserved")
        asker = Background(partial(remote.request, b"?", reply_timeout=None))
        assert eventually(lambda: child.call(roles.pending, "unserved"))
        child.call(roles.invalidate, "unserved")
        with pytest.raises(BecameInvalidError) as caught:
            asker.result()
        assert caught.value.code == -5

    def test_dropped(self, child: Child, way: Way) -> None:
        with pytest.raises(ReplyDroppedError):
            way.remote("them").request(msgid=Do.DROP, reply_timeout=None)

    def test_late_answers_are_dropped(self, child: Child, way: Way) -> None:
        """M10: the next request is not poisoned."""
        remote = way.remote("them")
        for _ in range(3):
            with pytest.raises(ReceiveTimeoutError):
                remote.request(msgid=Do.WAIT, reply_timeout=0)
        assert remote.request(msgid=Do.ANSWER_WAITING, reply_timeout=PATIENCE).data == b"now"
        assert remote.request(b"next", msgid=Do.ECHO, reply_timeout=PATIENCE).data == b"next"


class TestNested:
    @pytest.mark.own_thread
    def test_there_and_back_in_a_private_mode(self, child: Child, way: Way) -> None:
        """A asks B, which asks A before it answers."""
        loop = RunLoop.current()
        others = Recorder()
        with way.open("us", Recorder(b"back")) as desk, way.open("other", others) as other:
            loop.add_port(desk, "private")
            loop.add_port(other)
            other.send(b"not now")
            remote = way.remote("them")
            answer = remote.request(
                [b"there", desk], msgid=Do.ASK, reply_mode="private", reply_timeout=PATIENCE
            )
            assert answer.data == b"back"
            assert not others.data
            loop.run_in_mode("default", 0)
            assert others.data == [b"not now"]

    @pytest.mark.own_thread
    def test_ten_deep(self, child: Child, way: Way) -> None:
        loop = RunLoop.current()
        remote = way.remote("them")
        depth: list[int] = []

        def delegate(message: PortMessage) -> bytes | None:
            depth.append(len(depth))
            if len(depth) == 10:
                return b"deepest"
            return ask()

        with way.open("us", delegate) as desk, LoopThread() as thread:
            loop.add_port(desk)

            def ask() -> bytes | None:
                return remote.request(
                    [b"", relay], msgid=Do.PASS_ON, reply_mode="default", reply_timeout=PATIENCE
                ).data

            # From the child to a thread here, which hands it on to this very loop.
            with way.open("relay") as relay:
                relay.delegate = lambda message: desk.send(
                    message.data or b"", reply_port=message.send_port
                )
                thread.loop.add_port(relay)
                assert ask() == b"deepest"
        assert depth == list(range(10))

    def test_a_right_that_comes_again_as_its_last_handle_goes(self, child: Child, way: Way) -> None:
        """Each request brings the desk once more, while the child lets go of it."""

        def converse() -> None:
            with way.anonymous(Recorder(b"back")) as desk:
                RunLoop.current().add_port(desk, "private")
                remote = way.remote("them")
                for _ in range(400):
                    answer = remote.request(
                        [b"there", desk], msgid=Do.ASK, reply_mode="private", reply_timeout=PATIENCE
                    )
                    assert answer.data == b"back"

        for thread in [Background(converse) for _ in range(3)]:
            thread.result()

    def test_inside_a_delegate(self, child: Child, way: Way) -> None:
        remote = way.remote("them")

        def delegate(message: PortMessage) -> bytes | None:
            return remote.request(message.data or b"", msgid=Do.ECHO, reply_timeout=PATIENCE).data

        with LoopThread() as thread, way.open("us", delegate) as port:
            thread.loop.add_port(port)
            assert port.request(b"through", reply_timeout=PATIENCE).data == b"through"

    @pytest.mark.own_thread
    def test_to_itself(self, way: Way) -> None:
        with way.open("us", Recorder(b"!")) as port:
            RunLoop.current().add_port(port)
            remote = way.remote("us")
            assert remote.request(b"?", reply_mode="default").data == b"!"

    def test_two_processes_ask_each_other_at_once(self, child: Child, way: Way) -> None:
        with LoopThread() as thread, way.open("us", Recorder(b"ours")) as port:
            thread.loop.add_port(port)
            remote = way.remote("them")
            for _ in range(50):
                child.begin(roles.ask, "us")
                answer = remote.request(b"theirs", msgid=Do.ECHO, reply_timeout=PATIENCE)
                assert answer.data == b"theirs"
                assert child.result() == b"ours"


class TestThreads:
    def test_many_ask_over_one_link(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        start = threading.Barrier(16)

        def ask(thread: int) -> None:
            start.wait(PATIENCE)
            for number in range(40):
                data = b"%d %d" % (thread, number)
                answer = remote.request(data, msgid=Do.ECHO, reply_timeout=PATIENCE)
                assert answer.data == data

        for thread in [Background(partial(ask, number)) for number in range(16)]:
            thread.result()

    def test_a_caller_that_leaves_hands_over_the_reading(self, child: Child, way: Way) -> None:
        """The first has a time-out, and is the reader till then."""
        remote = way.remote("them")
        remote.request(msgid=Do.WHO)
        first = Background(partial(remote.request, msgid=Do.WAIT, reply_timeout=0.1))
        assert eventually(lambda: child.call(roles.waiting, "them") == 1)
        second = Background(partial(remote.request, msgid=Do.WAIT, reply_timeout=PATIENCE))
        assert eventually(lambda: child.call(roles.waiting, "them") == 2)
        with pytest.raises(ReceiveTimeoutError):
            first.result()
        remote.send(msgid=Do.ANSWER_WAITING)
        assert second.result().data == b"late"

    def test_an_answer_comes_during_a_long_callback_of_the_loop_that_reads(
        self, child: Child, way: Way
    ) -> None:
        remote = way.remote("them")
        begun, go_on = threading.Event(), threading.Event()

        def delegate(message: PortMessage) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        with LoopThread() as thread, way.open("us", delegate) as port:
            thread.loop.add_port(port)
            child.call(roles.send_numbers, "us", 1)
            assert begun.wait(PATIENCE)
            for _ in range(20):
                assert remote.request(b"!", msgid=Do.ECHO, reply_timeout=PATIENCE).data == b"!"
            go_on.set()

    def test_messages_for_other_loops_come_during_a_long_callback(
        self, child: Child, way: Way
    ) -> None:
        """The loop that reads is busy, and the other had nothing to do with this link yet."""
        begun, go_on = threading.Event(), threading.Event()

        def delegate(message: PortMessage) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        seen = Recorder()
        with (
            LoopThread() as busy,
            LoopThread() as idle,
            way.open("busy", delegate) as port,
            way.open("idle", seen) as other,
        ):
            busy.loop.add_port(port)
            idle.loop.add_port(other)
            child.call(roles.send_numbers, "busy", 1)
            assert begun.wait(PATIENCE)
            child.call(roles.send_numbers, "idle", 10)
            assert seen.wait(10)
            go_on.set()

    def test_a_death_is_noticed_where_no_loop_runs(self, child: Child, way: Way) -> None:
        with way.open("us") as port:
            loop = LoopThread()
            with loop:
                loop.loop.add_port(port)
                port.delegate = Recorder(b"")
                child.call(roles.ask, "us")
            remote = way.remote("them")
            remote.send(b"", msgid=Do.KEEP)
            child.kill()
            assert eventually(lambda: not remote.is_valid, AT_ONCE)

    @pytest.mark.own_thread
    def test_a_death_is_noticed_by_a_loop_that_does_not_run(self, child: Child, way: Way) -> None:
        remote = way.remote("them")
        with way.open("us", Recorder()) as port:
            loop = RunLoop.current()
            loop.add_port(port)
            child.call(roles.send_numbers, "us", 1)
            loop.run_mode("default", PATIENCE)
            assert remote.request(b"!", msgid=Do.ECHO).data == b"!"
            child.kill()
            assert eventually(lambda: not remote.is_valid, AT_ONCE)

    def test_the_peer_is_in_a_long_callback(self, child: Child, way: Way, tmp_path: Path) -> None:
        remote = way.remote("them")
        with roles.held(remote, tmp_path / "lock"), pytest.raises(ReceiveTimeoutError):
            remote.request(b"held up", msgid=Do.ECHO, reply_timeout=0.05)
        answer = remote.request(b"goes on", msgid=Do.ECHO, reply_timeout=PATIENCE)
        assert answer.data == b"goes on"
