"""The end of a port: order, handlers, threads (M15, M16, P3)."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from portkit import (
    COMMON_MODES,
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    Port,
    PortMessage,
    RunLoop,
    RunResult,
)
from tests.ports.helpers import (
    Background,
    Recorder,
    hooked,
    interrupt,
    on_other_thread,
    served,
)
from tests.support import PATIENCE, LoopThread, Reports, eventually


def on_this_thread(fn: Callable[[], object]) -> Callable[[], object]:
    return fn


WHERE = pytest.mark.parametrize("where", [on_this_thread, on_other_thread])


class TestState:
    @WHERE
    def test_nothing_goes_any_more(
        self, where: Callable[[Callable[[], object]], Callable[[], object]]
    ) -> None:
        port = MachPort(Recorder())
        port.send()
        states = [port.is_valid]
        where(port.invalidate)()
        states.append(port.is_valid)
        assert states == [True, False]
        assert port.pending == 0
        assert port.delegate is None
        assert "invalid" in repr(port)
        calls: list[Callable[[], object]] = [
            port.send,
            lambda: port.send(timeout=0),
            lambda: port.send_many([b""]),
            lambda: port.send_many([]),
            port.request,
            lambda: port.receive(0),
            port.fileno,
        ]
        for call in calls:
            with pytest.raises(InvalidPortError) as caught:
                call()
            assert caught.value.code == -3
        assert port.process() == 0

    def test_is_idempotent(self) -> None:
        calls: list[Port] = []
        port = MachPort()
        port.add_invalidation_handler(calls.append)
        for _ in range(3):
            port.invalidate()
        assert calls == [port]  # P3: once

    def test_by_many_threads_at_once(self) -> None:
        for _ in range(30):
            calls: list[Port] = []
            port = MachPort()
            helper = Background(lambda: None)
            helper.result()
            port.add_invalidation_handler(calls.append, loop=None)
            start = threading.Barrier(4)

            def end(port: MachPort = port, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                port.invalidate()

            threads = [Background(end) for _ in range(4)]
            for thread in threads:
                thread.result()
            RunLoop.current().run(0)  # performs it, if this thread has a loop
            assert calls == [port]

    def test_leaving_the_with_block(self) -> None:
        with MachPort() as port:
            assert port.is_valid
        assert not port.is_valid

    def test_inside_the_with_block(self) -> None:
        with MachPort() as port:
            port.invalidate()

    @pytest.mark.own_thread
    @WHERE
    def test_the_loop_drops_it(
        self, where: Callable[[Callable[[], object]], Callable[[], object]]
    ) -> None:
        loop = RunLoop.current()
        port = MachPort(Recorder())
        loop.add_port(port, COMMON_MODES)
        loop.add_port(port, "special")
        where(port.invalidate)()
        assert not loop.contains_port(port, COMMON_MODES)
        assert not loop.contains_port(port, "special")
        assert loop.run(PATIENCE) is RunResult.FINISHED

    def test_a_sleeping_loop_notices(self) -> None:
        """It ends, because its mode is empty now (R33 the way it should be)."""
        port = MachPort()
        ready = threading.Event()

        def body() -> RunResult:
            RunLoop.current().add_port(port)
            ready.set()
            return RunLoop.current().run(PATIENCE)

        thread = Background(body)
        assert ready.wait(PATIENCE)
        loop = port._loop
        assert loop is not None
        assert eventually(lambda: loop.is_waiting)
        port.invalidate()
        assert thread.result() is RunResult.FINISHED


class TestHandlers:
    def test_on_the_adding_thread_at_once(self) -> None:
        states: list[bool] = []
        port = MachPort()
        port.add_invalidation_handler(lambda port: states.append(port.is_valid))
        port.invalidate()
        assert states == [False]  # M15

    def test_in_the_order_of_adding(self) -> None:
        calls: list[int] = []

        def note(number: int, port: Port) -> None:
            calls.append(number)

        port = MachPort()
        for number in range(3):
            port.add_invalidation_handler(partial(note, number))
        port.invalidate()
        assert calls == [0, 1, 2]

    @pytest.mark.parametrize("by_loop", [False, True])
    def test_performed_on_the_loop_of_the_adding_thread(self, by_loop: bool) -> None:
        """``loop=`` names one; otherwise it is that of the thread that adds."""
        calls: list[int] = []
        port = MachPort()

        def handler(port: Port) -> None:
            calls.append(threading.get_ident())

        with LoopThread() as thread:
            if by_loop:
                port.add_invalidation_handler(handler, loop=thread.loop)
            else:
                thread.call(port.add_invalidation_handler, handler)
            port.invalidate()
            assert eventually(lambda: calls)
            assert calls == [thread.loop.ident]

    @pytest.mark.own_thread
    def test_performed_in_the_common_modes(self) -> None:
        loop = RunLoop.current()
        loop.add_common_mode("tracking")
        calls: list[Port] = []
        port = MachPort()
        port.add_invalidation_handler(calls.append)
        on_other_thread(port.invalidate)()
        assert calls == []
        loop.run_in_mode("private", 0)
        assert calls == []
        loop.run_in_mode("tracking", 0)
        assert calls == [port]

    def test_where_the_adding_thread_has_no_loop(self) -> None:
        calls: list[int] = []
        port = MachPort()

        def add() -> None:
            port.add_invalidation_handler(lambda port: calls.append(threading.get_ident()))

        Background(add).result()
        port.invalidate()
        assert calls == [threading.get_ident()]

    def test_on_an_invalid_port_at_once(self) -> None:
        """M16."""
        calls: list[Port] = []
        port = MachPort()
        port.invalidate()
        port.add_invalidation_handler(calls.append)
        assert calls == [port]
        port.add_invalidation_handler(calls.append)
        assert calls == [port, port]

    def test_on_an_invalid_port_for_another_loop(self) -> None:
        calls: list[int] = []
        port = MachPort()
        port.invalidate()
        with LoopThread() as thread:
            port.add_invalidation_handler(
                lambda port: calls.append(threading.get_ident()), loop=thread.loop
            )
            assert eventually(lambda: calls)
            assert calls == [thread.loop.ident]

    @pytest.mark.parametrize("wrong", [None, 5, b"handler"])
    def test_must_be_callable(self, wrong: object) -> None:
        with MachPort() as port:
            with pytest.raises(TypeError, match="called"):
                port.add_invalidation_handler(wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="called"):
                port.add_no_senders_handler(wrong)  # type: ignore[arg-type]

    def test_one_that_raises_is_reported_and_the_rest_goes_on(self, reports: Reports) -> None:
        calls: list[Port] = []

        def bad(port: Port) -> None:
            raise LookupError

        port = MachPort(Recorder())
        port.add_invalidation_handler(bad)
        port.add_invalidation_handler(calls.append)
        port.invalidate()
        assert calls == [port]
        assert port.delegate is None
        assert [type(error) for error in reports.take()] == [LookupError]

    @pytest.mark.own_thread
    def test_one_that_is_interrupted_leaves_a_finished_port(self) -> None:
        loop = RunLoop.current()
        port = MachPort(Recorder())
        port.fileno()
        port.add_invalidation_handler(lambda port: interrupt())
        with pytest.raises(KeyboardInterrupt):
            port.invalidate()
        assert not port.is_valid
        assert port.delegate is None
        assert not loop.contains_port(port)

    def test_one_may_do_anything(self) -> None:
        """No lock is held: it sends, ends and makes ports, and adds another handler."""
        events: list[str] = []
        other = MachPort()

        def handler(port: Port) -> None:
            with pytest.raises(InvalidPortError):
                port.send()
            port.invalidate()
            port.add_invalidation_handler(lambda port: events.append("inner"))
            on_other_thread(lambda: other.send(b"!"))()
            events.append("outer")

        port = MachPort()
        port.add_invalidation_handler(handler)
        port.invalidate()
        assert events == ["inner", "outer"]
        assert other.receive(0).data == b"!"

    def test_is_let_go_afterwards(self) -> None:
        handler = Recorder()
        watch = weakref.ref(handler)
        port = MachPort(handler)
        port.add_invalidation_handler(handler)  # type: ignore[arg-type]
        port.add_no_senders_handler(handler)  # type: ignore[arg-type]
        del handler
        port.invalidate()
        gc.collect()
        assert watch() is None


class TestDuringDelivery:
    @pytest.mark.own_thread
    def test_from_inside_its_own_delegate(self) -> None:
        loop = RunLoop.current()
        events: list[object] = []

        def delegate(message: PortMessage) -> None:
            events.append(message.data)
            port.invalidate()
            events.append("end")

        port = MachPort(delegate)
        port.add_invalidation_handler(lambda port: events.append("handler"))
        loop.add_port(port)
        port.send_many([b"1", b"2", b"3"])
        assert loop.run(PATIENCE) is RunResult.FINISHED
        assert events == [b"1", "handler", "end"]

    def test_the_taken_request_is_still_answered(self) -> None:
        with served() as port:

            def delegate(message: PortMessage) -> bytes:
                port.invalidate()
                return b"goodbye"

            port.delegate = delegate
            assert port.request(b"?", reply_timeout=PATIENCE).data == b"goodbye"
            assert not port.is_valid

    def test_from_another_thread_at_most_the_one_under_way(self) -> None:
        seen: list[bytes | None] = []
        begun, go_on = threading.Event(), threading.Event()

        def delegate(message: PortMessage) -> None:
            seen.append(message.data)
            begun.set()
            assert go_on.wait(PATIENCE)

        with served(delegate) as port:
            loop = port._loop
            assert loop is not None
            port.send_many([b"1", b"2", b"3"])
            assert begun.wait(PATIENCE)
            port.invalidate()  # does not wait for the callback
            assert port.delegate is None
            go_on.set()
            loop.perform_and_wait(lambda: None, timeout=PATIENCE)
        assert seen == [b"1"]

    @pytest.mark.own_thread
    @pytest.mark.parametrize("step", ["getitem", "popleft"])
    def test_between_any_two_steps_of_a_delivery(self, step: str) -> None:
        """Another thread invalidates while the loop takes the message: it is either destroyed,
        and its request fails so, or handled.
        """
        loop = RunLoop.current()
        delegate = Recorder(b"!")
        port = MachPort(delegate)
        loop.add_port(port)
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE))
        assert eventually(lambda: port.pending)
        port._mailbox.queue = hooked(
            port._mailbox.queue, **{step: on_other_thread(port.invalidate)}
        )
        loop.run(0.001)
        with pytest.raises(BecameInvalidError):
            asker.result()
        assert delegate.messages == []

    def test_answer_arrives_before_the_end(self) -> None:
        """An answer sent before the invalidation arrives, whoever is the first to look."""
        with served() as port:

            def delegate(message: PortMessage) -> None:
                message.reply(b"first")
                port.invalidate()

            port.delegate = delegate
            assert port.request(b"?", reply_timeout=PATIENCE).data == b"first"


class TestWhoWaits:
    def test_queued_requests_fail(self) -> None:
        port = MachPort()
        askers = [Background(lambda: port.request(b"?", reply_timeout=None)) for _ in range(3)]
        assert eventually(lambda: port.pending == 3)
        port.invalidate()
        for asker in askers:
            with pytest.raises(BecameInvalidError) as caught:
                asker.result()
            assert caught.value.code == -5

    @pytest.mark.parametrize("many", [False, True])
    def test_blocked_senders_fail(self, many: bool) -> None:
        port = MachPort(queue_limit=1)
        port.send()

        def send() -> None:
            if many:
                port.send_many([b"1", b"2"], timeout=None)
            else:
                port.send(b"1", timeout=None)

        sender = Background(send)
        assert eventually(lambda: port._mailbox.senders)
        port.invalidate()
        with pytest.raises(BecameInvalidError) as caught:
            sender.result()
        assert caught.value.accepted == 0

    def test_references_in_queued_messages_are_released(self) -> None:
        carried = MachPort()
        watch = weakref.ref(carried)
        port = MachPort()
        port.send([b"take", carried])
        del carried
        port.invalidate()
        gc.collect()
        assert watch() is None


class TestThreadEnd:
    def test_ports_on_its_loop_end_with_it(self) -> None:
        events: list[str] = []
        port = MachPort(queue_limit=1)
        ready, end = threading.Event(), threading.Event()

        def body() -> None:
            RunLoop.current().add_port(port)
            port.add_invalidation_handler(lambda port: events.append("dying thread"))
            ready.set()
            assert end.wait(PATIENCE)

        with LoopThread() as watcher:
            watcher.call(
                port.add_invalidation_handler, lambda port: events.append("another thread")
            )
            thread = Background(body)
            assert ready.wait(PATIENCE)
            port.send()
            sender = Background(lambda: port.send(timeout=None))
            assert eventually(lambda: port._mailbox.senders)
            end.set()
            thread.result()
            with pytest.raises(BecameInvalidError):
                sender.result()
            assert eventually(lambda: len(events) == 2)
        assert sorted(events) == ["another thread", "dying thread"]
        with pytest.raises(InvalidPortError):
            port.send()

    def test_ports_it_merely_made_go_on(self) -> None:
        made: list[MachPort] = []
        Background(lambda: made.append(MachPort())).result()
        with made[0] as port:
            port.send(b"!")
            assert port.receive(0).data == b"!"


class TestNoSenders:
    """Counted are rights exported over links: see tests/link/test_no_senders.py."""

    def test_references_in_the_process_are_not_counted(self) -> None:
        calls: list[Port] = []
        with MachPort() as port, MachPort() as other:
            port.add_no_senders_handler(calls.append)
            other.send(port)
            other.receive(0)
            gc.collect()
        assert calls == []
