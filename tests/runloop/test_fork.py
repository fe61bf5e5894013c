"""A fork: the old loop raises and says why, the child's is new, the parent notices nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    LoopEndedError,
    MachPort,
    Observer,
    RunLoop,
    RunResult,
    ThreadData,
    Timer,
)
from portkit.clock import now
from portkit.runloop import item
from tests.ports.helpers import in_child
from tests.support import PATIENCE, LoopThread, keep_alive, open_descriptors, run_on_thread

pytestmark = [
    pytest.mark.own_thread,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def use_everything() -> str:
    """Use a new loop in every way; "fine" if all of it works."""
    loop = RunLoop.current()
    done: list[str] = []
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"x")

    def drain(source: DescriptorSource, ready: object) -> None:
        os.read(read_fd, 1)
        done.append("descriptor")

    source = InputSource(lambda source: done.append("source"))
    port = MachPort(lambda message: done.append("message"))
    loop.add_source(source, COMMON_MODES)
    loop.add_source(DescriptorSource(read_fd, drain))
    loop.add_observer(Observer(lambda o, a: None))
    loop.add_port(port)
    source.signal()
    port.send(b"x")
    loop.perform(done.append, "call")
    loop.call_later(0.005, loop.stop)
    assert loop.run(PATIENCE) is RunResult.STOPPED
    assert sorted(done) == ["call", "descriptor", "message", "source"], done
    with LoopThread() as other:
        assert other.call(int) == 0
    assert "default" in loop.describe()
    return "fine"


def test_the_child_has_a_new_loop() -> None:
    old = RunLoop.current()
    keep_alive(old)

    def child() -> str:
        assert RunLoop.current() is not old
        assert RunLoop.main() is RunLoop.current()  # the thread that forks is the main one there
        assert RunLoop.current().thread is threading.main_thread()
        return use_everything()

    assert in_child(child) == "fine"


@pytest.mark.parametrize("forks", [2, 3])
def test_a_childs_child(forks: int) -> None:
    def child(left: int) -> str:
        use_everything()
        return in_child(lambda: child(left - 1)) if left else "fine"

    assert in_child(lambda: child(forks - 1)) == "fine"


REFUSED: dict[str, Callable[[RunLoop], object]] = {
    "run": lambda loop: loop.run(0),
    "run_in_mode": lambda loop: loop.run_in_mode(DEFAULT_MODE, None),
    "run_mode": lambda loop: loop.run_mode(DEFAULT_MODE, None),
    "limit_date": lambda loop: loop.limit_date(DEFAULT_MODE),
    "accept_input": lambda loop: loop.accept_input(DEFAULT_MODE, 0),
    "add_source": lambda loop: loop.add_source(InputSource(lambda source: None)),
    "add_timer": lambda loop: loop.add_timer(Timer(1.0, lambda timer: None)),
    "add_observer": lambda loop: loop.add_observer(Observer(lambda o, a: None)),
    "add_port": lambda loop: loop.add_port(MachPort(lambda message: None)),
    "add_common_mode": lambda loop: loop.add_common_mode("m"),
    "perform": lambda loop: loop.perform(int),
    "perform_and_wait": lambda loop: loop.perform_and_wait(int),
    "call_later": lambda loop: loop.call_later(0.0, int),
    "submit": lambda loop: loop.executor().submit(int),
    "wake_up": lambda loop: loop.wake_up(),
    "thread": lambda loop: loop.thread,
    "remove_source": lambda loop: loop.remove_source(InputSource(lambda source: None)),
    "remove_timer": lambda loop: loop.remove_timer(Timer(1.0, lambda timer: None)),
    "remove_observer": lambda loop: loop.remove_observer(Observer(lambda o, a: None)),
    "next_timer_fire_date": lambda loop: loop.next_timer_fire_date(DEFAULT_MODE),
    "describe": lambda loop: loop.describe(),
}


@contextmanager
def locks_held(loop: RunLoop) -> Iterator[None]:
    """Another thread holds every lock of the loop, as it may in the moment of a fork."""
    held, release = Event(), Event()

    def body() -> None:
        with loop._lock, item._membership, RunLoop._creation_lock:
            held.set()
            assert release.wait(PATIENCE)

    thread = Thread(target=body)
    thread.start()
    assert held.wait(PATIENCE)
    try:
        yield
    finally:
        release.set()
        thread.join()


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_the_old_loop_raises_and_says_why(call: Callable[[RunLoop], object]) -> None:
    """Before it takes a lock, which a thread may hold that is not in the child."""
    loop = RunLoop.current()
    keep_alive(loop)
    with locks_held(loop):
        said = in_child(lambda: call(loop))
    assert said.startswith("LoopEndedError"), said
    assert "forked" in said


def test_old_items_can_be_let_go() -> None:
    """Nothing that is done to them waits for a lock of the old loop, or reaches the parent."""
    loop = RunLoop.current()
    read_fd, write_fd = os.pipe()
    cancelled: list[str] = []
    source = InputSource(lambda source: None, cancel=lambda s, loop, mode: cancelled.append(mode))
    timer = Timer(1000.0, lambda timer: None)
    observer = Observer(lambda o, a: None)
    descriptor = DescriptorSource(read_fd, lambda s, ready: None)
    port = MachPort(lambda message: None)
    loop.add_source(source)
    loop.add_source(descriptor)
    loop.add_timer(timer)
    loop.add_observer(observer)
    loop.add_port(port)
    delayed = loop.call_later(1000.0, int)

    def child() -> str:
        source.signal(wake=False)
        with pytest.raises(LoopEndedError, match="forked"):
            timer.next_fire_date = now() + 1.0
        with pytest.raises(LoopEndedError, match="forked"):
            descriptor.watch(read=False, write=False)
        loop.cancel_calls()
        loop.stop()
        for thing in (source, timer, observer, descriptor, delayed, port):
            thing.invalidate()
            assert not thing.is_valid
        assert cancelled == []
        repr(loop), loop.modes, loop.current_mode, loop.is_waiting
        return use_everything()

    with locks_held(loop):
        assert in_child(child) == "fine"
    assert delayed.is_valid
    assert loop.contains_source(source)
    port.invalidate()
    for fd in (read_fd, write_fd):
        os.close(fd)


def test_the_parents_loops_notice_nothing() -> None:
    """Their descriptors, the registrations with epoll above all, are the parent's."""
    fired = Event()
    read_fd, write_fd = os.pipe()
    with LoopThread() as other:

        def fire(source: DescriptorSource, ready: object) -> None:
            os.read(read_fd, 1)
            fired.set()

        source = DescriptorSource(read_fd, fire)
        other.loop.add_source(source)
        other.call(int)

        def child() -> str:
            source.invalidate()
            return use_everything()

        for _ in range(3):
            assert in_child(child) == "fine"
            assert not fired.is_set()
            os.write(write_fd, b"x")
            assert fired.wait(PATIENCE)
            fired.clear()
            assert other.call(int) == 0
        source.invalidate()
    os.close(read_fd)
    os.close(write_fd)


def test_the_child_closes_what_the_loops_had_open() -> None:
    read_fd, write_fd = os.pipe()

    def watch() -> None:
        source = DescriptorSource(read_fd, lambda s, ready: None)
        RunLoop.current().add_source(source)

    with LoopThread() as other:
        before = set(open_descriptors())
        other.call(watch)
        RunLoop.current()
        made = set(open_descriptors()) - before

        def child() -> str:
            return f"{made & set(open_descriptors())}"

        assert len(made) == 3  # a pipe and a poller
        assert in_child(child) == "set()"
    os.close(read_fd)
    os.close(write_fd)


@pytest.mark.parametrize("last_pass", [False, True])
@pytest.mark.parametrize("with_descriptor", [False, True])
def test_a_fork_inside_a_callback(with_descriptor: bool, last_pass: bool) -> None:
    """In the child the old run ends with the error when the callback returns to it, without a
    callback; in the parent it goes on.
    """
    loop = RunLoop.current()
    read_fd, write_fd = os.pipe()
    report_read, report_write = os.pipe()
    if with_descriptor:
        loop.add_source(DescriptorSource(read_fd, lambda s, ready: None))
    keep_alive(loop)
    exits: list[int] = []
    loop.add_observer(Observer(lambda o, a: exits.append(1), Activity.EXIT))
    in_the_child: list[bool] = []
    said: list[str] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            signal.alarm(int(PATIENCE))
            in_the_child.append(True)
            return
        os.close(report_write)
        with os.fdopen(report_read) as report:
            said.append(report.read())
        os.waitpid(pid, 0)
        loop.stop()

    loop.call_later(0.0, fork)
    try:
        outcome: object = loop.run(0 if last_pass else PATIENCE)
    except BaseException as error:
        outcome = f"{error!r} {exits}"
    if in_the_child:
        os.write(report_write, str(outcome).encode())
        os._exit(0)
    assert outcome is (RunResult.TIMED_OUT if last_pass else RunResult.STOPPED)
    assert said[0].startswith("LoopEndedError")
    assert "forked" in said[0]
    assert said[0].endswith(" []")
    assert exits == [1]
    os.close(read_fd)
    os.close(write_fd)


def test_a_fork_inside_a_callback_that_goes_on_with_a_new_loop() -> None:
    loop = RunLoop.current()
    said: list[str] = []
    loop.perform(lambda: said.append(in_child(use_everything)))
    loop.run()
    assert said == ["fine"]


def test_values_of_the_parents_threads_are_not_destroyed_in_the_child() -> None:
    destroyed: list[str] = []
    data = ThreadData(destroyed.append)

    def body() -> str:
        data.set("parent's")

        def child() -> str:
            data.set("child's")
            run_on_thread(lambda: data.set("of a child's thread"))
            return f"{destroyed}"

        return in_child(child)

    assert run_on_thread(body) == '["of a child\'s thread"]'
    assert destroyed == ["parent's"]


def test_the_wake_up_of_a_call_in_the_child_does_not_reach_the_parent() -> None:
    with LoopThread() as other:
        ran: list[int] = []

        def child() -> str:
            with pytest.raises(LoopEndedError):
                other.loop.perform(ran.append, 1)
            with pytest.raises(LoopEndedError):
                other.loop.wake_up()
            return "refused"

        assert in_child(child) == "refused"
        other.call(int)
        assert ran == []
