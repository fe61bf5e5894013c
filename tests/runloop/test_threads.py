"""Loops and threads: one loop each, and what happens when the thread ends (R57)."""

from __future__ import annotations

import _thread
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from threading import Event, Thread, get_ident

import pytest

import portkit._thread as thread_states
from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    DescriptorSource,
    InputSource,
    LoopEndedError,
    MachPort,
    Observer,
    RunLoop,
    ThreadData,
    Timer,
)
from tests.support import PATIENCE, LoopThread, Reports, keep_alive, run_on_thread


def run_on_foreign_thread(fn: Callable[[], object]) -> None:
    """As run_on_thread, on a thread that Python's threading module knows nothing of."""
    errors: list[BaseException] = []
    ended = Event()
    # A thread's values go in the order of their making, or, since Python 3.13, in the opposite
    # one: portkit's goes between these two.
    first, last = threading.local(), threading.local()
    left = ["first", "last"]

    class TellsOfItsEnd:
        def __del__(self) -> None:
            left.pop()
            if not left:
                ended.set()

    def body() -> None:
        first.value = TellsOfItsEnd()
        try:
            fn()
        except BaseException as error:
            errors.append(error)
        last.value = TellsOfItsEnd()

    _thread.start_new_thread(body, ())
    assert ended.wait(PATIENCE)
    if errors:
        raise errors[0]


EITHER_THREAD = pytest.mark.parametrize(
    "run", [run_on_thread, run_on_foreign_thread], ids=["threading", "foreign"]
)


class TestIdentity:
    def test_r57_one_loop_for_each_thread(self) -> None:
        mine = RunLoop.current()
        assert mine is RunLoop.current()
        assert mine is RunLoop.main()
        theirs = run_on_thread(RunLoop.current)
        assert theirs is not mine
        assert run_on_thread(RunLoop.main) is mine

    @EITHER_THREAD
    def test_r57_stable_within_a_thread(self, run: Callable[[Callable[[], object]], None]) -> None:
        def body() -> None:
            loop = RunLoop.current()
            assert loop is RunLoop.current()
            assert loop.ident == get_ident()

        run(body)

    def test_the_main_loop_can_be_asked_for_first_by_another_thread(self) -> None:
        code = (
            "import threading, portkit\n"
            "got = []\n"
            "thread = threading.Thread(target=lambda: got.append(portkit.RunLoop.main()))\n"
            "thread.start(); thread.join()\n"
            "assert got == [portkit.RunLoop.current()]\n"
            "assert got[0].thread is threading.main_thread()\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)

    def test_many_threads_ask_for_the_main_loop_at_once(self) -> None:
        loops: list[RunLoop] = []
        threads = [Thread(target=lambda: loops.append(RunLoop.main())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(loops) == {RunLoop.main()}

    def test_thread(self) -> None:
        assert RunLoop.current().thread is threading.current_thread()
        thread, loop = run_on_thread(lambda: (threading.current_thread(), RunLoop.current()))
        with pytest.raises(LoopEndedError, match="ended"):
            _ = loop.thread
        assert not thread.is_alive()

    def test_repr_names_the_thread(self) -> None:
        def body() -> str:
            threading.current_thread().name = "Grace"
            return repr(RunLoop.current())

        assert "Grace" in run_on_thread(body)


class TestEnd:
    @EITHER_THREAD
    def test_r57_sources_get_their_cancel_callouts(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        cancelled: list[tuple[str, int]] = []
        idents: list[int] = []

        def body() -> None:
            idents.append(get_ident())
            loop = RunLoop.current()
            loop.add_common_mode("m")
            source = InputSource(
                lambda source: None,
                cancel=lambda source, loop, mode: cancelled.append((mode, get_ident())),
            )
            loop.add_source(source, COMMON_MODES)
            loop.add_source(source, "other")

        run(body)
        assert sorted(cancelled) == [(mode, idents[0]) for mode in (DEFAULT_MODE, "m", "other")]

    @EITHER_THREAD
    def test_r57_ports_scheduled_there_are_invalidated(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        told: list[int] = []
        ports: list[MachPort] = []
        idents: list[int] = []

        def body() -> None:
            idents.append(get_ident())
            for mode in (DEFAULT_MODE, "m"):
                port = MachPort(lambda message: None)
                port.add_invalidation_handler(lambda port: told.append(get_ident()))
                RunLoop.current().add_port(port, mode)
                ports.append(port)
            ports.append(MachPort())

        run(body)
        assert [port.is_valid for port in ports] == [False, False, True]
        assert told == idents * 2

    def test_items_of_one_loop_can_serve_another_afterwards(self) -> None:
        timer = Timer(1000.0, lambda timer: None)
        observer = Observer(lambda observer, activity: None)
        read_fd, write_fd = os.pipe()
        descriptor = DescriptorSource(read_fd, lambda source, ready: None)

        def body() -> None:
            loop = RunLoop.current()
            loop.add_timer(timer)
            loop.add_observer(observer, COMMON_MODES)
            loop.add_source(descriptor)

        for _ in range(2):
            run_on_thread(body)
        assert timer.is_valid
        assert observer.is_valid
        os.close(read_fd)
        os.close(write_fd)

    def test_an_ended_loop_says_so(self) -> None:
        loop = run_on_thread(RunLoop.current)
        port = MachPort(lambda message: None)
        for call in (
            lambda: loop.run(0),
            lambda: loop.add_source(InputSource(lambda source: None)),
            lambda: loop.add_timer(Timer(1.0, lambda timer: None)),
            lambda: loop.add_observer(Observer(lambda observer, activity: None)),
            lambda: loop.add_port(port),
            lambda: loop.add_common_mode("m"),
            lambda: loop.perform(int),
            lambda: loop.perform_and_wait(int),
            lambda: loop.call_later(1.0, int),
            lambda: loop.executor().submit(int),
        ):
            with pytest.raises(LoopEndedError, match="has ended with its thread"):
                call()
        assert port.is_valid
        # These have nothing left to do.
        loop.stop()
        loop.wake_up()
        loop.cancel_calls()
        assert "ended" in loop.describe()
        assert loop.current_mode is None

    def test_an_item_refused_by_an_ended_loop_belongs_to_nobody(self) -> None:
        loop = run_on_thread(RunLoop.current)
        timer = Timer(1000.0, lambda timer: None)
        with pytest.raises(LoopEndedError):
            loop.add_timer(timer)
        RunLoop.current().add_timer(timer, "m")
        timer.invalidate()

    def test_a_call_nobody_waits_for_is_reported(self) -> None:
        """To the exception handler, on the thread that ends."""
        told: list[tuple[BaseException | None, object, int]] = []

        def body() -> int:
            loop = RunLoop.current()
            loop.exception_handler = lambda loop, context: told.append(
                (context["exception"], context["source"], get_ident())
            )
            loop.perform(int)
            loop.perform(str, modes=["m", COMMON_MODES])
            return get_ident()

        ident = run_on_thread(body)
        assert [(source, where) for _, source, where in told] == [(int, ident), (str, ident)]
        assert all(isinstance(error, LoopEndedError) for error, _, _ in told)

    @EITHER_THREAD
    def test_what_is_logged_at_the_end_leaves_no_dummy_thread(
        self, reports: Reports, run: Callable[[Callable[[], object]], None]
    ) -> None:
        """Logging asks for the current thread, which threading knows no more, or never did."""

        def fail(*told: object) -> None:
            raise ValueError("no")

        data = ThreadData(fail)

        def body() -> None:
            loop = RunLoop.current()
            loop.perform(int)
            loop.add_source(InputSource(lambda source: None, cancel=fail))
            data.set(1)

        before = threading.enumerate()
        run(body)
        assert [type(error) for error in reports.take()] == [
            LoopEndedError,
            ValueError,
            ValueError,
        ]
        assert threading.enumerate() == before

    @EITHER_THREAD
    def test_a_cancel_callout_that_raises_keeps_no_other_from_being_made(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        cancelled: list[str] = []
        told: list[str] = []

        def cancel(source: InputSource, loop: RunLoop, mode: str) -> None:
            cancelled.append(mode)
            raise RuntimeError(mode)

        def body() -> None:
            loop = RunLoop.current()
            loop.exception_handler = lambda loop, context: told.append(str(context["exception"]))
            for mode in ("a", "b", "c"):
                loop.add_source(InputSource(lambda source: None, cancel=cancel), mode)

        run(body)
        assert cancelled == told == ["a", "b", "c"]

    @EITHER_THREAD
    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_nothing_that_is_raised_ends_the_end(
        self, run: Callable[[Callable[[], object]], None], error: type[BaseException]
    ) -> None:
        """There is no run to leave any more."""
        done: list[str] = []
        told: list[object] = []

        def fail(*args: object) -> None:
            raise error

        bad = ThreadData(fail)
        good = ThreadData(done.append)

        def body() -> None:
            loop = RunLoop.current()
            loop.exception_handler = lambda loop, context: told.append(context["exception"])
            loop.add_source(InputSource(lambda source: None, cancel=fail))
            loop.add_source(
                InputSource(lambda source: None, cancel=lambda *args: done.append("cancelled"))
            )
            bad.set(1)
            good.set("destroyed")

        run(body)
        assert done == ["cancelled", "destroyed"]
        assert [type(problem) for problem in told] == [error] * 2

    def test_a_source_of_two_loops_goes_on_with_the_other(self) -> None:
        performed = Event()
        source = InputSource(lambda source: performed.set())
        with LoopThread() as other:
            other.loop.add_source(source)
            run_on_thread(lambda: RunLoop.current().add_source(source))
            assert source.is_valid
            source.signal()
            assert performed.wait(PATIENCE)

    @EITHER_THREAD
    def test_callouts_at_the_end_can_use_the_thread_still(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        """The current loop is the one that ends, and takes nothing new."""
        seen: list[object] = []

        def cancel(source: InputSource, loop: RunLoop, mode: str) -> None:
            seen.append(RunLoop.current() is loop)
            with pytest.raises(LoopEndedError):
                loop.perform(int)
            port = MachPort()
            port.send(b"x")
            seen.append(port.receive(0).data)

        def body() -> None:
            keep = InputSource(lambda source: None, cancel=cancel)
            RunLoop.current().add_source(keep)

        run(body)
        assert seen == [True, b"x"]

    def test_the_loop_and_its_thread_are_released(self) -> None:
        def body() -> weakref.ref[RunLoop]:
            loop = RunLoop.current()
            keep_alive(loop)
            Timer.scheduled(1000.0, lambda timer: None)
            loop.run(0)
            return weakref.ref(loop)

        loop = run_on_thread(body)
        gc.collect()
        assert loop() is None

    def test_adding_while_the_thread_ends_either_succeeds_or_raises(self) -> None:
        """And every source that was scheduled is cancelled: none is left behind."""
        for _ in range(30):
            scheduled: list[InputSource] = []
            cancelled: list[InputSource] = []
            made, go = Event(), Event()
            loops: list[RunLoop] = []

            def body(loops: list[RunLoop] = loops, made: Event = made, go: Event = go) -> None:
                loops.append(RunLoop.current())
                made.set()
                assert go.wait(PATIENCE)

            thread = Thread(target=body)
            thread.start()
            assert made.wait(PATIENCE)
            go.set()
            refused = False
            while not refused:
                source = InputSource(
                    lambda source: None,
                    schedule=lambda s, loop, mode, log=scheduled: log.append(s),  # type: ignore[misc]
                    cancel=lambda s, loop, mode, log=cancelled: log.append(s),  # type: ignore[misc]
                )
                try:
                    loops[0].add_source(source)
                except LoopEndedError:
                    refused = True
            thread.join()
            assert len(scheduled) == len(cancelled)
            assert set(scheduled) == set(cancelled)

    def test_an_item_added_in_the_moment_of_the_end_is_out_again(self) -> None:
        """The thread ends after the loop was found alive, before the item is in."""
        made, go = Event(), Event()
        loops: list[RunLoop] = []
        scheduled: list[str] = []

        class EndsTheThread(str):
            """A mode's name; being looked at for the first time, it lets the thread end."""

            __slots__ = ()

            def __len__(self) -> int:
                go.set()
                thread.join()
                return super().__len__()

        def body() -> None:
            loops.append(RunLoop.current())
            made.set()
            assert go.wait(PATIENCE)

        thread = Thread(target=body)
        thread.start()
        assert made.wait(PATIENCE)
        source = InputSource(
            lambda source: None,
            schedule=lambda source, loop, mode: scheduled.append("schedule"),
            cancel=lambda source, loop, mode: scheduled.append("cancel"),
        )
        with pytest.raises(LoopEndedError, match="ended"):
            loops[0].add_source(source, EndsTheThread("m"))
        assert scheduled == ["schedule", "cancel"]
        assert not loops[0].contains_source(source, "m")

    def test_performing_while_the_thread_ends_is_never_lost_in_silence(self) -> None:
        """Each call is made, reported, or refused."""
        for _ in range(30):
            made: list[int] = []
            reported: list[object] = []
            ready = Event()
            loops: list[RunLoop] = []

            def body(
                loops: list[RunLoop] = loops,
                ready: Event = ready,
                reported: list[object] = reported,
            ) -> None:
                loop = RunLoop.current()
                loop.exception_handler = lambda loop, context: reported.append(context)
                loops.append(loop)
                ready.set()
                for _ in range(5):
                    loop.run(0)

            thread = Thread(target=body)
            thread.start()
            assert ready.wait(PATIENCE)
            accepted = 0
            while True:
                try:
                    loops[0].perform(made.append, 1)
                except LoopEndedError:
                    break
                accepted += 1
            thread.join()
            assert len(made) + len(reported) == accepted


class TestForeignThreads:
    def test_no_dummy_thread_is_left(self) -> None:
        before = threading.enumerate()
        seen: list[list[Thread]] = []

        def body() -> None:
            loop = RunLoop.current()
            port = MachPort(lambda message: None)
            loop.add_port(port)
            port.send(b"x")
            loop.add_source(InputSource(lambda source: None, cancel=lambda *told: None))
            loop.call_later(0.0, int)
            loop.perform(int)
            loop.run(0)
            loop.describe()
            repr(loop)
            seen.append(threading.enumerate())

        run_on_foreign_thread(body)
        assert seen == [before]
        assert threading.enumerate() == before

    def test_an_error_is_logged_without_one_too(self, reports: Reports) -> None:
        before = threading.enumerate()

        def body() -> None:
            RunLoop.current().perform(lambda: 1 / 0)
            RunLoop.current().run(0)

        run_on_foreign_thread(body)
        assert [type(error) for error in reports.take()] == [ZeroDivisionError]
        assert threading.enumerate() == before

    def test_many_leave_nothing(self) -> None:
        """The fixture counts descriptors; here it is the states."""
        for _ in range(20):
            run_on_foreign_thread(lambda: keep_alive(RunLoop.current()))
        assert thread_states._ending == {}
        gc.collect()
        states = [o for o in gc.get_objects() if isinstance(o, thread_states.ThreadState)]
        assert len(states) <= 1  # the main thread's

    def test_they_are_named_by_number(self) -> None:
        def body() -> None:
            assert str(get_ident()) in repr(RunLoop.current())

        run_on_foreign_thread(body)

    def test_their_thread_is_unknown_but_not_ended(self) -> None:
        def body() -> None:
            with pytest.raises(LookupError, match="threading"):
                _ = RunLoop.current().thread

        run_on_foreign_thread(body)


class TestThreadData:
    def test_each_thread_has_its_own(self) -> None:
        data: ThreadData[int] = ThreadData()
        assert data.get() is None
        data.set(1)
        assert run_on_thread(data.get) is None
        assert data.get() == 1
        data.set(None)
        assert data.get() is None

    @EITHER_THREAD
    def test_r57_destroyed_last_on_its_own_thread(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        log: list[tuple[str, int]] = []
        idents: list[int] = []
        data: ThreadData[str] = ThreadData(
            lambda value: log.append((f"destroy {value}", get_ident()))
        )

        def body() -> None:
            idents.append(get_ident())
            data.set("x")
            source = InputSource(
                lambda source: None, cancel=lambda *told: log.append(("cancel", get_ident()))
            )
            RunLoop.current().add_source(source)

        run(body)
        assert log == [("cancel", idents[0]), ("destroy x", idents[0])]

    @EITHER_THREAD
    def test_r57_values_set_by_destructors_are_destroyed_for_four_rounds(
        self, run: Callable[[Callable[[], object]], None]
    ) -> None:
        destroyed: list[int] = []

        def destroy(value: int) -> None:
            destroyed.append(value)
            data.set(value + 1)

        data = ThreadData(destroy)
        run(lambda: data.set(1))
        assert destroyed == [1, 2, 3, 4]

    def test_a_value_taken_away_is_not_destroyed(self) -> None:
        destroyed: list[int] = []
        data = ThreadData(destroyed.append)

        def body() -> None:
            data.set(1)
            data.set(2)
            data.set(None)

        run_on_thread(body)
        assert destroyed == []

    def test_only_the_last_value_is_destroyed(self) -> None:
        destroyed: list[int] = []
        data = ThreadData(destroyed.append)

        def body() -> None:
            data.set(1)
            data.set(2)

        run_on_thread(body)
        assert destroyed == [2]

    def test_a_destructor_that_raises_is_reported_and_keeps_no_other_from_running(self) -> None:
        destroyed: list[int] = []
        told: list[str] = []

        def fail(value: int) -> None:
            raise ValueError(f"no {value}")

        bad, good = ThreadData(fail), ThreadData(destroyed.append)

        def body() -> None:
            RunLoop.current().exception_handler = lambda loop, context: told.append(
                str(context["exception"])
            )
            bad.set(1)
            good.set(2)

        run_on_thread(body)
        assert told == ["no 1"]
        assert destroyed == [2]


class TestInterpreterExit:
    """Daemon threads are frozen then; another thread finalizes what is theirs: it only closes."""

    @pytest.mark.parametrize("foreign", [False, True])
    def test_nothing_of_a_daemon_thread_is_called_on_another(self, foreign: bool) -> None:
        code = f"""
import _thread, threading, portkit
ready = threading.Event()
def body():
    loop = portkit.RunLoop.current()
    loop.exception_handler = lambda loop, context: print("handler")
    cancel = lambda source, loop, mode: print("cancel")
    loop.add_source(portkit.InputSource(lambda source: None, cancel=cancel))
    data.set("destroyed")
    loop.perform(print, "performed")
    loop.executor().submit(int).add_done_callback(lambda future: print("future"))
    ready.set()
    threading.Event().wait()
data = portkit.ThreadData(print)
if {foreign}:
    _thread.start_new_thread(body, ())
else:
    threading.Thread(target=body, daemon=True).start()
ready.wait()
portkit.RunLoop.current().perform(print, "main")
"""
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", code],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.stdout == ""
        assert done.stderr == ""

    def test_what_a_frozen_thread_has_locked_is_not_waited_for(self) -> None:
        """It has sent, and was frozen with the lock in hand that writing takes."""
        code = """
import threading, portkit
from portkit import _thread
lock, ready = threading.Lock(), threading.Event()
class Gathered:
    def flush_gathered(self):
        lock.acquire()
def body():
    lock.acquire()
    _thread.current().waiter.unflushed.append(Gathered())
    ready.set()
    threading.Event().wait()
threading.Thread(target=body, daemon=True).start()
ready.wait()
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
