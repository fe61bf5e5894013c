"""Signals and the main thread's loop: they wake it, and their handlers may use it (design 4)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident

import pytest

from portkit import (
    DEFAULT_MODE,
    DescriptorSource,
    InputSource,
    MachPort,
    PortError,
    RunLoop,
    RunResult,
    Timer,
)
from portkit.runloop import activation
from tests.ports.helpers import in_child
from tests.support import (
    PATIENCE,
    LoopThread,
    eventually,
    keep_alive,
    signals_ring,
    unmeasured,
)


@contextmanager
def handling(handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def send() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


@contextmanager
def sending_when_asleep(loop: RunLoop) -> Iterator[None]:
    def body() -> None:
        assert eventually(lambda: loop.is_waiting)
        send()

    thread = Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def main(main_loop: RunLoop) -> Iterator[RunLoop]:
    """The main loop with a source in its default mode."""
    source = keep_alive(main_loop)
    yield main_loop
    source.invalidate()
    main_loop.run_in_mode(DEFAULT_MODE, 0)


def test_a_handler_may_stop_the_loop(main: RunLoop) -> None:
    with handling(lambda *told: main.stop()), sending_when_asleep(main):
        assert main.run(PATIENCE) is RunResult.STOPPED


def test_a_handler_may_signal_a_source(main: RunLoop) -> None:
    source = InputSource(lambda source: source.invalidate())
    main.add_source(source)
    with handling(lambda *told: source.signal()), sending_when_asleep(main):
        run = main.run_in_mode(DEFAULT_MODE, PATIENCE, return_after_source_handled=True)
    assert run is RunResult.HANDLED_SOURCE


def test_a_handler_may_perform(main: RunLoop) -> None:
    with handling(lambda *told: main.perform(main.stop)), sending_when_asleep(main):
        assert main.run(PATIENCE) is RunResult.STOPPED


def test_a_handler_that_raises_leaves_run(main: RunLoop) -> None:
    def give_up(*told: object) -> None:
        raise ZeroDivisionError

    with handling(give_up), sending_when_asleep(main), pytest.raises(ZeroDivisionError):
        main.run(PATIENCE)
    assert main.current_mode is None
    assert not main.is_waiting


@pytest.mark.parametrize("watching", [False, True])
def test_a_handler_cannot_wait_in_an_interrupted_wait(main: RunLoop, watching: bool) -> None:
    """It would take the wake-up that the wait below is for."""
    errors: list[PortError] = []
    pipe = os.pipe()
    source = DescriptorSource(pipe[0], lambda source, ready: None)

    def wait(*told: object) -> None:
        for blocking in (lambda: MachPort().receive(0.01), lambda: main.run_in_mode("other", 0.01)):
            try:
                main.add_timer(Timer(60, lambda timer: None), "other")
                blocking()
            except PortError as error:
                errors.append(error)
        main.stop()

    if watching:
        main.add_source(source)
    try:
        with handling(wait), sending_when_asleep(main):
            assert main.run(PATIENCE) is RunResult.STOPPED
    finally:
        source.invalidate()
        main._table.modes[DEFAULT_MODE].close()  # the main loop would keep its poller
        os.close(pipe[0])
        os.close(pipe[1])
    assert ["signal handler" in str(error) for error in errors] == [True, True]


def test_a_signal_that_another_thread_receives_wakes_the_main_loop(main: RunLoop) -> None:
    """Nothing interrupts the main thread's sleep then, but Python runs handlers only there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:

        def body() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
            assert eventually(lambda: main.is_waiting)
            signal.pthread_kill(get_ident(), signal.SIGUSR1)

        thread = Thread(target=body)
        with handling(lambda *told: main.stop()):
            thread.start()
            assert main.run(PATIENCE) is RunResult.STOPPED
            thread.join()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def test_no_signal_waits_for_the_next_event(main: RunLoop) -> None:
    """Each is sent once the one before was handled, at any moment of the pass."""
    handled = Event()

    def body() -> None:
        try:
            for _ in range(1500):
                handled.clear()
                send()
                if not handled.wait(PATIENCE):
                    return
            done.append(True)
        finally:
            main.perform(main.stop)

    done: list[bool] = []
    with handling(lambda *told: main.perform(handled.set)):
        thread = Thread(target=body)
        thread.start()
        assert main.run(PATIENCE) is RunResult.STOPPED
        thread.join()
    assert done == [True]


def test_the_wake_up_descriptor_is_given_back(main: RunLoop) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(signals_ring())

    main.perform(look)
    main.perform(main.run_in_mode, DEFAULT_MODE, 0)  # a nested run leaves it alone
    main.perform(look)
    main.run_in_mode(DEFAULT_MODE, 0)
    look()
    assert seen[0] == seen[1] != -1
    assert seen[2] == -1


def test_somebody_elses_wake_up_descriptor_stays(main: RunLoop) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    before = signal.set_wakeup_fd(write_fd)
    try:
        with handling(lambda *told: None):
            main.perform(send)
            main.run_in_mode(DEFAULT_MODE, 0)
        assert signal.set_wakeup_fd(before) == write_fd
        assert os.read(read_fd, 1) == bytes([signal.SIGUSR1])
    finally:
        signal.set_wakeup_fd(before)
        os.close(read_fd)
        os.close(write_fd)


def test_what_an_interrupt_kept_from_being_given_back_is_after_the_next_run(
    main: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(loop: RunLoop) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(activation, "leave_signals", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main.run_in_mode(DEFAULT_MODE, 0)
    main.run_in_mode(DEFAULT_MODE, 0)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("forking", ["main thread", "another"])
def test_a_child_forked_while_the_loop_runs_gets_its_signals(main: RunLoop, forking: str) -> None:
    """The pipe they rang in the parent is closed there; its number is somebody else's soon."""

    def child() -> str:
        read_fd, _ = os.pipe()
        os.set_blocking(read_fd, False)
        loop = RunLoop.current()
        source = keep_alive(loop)
        with handling(lambda *told: loop.perform(loop.stop)):
            loop.call_later(0.0, send)
            assert loop.run(PATIENCE) is RunResult.STOPPED
        source.invalidate()
        assert signal.set_wakeup_fd(-1) == -1
        with pytest.raises(BlockingIOError):
            os.read(read_fd, 1)
        return "fine"

    said: list[str] = []

    def fork() -> None:
        said.append(in_child(child))
        main.perform(main.stop)

    with LoopThread() as other:
        (main if forking == "main thread" else other.loop).perform(fork)
        assert main.run(PATIENCE) is RunResult.STOPPED
    assert said == ["fine"]


def test_other_threads_loops_leave_it_alone() -> None:
    with LoopThread() as other:
        other.call(int)
        assert signal.set_wakeup_fd(-1) == -1


PROGRAM = """
import os, signal, sys, threading, time
from portkit import Activity, DescriptorSource, InputSource, Observer, RunLoop
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
loop = RunLoop.main()
if sys.argv[1] == "descriptor":
    loop.add_source(DescriptorSource(os.pipe()[0], lambda source, ready: None))
else:
    loop.add_source(InputSource(lambda source: None))
loop.add_observer(Observer(lambda o, a: print("exit", flush=True), Activity.EXIT))
def tell():
    while not loop.is_waiting:
        time.sleep(0.001)
    print("asleep", flush=True)
threading.Thread(target=tell, daemon=True).start()
loop.run()
"""


@pytest.mark.parametrize("sleeping_on", ["pipe", "descriptor"])
def test_sigint_ends_a_sleeping_main_loop(sleeping_on: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, sleeping_on],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured(os.environ),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asleep\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert out == "exit\n"
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
