"""A port on a run loop: delegates, turns, modes."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    MachPort,
    PortError,
    PortMessage,
    RunLoop,
    RunResult,
)
from tests.ports.helpers import Background, Recorder, on_other_thread, served
from tests.support import PATIENCE, Reports, eventually

pytestmark = pytest.mark.own_thread


class ObjectDelegate:
    """A delegate by its method."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def handle_port_message(self, message: PortMessage) -> None:
        self.got.append((message.msgid, message.components, message.send_port))


class RawDelegate:
    """A delegate that gets the frame."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def handle_raw_message(self, port: Any, msgid: int, components: Any, reply_port: Any) -> None:
        assert isinstance(port, MachPort)
        self.got.append((msgid, components, reply_port))


class BothDelegate(RawDelegate):
    """P1: the raw method wins, as handleMachMessage: does."""

    def handle_port_message(self, message: PortMessage) -> None:
        raise AssertionError("the raw method wins")

    def __call__(self, message: PortMessage) -> None:
        raise AssertionError("a method wins over being callable")


class CallableWithMethod(ObjectDelegate):
    def __call__(self, message: PortMessage) -> None:
        raise AssertionError("the method wins")


def drain(loop: RunLoop, *ports: MachPort, mode: str = DEFAULT_MODE) -> None:
    while any(port.pending for port in ports):
        loop.run_in_mode(mode, 0)


class TestDelegates:
    @pytest.mark.parametrize(
        "kind", [ObjectDelegate, RawDelegate, BothDelegate, CallableWithMethod]
    )
    def test_kinds(self, kind: type[Any]) -> None:
        delegate = kind()
        with MachPort(delegate) as port, MachPort() as reply_port:
            RunLoop.current().add_port(port)
            port.send([b"data"], msgid=5, reply_port=reply_port)
            drain(RunLoop.current(), port)
            assert delegate.got == [(5, (b"data",), reply_port)]

    def test_callable(self) -> None:
        delegate = Recorder()
        with MachPort(delegate) as port:
            RunLoop.current().add_port(port)
            port.send(b"data")
            drain(RunLoop.current(), port)
            (message,) = delegate.messages
            assert message.data == b"data"
            assert message.receive_port is port

    def test_anything_else_is_refused(self) -> None:
        with pytest.raises(TypeError, match="handle_port_message"):
            MachPort(object())
        with MachPort() as port:
            with pytest.raises(TypeError, match="handle_raw_message"):
                port.delegate = 5
            assert port.delegate is None

    def test_may_be_changed_between_messages(self) -> None:
        first, second = Recorder(), ObjectDelegate()
        with MachPort(first) as port:
            RunLoop.current().add_port(port)
            port.send(b"1")
            drain(RunLoop.current(), port)
            port.delegate = second
            assert port.delegate is second
            port.send(b"2")
            drain(RunLoop.current(), port)
            assert (first.data, len(second.got)) == ([b"1"], 1)

    def test_is_held_strongly(self) -> None:
        delegate = Recorder()
        watch = weakref.ref(delegate)
        port = MachPort(delegate)
        del delegate
        gc.collect()
        assert watch() is not None
        port.invalidate()
        assert watch() is None

    def test_without_one_the_message_is_dropped_and_reported(self, reports: Reports) -> None:
        """P12, but not in silence."""
        with MachPort() as port:
            RunLoop.current().add_port(port)
            port.send(b"lost")
            drain(RunLoop.current(), port)
            (error,) = reports.take()
            assert isinstance(error, PortError)
            assert "delegate" in str(error)

    def test_one_that_raises_harms_neither_port_nor_loop(self) -> None:
        """P13."""
        contexts: list[Any] = []
        seen: list[bytes | None] = []

        def delegate(message: PortMessage) -> None:
            seen.append(message.data)
            if message.data == b"bad":
                raise LookupError("mine")

        loop = RunLoop.current()
        loop.exception_handler = lambda loop, context: contexts.append(context)
        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send_many([b"bad", b"good"])
            drain(loop, port)
            assert seen == [b"bad", b"good"]
            (context,) = contexts
            assert isinstance(context["exception"], LookupError)
            assert context["source"] is port

    def test_what_a_one_way_message_is_answered_with_goes_nowhere(self) -> None:
        with MachPort(Recorder(b"nobody asked")) as port, MachPort() as reply_port:
            RunLoop.current().add_port(port)
            port.send(b"1")
            port.send(b"2", reply_port=reply_port)
            drain(RunLoop.current(), port)
            assert reply_port.pending == 0


class TestTurns:
    def test_ports_take_turns(self) -> None:
        """R35: a port with much to deliver does not starve the others."""
        order: list[str] = []
        loop = RunLoop.current()
        with (
            MachPort(lambda message: order.append("busy")) as busy,
            MachPort(lambda message: order.append("calm")) as calm,
        ):
            loop.add_port(busy)
            loop.add_port(calm)
            busy.send_many([b""] * 50)
            calm.send_many([b""] * 2)
            loop.perform(lambda: None)
            loop.run(0.001)
            drain(loop, busy, calm)
            assert order.index("calm") <= 1
            assert order[:5].count("calm") == 2
            assert len(order) == 52

    @pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (64, 10)])
    @pytest.mark.parametrize("timeout", [0, PATIENCE])
    def test_a_pass_delivers_a_batch(self, limit: int, expected: int, timeout: float) -> None:
        """Batches of all ports together; 1 is CoreFoundation's rule (R34)."""
        loop = RunLoop.current()
        loop.batch_limit = limit
        seen: list[int] = []
        passes: list[int] = []

        def delegate(message: PortMessage) -> None:
            seen.append(1)
            if len(seen) == 1:
                loop.perform(lambda: passes.append(len(seen)))  # runs as this pass ends
            if len(seen) == 10:
                loop.stop()

        with MachPort(delegate) as first, MachPort(delegate) as second:
            loop.add_port(first)
            loop.add_port(second)
            first.send_many([b""] * 5)
            second.send_many([b""] * 5)
            while first.pending or second.pending:
                loop.run(timeout)
        assert passes == [expected]
        assert len(seen) == 10

    def test_a_pass_that_does_not_sleep_delivers_a_batch_too(self) -> None:
        """A loop polled from elsewhere keeps up (R9)."""
        delegate = Recorder()
        loop = RunLoop.current()
        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send_many([b""] * 100)
            assert loop.run(0) is RunResult.TIMED_OUT
            assert len(delegate.data) == loop.batch_limit

    def test_return_after_source_handled_delivers_one(self) -> None:
        delegate = Recorder()
        loop = RunLoop.current()
        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send_many([b"1", b"2"])
            assert loop.accept_input(DEFAULT_MODE, PATIENCE) is RunResult.HANDLED_SOURCE
            assert delegate.data == [b"1"]
            assert loop.run_mode(DEFAULT_MODE, PATIENCE)
            assert delegate.data == [b"1", b"2"]

    def test_stop_ends_the_batch(self) -> None:
        loop = RunLoop.current()
        delegate = Recorder()

        def stop_after_first(message: PortMessage) -> None:
            delegate(message)
            loop.stop()

        with MachPort(stop_after_first) as port:
            loop.add_port(port)
            port.send_many([b"1", b"2"])
            assert loop.run(PATIENCE) is RunResult.STOPPED
            assert delegate.data == [b"1"]
            assert port.pending == 1

    def test_nested_run_goes_on_where_the_delegate_stands(self) -> None:
        loop = RunLoop.current()
        events: list[bytes | None] = []

        def delegate(message: PortMessage) -> None:
            events.append(message.data)
            if message.data == b"1":
                loop.accept_input(DEFAULT_MODE, PATIENCE)
                events.append(b"end of 1")

        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send_many([b"1", b"2", b"3"])
            drain(loop, port)
        assert events == [b"1", b"2", b"end of 1", b"3"]

    def test_a_delegate_may_remove_its_port(self) -> None:
        loop = RunLoop.current()
        delegate = Recorder()

        def once(message: PortMessage) -> None:
            delegate(message)
            loop.remove_port(port)

        with MachPort(once) as port:
            loop.add_port(port)
            port.send_many([b"1", b"2"])
            loop.run(PATIENCE)  # ends: the mode is empty
            assert delegate.data == [b"1"]
            assert port.receive(0).data == b"2"

    def test_a_delegate_may_invalidate_another_port(self) -> None:
        loop = RunLoop.current()
        seen: list[str] = []
        ports: list[MachPort] = []

        def delegate(message: PortMessage) -> None:
            seen.append("called")
            for port in ports:
                port.invalidate()

        ports += [MachPort(delegate), MachPort(delegate)]
        for port in ports:
            loop.add_port(port)
            port.send(b"")
        loop.run(PATIENCE)
        assert seen == ["called"]


class TestModes:
    def test_only_the_running_mode_is_served(self) -> None:
        loop = RunLoop.current()
        delegate = Recorder()
        with MachPort(delegate) as port:
            loop.add_port(port, "special")
            port.send(b"1")
            assert loop.run(0) is RunResult.FINISHED
            assert delegate.data == []
            drain(loop, port, mode="special")
            assert delegate.data == [b"1"]

    @pytest.mark.parametrize("mode", [DEFAULT_MODE, "tracking"])
    def test_common_modes_mean_any_of_them(self, mode: str) -> None:
        loop = RunLoop.current()
        loop.add_common_mode("tracking")
        delegate = Recorder()
        with MachPort(delegate) as port:
            loop.add_port(port, COMMON_MODES)
            assert loop.contains_port(port, mode)
            port.send_many([b"1", b"2"])
            drain(loop, port, mode=mode)
            assert delegate.data == [b"1", b"2"]

    def test_added_common_before_the_mode_becomes_common(self) -> None:
        """R42."""
        loop = RunLoop.current()
        delegate = Recorder()
        with MachPort(delegate) as port:
            port.send(b"1")
            loop.add_port(port, COMMON_MODES)
            loop.add_common_mode("late")
            drain(loop, port, mode="late")
            assert delegate.data == [b"1"]

    def test_leaving_one_mode_keeps_the_other(self) -> None:
        loop = RunLoop.current()
        delegate = Recorder()
        with MachPort(delegate) as port:
            loop.add_port(port, "a")
            loop.add_port(port, "b")
            port.send(b"1")
            loop.remove_port(port, "a")
            assert loop.run_in_mode("a", 0) is RunResult.FINISHED
            drain(loop, port, mode="b")
            assert delegate.data == [b"1"]

    def test_messages_wait_for_a_loop(self) -> None:
        delegate = Recorder()
        with MachPort(delegate) as port:
            port.send_many([b"1", b"2"])
            assert port.pending == 2
            RunLoop.current().add_port(port)
            drain(RunLoop.current(), port)
            assert delegate.data == [b"1", b"2"]

    def test_adding_twice_delivers_once(self) -> None:
        """R63."""
        loop = RunLoop.current()
        delegate = Recorder()
        with MachPort(delegate) as port:
            loop.add_port(port)
            loop.add_port(port)
            port.send(b"1")
            drain(loop, port)
            loop.remove_port(port)
            assert delegate.data == [b"1"]
            assert loop.run(0) is RunResult.FINISHED

    def test_added_by_one_thread_and_removed_by_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The loop must not forget a port that is on its way into another mode."""
        loop = RunLoop.current()
        port = MachPort(Recorder())
        loop.add_port(port, "a")
        check_alive = loop._check_alive

        def interleave() -> None:
            monkeypatch.undo()
            on_other_thread(lambda: loop.remove_port(port, "a"))()
            check_alive()

        monkeypatch.setattr(loop, "_check_alive", interleave)
        loop.add_port(port, "b")
        assert loop.contains_port(port, "b")
        assert not loop.contains_port(port, "a")
        port.invalidate()
        assert loop.run_in_mode("b", PATIENCE) is RunResult.FINISHED
        assert loop._ports == {}

    def test_the_loop_holds_the_port(self) -> None:
        loop = RunLoop.current()
        port = MachPort(Recorder())
        watch = weakref.ref(port)
        loop.add_port(port)
        del port
        gc.collect()
        held = watch()
        assert held is not None
        held.invalidate()
        del held
        gc.collect()
        assert watch() is None
        assert not loop._table.modes[DEFAULT_MODE].ready

    def test_a_mode_that_never_runs_does_not_hold_ports_that_left(self) -> None:
        loop = RunLoop.current()
        port = MachPort(Recorder())
        watch = weakref.ref(port)
        loop.add_port(port, "rare")
        port.send(b"unread")
        port.invalidate()
        del port
        gc.collect()
        assert watch() is None

    def test_a_sleeping_loop_takes_a_port_added_by_another_thread(self) -> None:
        delegate = Recorder()
        with served(Recorder()) as other, MachPort(delegate) as port:
            loop = other._loop
            assert loop is not None
            assert eventually(lambda: loop.is_waiting)
            port.send(b"1")
            loop.add_port(port)
            assert delegate.wait(1)

    def test_a_foreign_schedule_call_on_an_invalid_port_is_refused(self) -> None:
        port = MachPort()
        port.invalidate()
        with pytest.raises(ValueError, match="invalid"):
            RunLoop.current().add_port(port)
        with pytest.raises(ValueError, match="invalid"):
            port.schedule(RunLoop.current(), DEFAULT_MODE)
        assert RunLoop.current().run(0) is RunResult.FINISHED

    def test_sending_from_the_delegate_to_its_own_port(self) -> None:
        loop = RunLoop.current()
        seen: list[int] = []

        def delegate(message: PortMessage) -> None:
            seen.append(message.msgid)
            if message.msgid < 5:
                port.send(msgid=message.msgid + 1)

        with MachPort(delegate, queue_limit=1) as port:
            loop.add_port(port)
            port.send()
            drain(loop, port)
        assert seen == list(range(6))


def test_delivery_is_on_the_loops_thread() -> None:
    idents: list[int] = []
    with served(lambda message: idents.append(threading.get_ident())) as port:
        loop = port._loop
        assert loop is not None
        Background(lambda: port.send(b"")).result()
        assert eventually(lambda: idents)
        assert idents == [loop.ident]


@pytest.mark.own_thread
def test_a_mode_that_never_runs_keeps_nothing_of_ports_that_have_ended() -> None:
    loop = RunLoop.current()
    for _ in range(10):
        with MachPort(lambda message: None) as port:
            loop.add_port(port, "runs")
            loop.add_port(port, "never")
            port.send(b"x")
            loop.run_in_mode("runs", 0)
            assert not port.pending
    assert not loop._table.ensure("never").ready
