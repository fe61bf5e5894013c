"""A run loop as the guest of another event loop: one descriptor, and the time of the next timer."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from threading import Thread
from time import monotonic

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    LoopEndedError,
    MachPort,
    MessagePort,
    Observer,
    PortError,
    PortMessage,
    RunLoop,
    RunResult,
    Timer,
    WrongThreadError,
)
from portkit.runloop import GuestRun
from portkit.runloop.guest import Bell
from tests.link.helpers import Pair
from tests.ports.helpers import Background, Recorder, in_child, on_other_thread
from tests.support import PATIENCE, LoopThread, Reports, keep_alive

pytestmark = pytest.mark.own_thread


def is_readable(run: GuestRun, timeout: float = 0) -> bool:
    return bool(select.select([run], [], [], timeout)[0])


def settle(run: GuestRun) -> float | None:
    """Process until there is nothing more to do; when to come back."""
    delay = run.process()
    while is_readable(run):
        delay = run.process()
    return delay


def host(run: GuestRun, until: Callable[[], object]) -> int:
    """The smallest event loop there is; how often it was woken."""
    deadline = monotonic() + PATIENCE
    passes = 0
    delay = run.process()
    while not until():
        assert monotonic() < deadline, "nothing woke the host"
        wait = PATIENCE if delay is None else delay
        select.select([run], [], [], wait)
        delay = run.process()
        passes += 1
    return passes


class TestWhatWakesTheHost:
    def test_a_message(self) -> None:
        loop, delegate = RunLoop.current(), Recorder(b"!")
        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)
            asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
            host(run, lambda: delegate.data)
            assert asker.result() == b"!"
            settle(run)
            assert not is_readable(run)

    def test_messages_that_waited_before_the_run_began(self) -> None:
        loop, delegate = RunLoop.current(), Recorder()
        with MachPort(delegate) as port:
            loop.add_port(port)
            port.send(b"early")
            with loop.start_guest_run() as run:
                assert is_readable(run)
                settle(run)
        assert delegate.data == [b"early"]

    def test_more_messages_than_one_pass_delivers(self) -> None:
        loop, delegate = RunLoop.current(), Recorder()
        loop.batch_limit = 2
        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            port.send_many([b""] * 5)
            run.process()
            assert len(delegate.data) == 2
            assert is_readable(run)
            settle(run)
            assert len(delegate.data) == 5

    def test_a_performed_call(self) -> None:
        loop, ran = RunLoop.current(), list[int]()
        with loop.start_guest_run() as run:
            settle(run)
            on_other_thread(lambda: loop.perform(ran.append, 1))()
            assert is_readable(run)
            settle(run)
            loop.perform(lambda: loop.perform(ran.append, 2))
            settle(run)
            loop.perform(ran.append, 3, modes="another")
            settle(run)
            assert ran == [1, 2]
            loop.run_in_mode("another", 0)

    def test_a_caller_that_waits(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            called: list[int] = []

            def call() -> int:
                called.append(1)
                return 7

            caller = Background(lambda: loop.perform_and_wait(call, timeout=PATIENCE))
            host(run, lambda: called)
            assert caller.result() == 7

    def test_a_signalled_source(self) -> None:
        loop, seen = RunLoop.current(), list[InputSource]()
        with loop.start_guest_run() as run:
            source = InputSource(seen.append)
            loop.add_source(source)
            settle(run)
            on_other_thread(source.signal)()
            assert is_readable(run)
            settle(run)
            assert seen == [source]
            source.invalidate()

    def test_a_descriptor(self) -> None:
        loop = RunLoop.current()
        read, write = os.pipe()
        seen: list[bytes] = []
        source = DescriptorSource(read, lambda source, ready: seen.append(os.read(read, 1)))
        try:
            with loop.start_guest_run() as run:
                settle(run)
                loop.add_source(source)
                settle(run)
                assert not is_readable(run)
                os.write(write, b"ab")
                assert is_readable(run)
                settle(run)
                assert not is_readable(run)
            assert seen == [b"a", b"b"]
        finally:
            source.invalidate()
            os.close(read)
            os.close(write)

    def test_a_wake_up(self) -> None:
        loop, seen = RunLoop.current(), list[Activity]()
        observer = Observer(
            lambda observer, activity: seen.append(activity), Activity.BEFORE_TIMERS
        )
        loop.add_observer(observer)
        with loop.start_guest_run() as run:
            settle(run)
            seen.clear()
            on_other_thread(loop.wake_up)()
            assert is_readable(run)
            settle(run)
            assert seen == [Activity.BEFORE_TIMERS]
        observer.invalidate()

    def test_nothing(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            assert settle(run) is None
            assert not is_readable(run, 0.05)
            assert loop.is_waiting

    def test_what_happens_in_another_mode_does_not(self) -> None:
        loop = RunLoop.current()
        with MachPort(Recorder()) as port, loop.start_guest_run() as run:
            loop.add_port(port, "another")
            settle(run)
            port.send(b"")
            assert not is_readable(run)

    def test_once_for_many(self) -> None:
        """Each wake-up is a system call: senders make one for each time that the run rests."""
        loop, delegate = RunLoop.current(), Recorder()
        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)
            rings = 0
            real = os.write

            def write(fd: int, data: bytes) -> int:
                nonlocal rings
                rings += 1
                return real(fd, data)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "write", write)
                for _ in range(50):
                    port.send(b"")
            assert rings == 1
            settle(run)
            assert len(delegate.data) == 50


class TestTimers:
    def test_the_delay_is_that_of_the_next_one(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            assert run.process() is None
            later, sooner = loop.call_later(200, int), loop.call_later(100, int)
            delay = settle(run)
            assert delay is not None
            assert 50 < delay <= 100
            sooner.invalidate()
            delay = settle(run)
            assert delay is not None
            assert 150 < delay <= 200
            later.invalidate()
            assert settle(run) is None

    def test_they_fire(self) -> None:
        loop, seen = RunLoop.current(), list[int]()
        with loop.start_guest_run() as run:
            loop.call_later(0.02, seen.append, 2)
            loop.call_later(0.01, seen.append, 1)
            host(run, lambda: len(seen) == 2)
        assert seen == [1, 2]

    def test_one_that_is_due_is_told_with_no_delay(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            timer = Timer(1000, lambda timer: None)
            loop.add_timer(timer)

            def now() -> None:
                timer.next_fire_date = 0

            # Calls that a timer asks for are made after all timers that were due.
            loop.call_later(0, loop.perform, now)
            assert run.process() == 0.0
            assert run.process() is None

    def test_moved_by_another_thread_while_the_host_waits(self) -> None:
        loop, seen = RunLoop.current(), list[Timer]()
        with loop.start_guest_run() as run:
            timer = Timer(1000, seen.append)
            loop.add_timer(timer)
            settle(run)
            assert not is_readable(run)

            def sooner() -> None:
                timer.next_fire_date = 0

            on_other_thread(sooner)()
            assert is_readable(run)
            settle(run)
        assert seen == [timer]

    def test_added_by_another_thread_while_the_host_waits(self) -> None:
        loop, seen = RunLoop.current(), list[int]()
        with loop.start_guest_run() as run:
            settle(run)
            on_other_thread(lambda: loop.call_later(0.01, seen.append, 1))()
            assert is_readable(run)
            host(run, lambda: seen)


class TestRaces:
    def test_a_message_that_comes_while_the_bell_is_emptied(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop, delegate = RunLoop.current(), Recorder()
        drain = Bell.drain

        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)

            def send_and_drain(bell: Bell) -> None:
                monkeypatch.undo()
                on_other_thread(lambda: port.send(b"late"))()
                drain(bell)

            loop.wake_up()
            monkeypatch.setattr(Bell, "drain", send_and_drain)
            settle(run)
            assert delegate.data == [b"late"]

    @pytest.mark.parametrize("activity", [1 << n for n in (1, 2, 5, 6)])
    def test_what_comes_at_any_point_of_a_pass_is_not_missed(self, activity: int) -> None:
        loop, delegate, ran = RunLoop.current(), Recorder(), list[int]()
        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)
            source = InputSource(lambda source: ran.append(2))
            loop.add_source(source)

            def strike(observer: Observer, activity: Activity) -> None:
                port.send(b"!")
                loop.perform(ran.append, 1)
                source.signal()

            loop.add_observer(Observer(strike, Activity(activity), repeats=False))
            loop.wake_up()
            settle(run)
            assert delegate.data == [b"!"]
            assert sorted(ran) == [1, 2]
            source.invalidate()

    def test_storm(self) -> None:
        """Every message, call and signal of four threads arrives; the host only ever waits."""
        loop, delegate, ran = RunLoop.current(), Recorder(), list[int]()
        count = 500
        with MachPort(delegate, queue_limit=16) as port, loop.start_guest_run() as run:
            loop.add_port(port)

            def body() -> None:
                for n in range(count):
                    port.send(b"", timeout=PATIENCE)
                    loop.perform(ran.append, n)

            threads = [Background(body) for _ in range(4)]
            host(run, lambda: len(delegate.data) == len(ran) == 4 * count)
            for thread in threads:
                thread.result()
            settle(run)
            assert not is_readable(run)

    def test_a_request_between_passes(self) -> None:
        """The host's own code may wait for an answer; what comes meanwhile is kept."""
        loop, delegate = RunLoop.current(), Recorder()
        with LoopThread() as other, MachPort(lambda message: b"answer") as far:
            other.call(other.loop.add_port, far)
            with MachPort(delegate) as port, loop.start_guest_run() as run:
                loop.add_port(port)
                settle(run)
                far.delegate = lambda message: port.send(b"meanwhile")
                far.request(reply_timeout=PATIENCE)
                assert is_readable(run)
                settle(run)
                assert delegate.data == [b"meanwhile"]


class TestNesting:
    def test_a_run_inside_a_callback(self) -> None:
        loop, seen = RunLoop.current(), list[bytes | None]()
        with MachPort() as port, loop.start_guest_run() as run:

            def delegate(message: PortMessage) -> None:
                seen.append(message.data)
                if message.data == b"1":
                    port.send(b"2")
                    assert loop.current_mode == DEFAULT_MODE
                    loop.accept_input(DEFAULT_MODE, PATIENCE)
                    seen.append(b"end of 1")

            port.delegate = delegate
            loop.add_port(port)
            port.send(b"1")
            settle(run)
            assert seen == [b"1", b"2", b"end of 1"]
            assert loop.current_mode is None

    def test_a_run_between_passes_leaves_what_it_did_not_serve(self) -> None:
        loop, delegate = RunLoop.current(), Recorder()
        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)
            keep_alive(loop, "other")

            def send(timer: Timer) -> None:
                port.send(b"!")
                loop.stop()

            loop.add_timer(Timer(0, send), "other")
            assert loop.run_in_mode("other", PATIENCE) is RunResult.STOPPED
            assert delegate.data == []
            assert is_readable(run)
            settle(run)
            assert delegate.data == [b"!"]

    def test_a_timer_moved_during_a_run_between_passes(self) -> None:
        loop, seen = RunLoop.current(), list[Timer]()
        with loop.start_guest_run() as run:
            timer = Timer(1000, seen.append)
            loop.add_timer(timer)
            settle(run)
            keep_alive(loop, "other")

            def sooner() -> None:
                timer.next_fire_date = 0
                loop.stop()

            loop.perform(sooner, modes="other")
            loop.run_in_mode("other", PATIENCE)
            assert is_readable(run)
            settle(run)
            assert seen == [timer]

    def test_the_hosts_loop_inside_a_callback(self) -> None:
        """A dialogue opened by a delegate: messages are delivered while it is open."""
        loop, seen = RunLoop.current(), list[bytes | None]()
        with MachPort() as port, loop.start_guest_run() as run:

            def delegate(message: PortMessage) -> None:
                seen.append(message.data)
                if message.data == b"open":
                    sender = Background(lambda: port.send(b"while it is open"))
                    host(run, lambda: len(seen) == 2)
                    sender.result()
                    seen.append(b"closed")

            port.delegate = delegate
            loop.add_port(port)
            port.send(b"open")
            settle(run)
            assert seen == [b"open", b"while it is open", b"closed"]

    def test_a_guest_of_another_mode_inside(self) -> None:
        loop, delegate = RunLoop.current(), Recorder()
        with MachPort(delegate) as port, loop.start_guest_run() as outer:
            loop.add_port(port, "inner")
            settle(outer)
            with loop.start_guest_run("inner") as inner:
                settle(inner)
                port.send(b"!")
                assert not is_readable(outer)
                settle(inner)
                assert delegate.data == [b"!"]
                with pytest.raises(PortError, match="has a guest run already"):
                    loop.start_guest_run("inner")
            called: list[int] = []
            loop.perform(called.append, 1)
            settle(outer)
            assert called == [1]

    def test_guests_ended_in_another_order(self) -> None:
        loop, ran = RunLoop.current(), list[int]()
        first, second = loop.start_guest_run("1"), loop.start_guest_run("2")
        loop.add_common_mode("2")
        first.end()
        loop.perform(ran.append, 1)
        settle(second)
        second.end()
        assert ran == [1]
        loop.stop()  # finds no run


class TestObservers:
    def test_they_see_one_run_whose_waiting_somebody_else_does(self) -> None:
        loop, seen = RunLoop.current(), list[str | None]()
        observer = Observer(lambda observer, activity: seen.append(activity.name))
        loop.add_observer(observer)
        with loop.start_guest_run() as run:
            assert seen == ["ENTRY"]
            seen.clear()
            settle(run)
            assert seen == ["BEFORE_TIMERS", "BEFORE_SOURCES", "BEFORE_WAITING"]
            seen.clear()
            loop.perform(seen.append, "call")
            settle(run)
            assert seen == [
                "AFTER_WAITING", "BEFORE_TIMERS", "BEFORE_SOURCES", "call", "BEFORE_WAITING",
            ]  # fmt: skip
            seen.clear()
        assert seen == ["EXIT"]
        observer.invalidate()

    def test_the_mode_is_current_in_callbacks_only(self) -> None:
        loop, seen = RunLoop.current(), list[str | None]()
        with loop.start_guest_run("mine") as run:
            loop.perform(lambda: seen.append(loop.current_mode), modes="mine")
            settle(run)
            assert loop.current_mode is None
        assert seen == ["mine"]


class TestEnding:
    def test_stop_ends_the_run_and_tells_the_host(self) -> None:
        loop, told = RunLoop.current(), list[str]()
        run = loop.start_guest_run(stopped=lambda: told.append("stopped"))
        settle(run)
        on_other_thread(loop.stop)()
        assert is_readable(run)
        assert run.process() is None
        assert told == ["stopped"]
        assert not run.is_valid
        with pytest.raises(LoopEndedError, match="has ended"):
            run.process()
        with pytest.raises(LoopEndedError, match="has ended"):
            run.fileno()

    def test_stop_inside_a_callback_ends_the_batch(self) -> None:
        loop, told = RunLoop.current(), list[str]()
        delegate = Recorder()
        with MachPort(delegate) as port:

            def stop(message: PortMessage) -> None:
                delegate(message)
                loop.stop()

            port.delegate = stop
            loop.add_port(port)
            with loop.start_guest_run(stopped=lambda: told.append("stopped")) as run:
                port.send_many([b"1", b"2"])
                run.process()
                assert delegate.data == [b"1"]
                assert told == ["stopped"]

    def test_end_inside_a_callback(self) -> None:
        loop, told = RunLoop.current(), list[str]()
        delegate = Recorder()
        with MachPort(delegate) as port:
            run = loop.start_guest_run(stopped=lambda: told.append("stopped"))

            def end(message: PortMessage) -> None:
                delegate(message)
                run.end()

            port.delegate = end
            loop.add_port(port)
            port.send_many([b"1", b"2"])
            assert run.process() is None
            assert delegate.data == [b"1"]
            assert told == []
            run.end()
            loop.run_in_mode(DEFAULT_MODE, 0)  # what it left is still there
            assert delegate.data == [b"1", b"2"]

    def test_a_stop_of_a_nested_run_is_not_for_the_guest(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            source = keep_alive(loop)

            def nested() -> None:
                loop.perform(loop.stop)
                assert loop.run(PATIENCE) is RunResult.STOPPED

            loop.perform(nested)
            settle(run)
            assert run.is_valid
            source.invalidate()

    def test_nobody_rings_after_the_end(self) -> None:
        loop = RunLoop.current()
        with MachPort(Recorder()) as port:
            loop.add_port(port)
            with loop.start_guest_run():
                pass
            port.send(b"")
            loop.perform(int)
            with loop.start_guest_run() as again:
                assert is_readable(again)
                settle(again)

    def test_the_thread_ends(self) -> None:
        runs: list[GuestRun] = []

        def body() -> None:
            run = RunLoop.current().start_guest_run()
            settle(run)
            runs.append(run)

        thread = Thread(target=body)
        thread.start()
        thread.join(PATIENCE)
        with pytest.raises(LoopEndedError):
            runs[0].process()
        with pytest.raises(LoopEndedError):
            runs[0].fileno()
        runs[0].end()

    def test_fork(self) -> None:
        loop, ran = RunLoop.current(), list[int]()
        with loop.start_guest_run() as run:
            settle(run)

            def child() -> None:
                for use in (run.process, run.fileno):
                    with pytest.raises(LoopEndedError, match="forked"):
                        use()
                run.end()
                own = RunLoop.current()
                with own.start_guest_run() as other:
                    own.perform(ran.append, 1)
                    settle(other)
                assert ran == [1]

            in_child(child)
            assert not is_readable(run)
            loop.perform(ran.append, 2)
            settle(run)
            assert ran == [2]


class TestErrors:
    def test_from_other_threads(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run() as run:
            for use in (run.process, run.end, loop.start_guest_run):
                with pytest.raises(WrongThreadError, match="only that thread"):
                    on_other_thread(use)()

    def test_arguments(self) -> None:
        loop = RunLoop.current()
        with pytest.raises(ValueError, match="COMMON_MODES"):
            loop.start_guest_run(COMMON_MODES)
        with pytest.raises(TypeError, match="callable"):
            loop.start_guest_run(stopped=7)  # type: ignore[arg-type]

    def test_a_callback_that_raises_is_reported(self, reports: Reports) -> None:
        loop, ran = RunLoop.current(), list[int]()

        def fail() -> None:
            raise LookupError

        with loop.start_guest_run() as run:
            loop.perform(fail)
            loop.perform(ran.append, 1)
            settle(run)
        assert [type(error) for error in reports.take()] == [LookupError]
        assert ran == [1]

    def test_an_interrupt_comes_out_and_loses_nothing(self) -> None:
        loop, delegate, ran = RunLoop.current(), Recorder(), list[int]()

        def interrupt() -> None:
            raise KeyboardInterrupt

        with MachPort(delegate) as port, loop.start_guest_run() as run:
            loop.add_port(port)
            settle(run)
            loop.perform(interrupt)
            loop.perform(ran.append, 1)
            port.send(b"!")
            with pytest.raises(KeyboardInterrupt):
                run.process()
            assert loop.current_mode is None
            assert is_readable(run)
            settle(run)
            assert delegate.data == [b"!"]
            assert ran == [1]

    def test_an_observer_of_the_entry_that_interrupts(self) -> None:
        loop = RunLoop.current()

        def interrupt(observer: Observer, activity: Activity) -> None:
            raise KeyboardInterrupt

        loop.add_observer(Observer(interrupt, Activity.ENTRY, repeats=False))
        with pytest.raises(KeyboardInterrupt):
            loop.start_guest_run()
        with loop.start_guest_run() as run:
            settle(run)

    def test_it_is_described(self) -> None:
        loop = RunLoop.current()
        with loop.start_guest_run("mine") as run:
            assert repr(run) == "<GuestRun of mode 'mine'>"
            assert repr(run) in loop.describe()
        assert repr(run) == "<GuestRun of mode 'mine' over>"


def test_links_are_read() -> None:
    """Messages of other processes come through a link, of which the host knows nothing."""
    loop, delegate = RunLoop.current(), Recorder(b"!")
    with MessagePort("test.guest", delegate) as port, loop.start_guest_run() as run:
        loop.add_port(port)

        def ask() -> None:
            with MessagePort.remote("test.guest") as remote:
                for _ in range(20):
                    assert remote.request(b"?", reply_timeout=PATIENCE).data == b"!"

        in_other = Background(ask)
        host(run, lambda: len(delegate.data) == 20)
        in_other.result()


def test_what_callbacks_have_sent_is_written_when_the_host_goes_on() -> None:
    loop = RunLoop.current()
    with Pair() as pair, MachPort() as target, MachPort() as port, loop.start_guest_run() as run:
        handle = pair.open(target)
        port.delegate = lambda message: handle.send(message.data or b"")
        loop.add_port(port)
        for turn in range(3):
            port.send_many([b"1"] * 20)
            settle(run)
            assert not pair.left.outbox.size, turn
            assert [target.receive(PATIENCE).data for _ in range(20)] == [b"1"] * 20


def test_asyncio_as_the_host() -> None:
    """The recipe of the documentation: with uvloop it is the same."""

    async def main() -> bytes | None:
        asyncio_loop = asyncio.get_running_loop()
        run_loop = RunLoop.current()
        timer: asyncio.TimerHandle | None = None

        def process() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
            delay = run.process()
            timer = None if delay is None else asyncio_loop.call_later(delay, process)

        came = asyncio.Queue[bytes | None]()
        delegate = lambda message: came.put_nowait(message.data)  # noqa: E731
        with MachPort(delegate) as port, run_loop.start_guest_run() as run:
            asyncio_loop.add_reader(run, process)
            try:
                run_loop.add_port(port)
                sender = Background(lambda: port.send(b"message"))
                fired = asyncio.Event()
                run_loop.call_later(0.01, fired.set)
                await asyncio.wait_for(fired.wait(), PATIENCE)
                await asyncio.to_thread(sender.result)
                return await asyncio.wait_for(came.get(), PATIENCE)
            finally:
                asyncio_loop.remove_reader(run)
                if timer is not None:
                    timer.cancel()

    assert asyncio.run(main()) == b"message"


def test_a_bell_rung_by_a_signal_handler_that_raises() -> None:
    """Whoever is no longer armed has been rung."""
    bell = Bell()
    bell.armed = True
    real = os.write
    struck = False

    def write(fd: int, data: bytes) -> int:
        nonlocal struck
        if not struck:
            struck = True
            raise KeyboardInterrupt
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(KeyboardInterrupt):
            bell.ring()
    assert select.select([bell.read_fd], [], [], 0)[0]
