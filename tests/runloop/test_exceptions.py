"""Callbacks that raise: an Exception is reported and the loop goes on; others leave the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portkit import (
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    MachPort,
    Observer,
    ReceiveTimeoutError,
    RunLoop,
    RunResult,
    Timer,
)
from tests.support import LoopThread, Reports, keep_alive

pytestmark = pytest.mark.own_thread

KINDS = ["source", "descriptor", "timer", "observer", "block", "delayed call", "port"]


@contextmanager
def calling_back(loop: RunLoop, kind: str, act: Callable[[], object]) -> Iterator[object]:
    """Have the loop call ``act`` once, in its next pass, by a callback of this kind.

    Gives what an error report would name as its source.
    """

    def callback(*told: Any) -> None:
        act()

    read_fd, write_fd = os.pipe()
    item: Any = None
    try:
        if kind == "source":
            item = InputSource(callback)
            loop.add_source(item)
            item.signal(wake=False)
        elif kind == "descriptor":

            def drain(source: DescriptorSource, ready: object) -> None:
                os.read(read_fd, 1)
                act()

            item = DescriptorSource(read_fd, drain)
            loop.add_source(item)
            os.write(write_fd, b"x")
        elif kind == "timer":
            item = Timer.scheduled(0.0, callback)
        elif kind == "observer":
            item = Observer(callback, Activity.BEFORE_SOURCES, repeats=False)
            loop.add_observer(item)
        elif kind == "block":
            item = callback
            loop.perform(callback)
        elif kind == "delayed call":
            item = loop.call_later(0.0, callback)
        else:
            item = MachPort(callback)
            loop.add_port(item)
            item.send(b"x")
        yield item
    finally:
        if kind != "block":
            item.invalidate()
        os.close(read_fd)
        os.close(write_fd)


def fail() -> None:
    raise ValueError("on purpose")


@pytest.mark.parametrize("kind", KINDS)
class TestExceptions:
    def test_the_handler_is_told_and_the_loop_goes_on(self, kind: str) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        told: list[tuple[RunLoop, Any]] = []
        loop.exception_handler = lambda *args: told.append(args)
        later: list[int] = []
        with calling_back(loop, kind, fail) as source:
            loop.call_later(0.01, later.append, 1)
            assert loop.run(0.05) is RunResult.TIMED_OUT
        [(told_loop, context)] = told
        assert told_loop is loop
        assert set(context) == {"message", "exception", "source"}
        assert str(context["exception"]) == "on purpose"
        assert context["source"] is source
        assert "raised" in context["message"]
        assert later == [1]

    def test_by_default_it_is_logged_with_its_traceback(self, kind: str, reports: Reports) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        with calling_back(loop, kind, fail):
            loop.run_in_mode(DEFAULT_MODE, 0)
        [error] = reports.take()
        assert error is not None
        assert str(error) == "on purpose"
        assert error.__traceback__ is not None

    def test_a_handler_that_raises_loses_neither_error(self, kind: str, reports: Reports) -> None:
        loop = RunLoop.current()
        keep_alive(loop)

        def bad_handler(loop: RunLoop, context: object) -> None:
            raise RuntimeError("the handler")

        loop.exception_handler = bad_handler
        with calling_back(loop, kind, fail):
            assert loop.run_in_mode(DEFAULT_MODE, 0) is RunResult.TIMED_OUT
        assert [str(error) for error in reports.take()] == ["the handler", "on purpose"]


class Abort(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [Abort, KeyboardInterrupt, SystemExit])
class TestBaseExceptions:
    def test_it_leaves_run_after_the_exit_observers(
        self, kind: str, error: type[BaseException]
    ) -> None:
        """R5."""
        loop = RunLoop.current()
        keep_alive(loop)
        seen: list[str | None] = []
        loop.add_observer(Observer(lambda o, a: seen.append(loop.current_mode), Activity.EXIT))

        def abort() -> None:
            raise error

        with calling_back(loop, kind, abort):
            with pytest.raises(error):
                loop.run()
            assert seen == [DEFAULT_MODE]
            assert loop.current_mode is None
            assert not loop.is_waiting
            # It was not called a second time, and the loop can go on.
            assert loop.run_in_mode(DEFAULT_MODE, 0) is RunResult.TIMED_OUT

    def test_it_leaves_nested_runs_one_by_one(self, kind: str, error: type[BaseException]) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        keep_alive(loop, "outer")
        modes: list[str | None] = []
        for mode in (DEFAULT_MODE, "outer"):
            exit_observer = Observer(lambda o, a: modes.append(loop.current_mode), Activity.EXIT)
            loop.add_observer(exit_observer, mode)

        def abort() -> None:
            raise error

        with calling_back(loop, kind, abort):
            loop.perform(loop.run, modes="outer")
            with pytest.raises(error):
                loop.run_in_mode("outer", None)
        assert modes == [DEFAULT_MODE, "outer"]
        assert loop.current_mode is None


class TestWhatIsLeft:
    """After a BaseException everything that was not begun is still there."""

    def test_calls(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []

        def abort() -> None:
            raise Abort

        loop.perform(ran.append, 1)
        loop.perform(abort)
        loop.perform(ran.append, 2)
        with pytest.raises(Abort):
            loop.run()
        assert ran == [1]
        loop.run()
        assert ran == [1, 2]

    def test_sources(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []

        def perform(source: InputSource) -> None:
            if source.order == 1:
                raise Abort
            ran.append(source.order)

        for order in range(3):
            source = InputSource(perform, order=order)
            loop.add_source(source)
            source.signal()
        with pytest.raises(Abort):
            loop.run()
        assert ran == [0]
        loop.run_in_mode(DEFAULT_MODE, 0)
        assert ran == [0, 2]

    def test_timers(self) -> None:
        """The repeating one that raised goes on with its grid."""
        loop = RunLoop.current()
        ran: list[str] = []

        def abort(timer: Timer) -> None:
            ran.append("repeating")
            if len(ran) == 1:
                raise Abort
            timer.invalidate()

        repeating = Timer(0.01, abort, fire_date=0.0, repeats=True)
        loop.add_timer(repeating)
        Timer.scheduled(0.0, lambda timer: ran.append("later"))
        with pytest.raises(Abort):
            loop.run()
        assert repeating.is_valid
        assert loop.run() is RunResult.FINISHED
        assert sorted(ran) == ["later", "repeating", "repeating"]

    def test_messages(self) -> None:
        loop = RunLoop.current()
        got: list[bytes | None] = []

        def receive(message: Any) -> None:
            if message.data == b"2":
                raise Abort
            got.append(message.data)

        port = MachPort(receive)
        loop.add_port(port)
        for data in (b"1", b"2", b"3"):
            port.send(data)
        with pytest.raises(Abort):
            loop.run()
        loop.run_in_mode(DEFAULT_MODE, 0.01)
        assert got == [b"1", b"3"]
        port.invalidate()

    def test_an_observer_that_raised_is_called_again(self) -> None:
        loop = RunLoop.current()
        keep_alive(loop)
        calls: list[Activity] = []

        def abort(observer: Observer, activity: Activity) -> None:
            calls.append(activity)
            raise Abort

        loop.add_observer(Observer(abort, Activity.BEFORE_TIMERS))
        for _ in range(2):
            with pytest.raises(Abort):
                loop.run()
        assert len(calls) == 2

    @pytest.mark.parametrize("activity", [Activity.ENTRY, Activity.EXIT])
    def test_exit_observers_run_once_whatever_raised(self, activity: Activity) -> None:
        """R5, also for an Entry observer; one Exit observer's leaves the others uncalled."""
        loop = RunLoop.current()
        keep_alive(loop)
        exits: list[int] = []
        loop.add_observer(Observer(lambda o, a: exits.append(1), Activity.EXIT, order=-1))

        def abort(observer: Observer, activity: Activity) -> None:
            raise Abort

        loop.add_observer(Observer(abort, activity))
        with pytest.raises(Abort):
            loop.run_in_mode(DEFAULT_MODE, 0)
        assert exits == [1]
        assert loop.current_mode is None


class TestCallsThatAreWaitedFor:
    @pytest.mark.parametrize("error", [Abort, KeyboardInterrupt, SystemExit])
    def test_a_base_exception_goes_both_ways(self, error: type[BaseException]) -> None:
        """It leaves the loop's run, and nobody is left waiting."""
        caught: list[BaseException] = []

        def abort() -> None:
            raise error

        with LoopThread() as other:

            def run_on() -> None:
                try:
                    other.loop.run_in_mode(DEFAULT_MODE, None)
                except BaseException as problem:
                    caught.append(problem)

            keep_alive(other.loop)
            other.loop.perform(run_on)
            with pytest.raises(error):
                other.loop.perform_and_wait(abort)
            other.loop.perform(run_on)
            future = other.loop.executor().submit(abort)
            assert isinstance(future.exception(30), error)
            assert other.call(len, caught) == 2

    def test_a_time_out_raised_by_the_call_itself_comes_back_as_it_is(self) -> None:
        def give_up() -> None:
            raise ReceiveTimeoutError("mine")

        with LoopThread() as other, pytest.raises(ReceiveTimeoutError, match="mine"):
            other.loop.perform_and_wait(give_up)


def test_a_handler_may_leave_the_run() -> None:
    loop = RunLoop.current()
    keep_alive(loop)

    def handler(loop: RunLoop, context: object) -> None:
        raise Abort

    loop.exception_handler = handler
    loop.perform(fail)
    with pytest.raises(Abort):
        loop.run()
    assert loop.current_mode is None


def test_a_handler_may_stop_the_loop(reports: Reports) -> None:
    loop = RunLoop.current()
    keep_alive(loop)
    loop.exception_handler = lambda loop, context: loop.stop()
    loop.perform(fail)
    assert loop.run() is RunResult.STOPPED
    assert reports.take() == []
