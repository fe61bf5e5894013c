"""Context variables: a callback sees those of where it was registered."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest

from portkit import (
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    MachPort,
    MessagePort,
    Observer,
    Port,
    PortMessage,
    RunLoop,
    SocketPort,
    Timer,
)
from portkit._context import _Bound, bound, detached, original
from tests.support import PATIENCE, LoopThread, Reports, keep_alive, run_on_thread

pytestmark = pytest.mark.own_thread

name: ContextVar[str] = ContextVar("name", default="none")


def under(value: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``fn`` in a context of its own in which the variable has that value."""

    def call() -> Any:
        name.set(value)
        return fn(*args, **kwargs)

    return Context().run(call)


class Seen(list[str]):
    """Notes the variable's value, whatever it is called with."""

    def __call__(self, *args: object) -> None:
        self.append(name.get())


def run_once(loop: RunLoop) -> None:
    loop.run_in_mode(DEFAULT_MODE, 0)


class TestEachKindOfCallback:
    def test_performed_calls(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        under("a", loop.perform, seen)
        under("b", loop.perform, seen)
        loop.perform(seen)
        run_once(loop)
        assert seen == ["a", "b", "none"]

    def test_performed_and_waited_for(self) -> None:
        with LoopThread() as thread:
            value = under("a", thread.loop.perform_and_wait, name.get, timeout=PATIENCE)
            assert value == "a"
            assert thread.call(name.get) == "none"

    def test_the_executor(self) -> None:
        loop = RunLoop.current()
        future = under("a", loop.executor().submit, name.get)
        with_keywords = under("b", loop.executor().submit, lambda *, key: key + name.get(), key="!")
        run_once(loop)
        assert future.result() == "a"
        assert with_keywords.result() == "!b"

    def test_timers(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        under("a", loop.call_later, 0, seen)
        under("b", Timer.scheduled, 0, seen)
        timer = under("c", Timer, 1000, seen)
        timer.fire()
        run_once(loop)
        assert sorted(seen) == ["a", "b", "c"]

    def test_sources(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        source = under("a", InputSource, seen, schedule=seen, cancel=seen)
        loop.add_source(source)
        source.signal()
        run_once(loop)
        source.invalidate()
        assert seen == ["a", "a", "a"]

    def test_observers(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        keep_alive(loop)
        loop.add_observer(under("a", Observer, seen, Activity.ENTRY))
        run_once(loop)
        assert seen == ["a"]

    def test_descriptors(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        read, write = os.pipe()
        try:
            source = under("a", DescriptorSource, read, seen)
            loop.add_source(source)
            os.write(write, b"!")
            run_once(loop)
            source.invalidate()
        finally:
            os.close(read)
            os.close(write)
        assert seen == ["a"]

    def test_delegates(self) -> None:
        class Raw:
            def handle_raw_message(self, *args: object) -> bytes:
                return name.get().encode()

        class Plain:
            def handle_port_message(self, message: PortMessage) -> bytes:
                return name.get().encode()

        def function(message: PortMessage) -> bytes:
            return name.get().encode()

        with LoopThread() as thread:
            for delegate in (Raw(), Plain(), function):
                with under("a", MachPort, delegate) as port:
                    assert port.delegate is delegate
                    thread.call(thread.loop.add_port, port)
                    assert under("asker", port.request).data == b"a"
                    under("b", setattr, port, "delegate", delegate)
                    assert under("asker", port.request).data == b"b"

    def test_invalidation_handlers(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        here, elsewhere = MachPort(), MachPort()
        for port in (here, elsewhere):
            under("a", port.add_invalidation_handler, seen)
            port.add_invalidation_handler(seen)
        here.invalidate()
        assert seen == ["a", "none"]
        run_on_thread(lambda: under("other thread", elsewhere.invalidate))
        run_once(loop)
        assert seen == ["a", "none"] * 2

    def test_no_senders_handlers(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        with MachPort() as port, MachPort() as carried:

            class Sender:
                reader = None

                def port_ended(self) -> None: ...
                def rescheduled(self) -> None: ...

            sender = Sender()
            under("a", port.add_no_senders_handler, seen)
            assert carried._add_sender(sender)
            assert port._add_sender(sender)
            under("b", port._drop_sender, sender, None)
            run_once(loop)
        assert seen == ["a"]

    def test_between_processes_delegates_see_their_own(self) -> None:
        """What a peer sends arrives in the context of the delegate, not in one of the link's."""
        with (
            LoopThread() as thread,
            under("a", MessagePort, "test.context", lambda _: name.get().encode()) as port,
        ):
            thread.call(thread.loop.add_port, port)
            with under("b", MessagePort.remote, "test.context") as remote:
                assert under("c", remote.request).data == b"a"


class TestWhatItIsCalledIn:
    def test_what_a_callback_sets_is_its_own(self) -> None:
        loop, seen = RunLoop.current(), Seen()

        def change(timer: Timer) -> None:
            seen()
            name.set("changed")

        timer = under("a", Timer, 1000, change, repeats=True)
        timer.fire()
        timer.fire()
        assert seen == ["a", "a"]
        assert name.get() == "none"
        run_once(loop)

    def test_a_callback_called_again_while_it_runs(self) -> None:
        """A context is entered once at a time, so each call has a copy."""
        loop, seen = RunLoop.current(), Seen()

        def perform(source: InputSource) -> None:
            seen()
            if len(seen) < 3:
                source.signal()
                run_once(loop)

        source = under("a", InputSource, perform)
        loop.add_source(source)
        source.signal()
        run_once(loop)
        source.invalidate()
        assert seen == ["a"] * 3

    def test_what_is_registered_inside_inherits(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        under("a", loop.perform, lambda: loop.perform(seen))
        run_once(loop)
        run_once(loop)
        assert seen == ["a"]

    def test_of_a_finalizer_it_is_the_context_that_it_ran_in(self) -> None:
        loop, seen = RunLoop.current(), Seen()

        class Thing:
            def __del__(self) -> None:
                loop.perform(seen)

        things = [Thing()]
        under("a", things.clear)
        run_once(loop)
        assert seen == ["a"]


class TestIdentity:
    def test_calls_are_cancelled_by_their_function(self) -> None:
        loop, seen = RunLoop.current(), Seen()
        timer = under("a", loop.call_later, 0, seen)
        loop.cancel_calls(seen)
        assert not timer.is_valid

    def test_reports_name_the_function(self, reports: Reports) -> None:
        loop = RunLoop.current()
        sources: list[object] = []
        loop.exception_handler = lambda loop, context: sources.append(context["source"])

        def fail() -> None:
            raise LookupError

        under("a", loop.perform, fail)
        run_once(loop)
        assert sources == [fail]

    def test_reprs_show_the_function(self) -> None:
        def callback(*_: object) -> None: ...

        for item in (
            under("a", Timer, 1, callback),
            under("a", Observer, callback),
            under("a", InputSource, callback),
            under("a", DescriptorSource, 0, callback),
        ):
            assert repr(callback) in repr(item)


class TestCost:
    def test_without_variables_nothing_is_wrapped(self) -> None:
        def fn() -> None: ...

        assert Context().run(bound, fn) is fn
        assert original(fn) is fn
        wrapped = under("a", bound, fn)
        assert wrapped is not fn
        assert original(wrapped) is fn
        assert under("a", bound, None) is None

    @pytest.mark.parametrize("scheme", ["message", "socket"])
    def test_what_the_framework_registers_keeps_no_variable_alive(self, scheme: str) -> None:
        """A link lasts longer than the request in whose context it happened to be opened."""

        def connect() -> Port:
            if isinstance(port, SocketPort):
                remote: Port = SocketPort.remote("127.0.0.1", port.number)
            else:
                remote = MessagePort.remote("test.contextvars")
            assert remote.request().data == b"!"
            return remote

        port: SocketPort | MessagePort
        if scheme == "socket":
            port = SocketPort(delegate=lambda message: b"!")
        else:
            port = MessagePort("test.contextvars", lambda message: b"!")
        with port, LoopThread() as thread:
            thread.call(thread.loop.add_port, port)
            with under("a", connect):
                gc.collect()
                assert not [it for it in gc.get_objects() if isinstance(it, _Bound)]

    def test_detached(self) -> None:
        assert under("a", detached, lambda: len(copy_context())) == 0


def test_in_a_signal_handler_it_is_the_context_that_the_signal_struck_in() -> None:
    """Only the main thread gets signals, so this is a process of its own."""
    code = """
import signal
from contextvars import Context, ContextVar
from portkit import RunLoop

name = ContextVar("name", default="none")
loop = RunLoop.main()
signal.signal(signal.SIGUSR1, lambda *_: loop.perform(lambda: print(name.get())))

def interrupted():
    name.set("a")
    signal.raise_signal(signal.SIGUSR1)

Context().run(interrupted)
loop.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "a\n"
