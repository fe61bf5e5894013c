"""Much at once: nothing is lost, and what is large still works."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from threading import Barrier, Event, Thread

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    InputSource,
    LoopEndedError,
    MachPort,
    Observer,
    RunLoop,
    RunResult,
    Timer,
)
from portkit.clock import ManualClock
from tests.support import PATIENCE, LoopThread, eventually, keep_alive

pytestmark = pytest.mark.own_thread


def on_threads(count: int, fn: Callable[[int], object]) -> list[Thread]:
    """Call ``fn(n)`` on that many threads, which begin together."""
    barrier = Barrier(count, timeout=PATIENCE)

    def body(n: int) -> None:
        barrier.wait()
        fn(n)

    threads = [Thread(target=body, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_20000_signals_from_other_threads_none_lost() -> None:
    """Work goes through a queue of the test's own; the signal says that there is some (R28)."""
    senders, each = 4, 5000
    work: list[int] = []
    done: list[int] = []
    finished = Event()

    def perform(source: InputSource) -> None:
        while work:
            done.append(work.pop())
        if len(done) == senders * each:
            finished.set()

    def send(n: int) -> None:
        for number in range(each):
            work.append(n * each + number)
            source.signal()

    with LoopThread() as other:
        source = InputSource(perform)
        other.loop.add_source(source)
        join(on_threads(senders, send))
        assert finished.wait(PATIENCE)
    assert sorted(done) == list(range(senders * each))


def test_20000_calls_from_other_threads_in_each_threads_order() -> None:
    senders, each = 4, 5000
    got: list[tuple[int, int]] = []
    with LoopThread() as other:

        def send(n: int) -> None:
            for number in range(each):
                other.loop.perform(got.append, (n, number))

        join(on_threads(senders, send))
        other.call(int)  # after all of them (R25)
    assert len(got) == senders * each
    for n in range(senders):
        assert [number for sender, number in got if sender == n] == list(range(each))


def test_results_of_calls_from_many_threads() -> None:
    with LoopThread() as other:
        wrong: list[int] = []

        def ask(n: int) -> None:
            for number in range(300):
                result = other.loop.perform_and_wait(divmod, number, n + 1)
                wrong.extend([number] * (result != divmod(number, n + 1)))

        join(on_threads(8, ask))
    assert wrong == []


def test_10000_timers_on_one_loop(clock: ManualClock) -> None:
    loop = RunLoop.current()
    count = 10_000
    fired: list[float] = []
    dice = random.Random(7)
    dates = [dice.random() * 100.0 for _ in range(count)]
    timers = [
        Timer(0.0, lambda timer: fired.append(timer.next_fire_date), fire_date=1000.0 + date)
        for date in dates
    ]
    for timer in timers:
        loop.add_timer(timer)
    assert loop.next_timer_fire_date(DEFAULT_MODE) == 1000.0 + min(dates)
    for timer in timers[::2]:
        timer.invalidate()
    assert loop.run() is RunResult.FINISHED
    assert fired == sorted(1000.0 + date for date in dates[1::2])


def test_10000_repeating_timers_of_one_date(clock: ManualClock) -> None:
    loop = RunLoop.current()
    fired: Counter[float] = Counter()
    for _ in range(10_000):
        loop.add_timer(Timer(1.0, lambda timer: fired.update([clock.now()]), repeats=True))
    loop.run(3.5)
    assert fired == {1001.0: 10_000, 1002.0: 10_000, 1003.0: 10_000}


def test_10000_ports_on_one_loop() -> None:
    loop = RunLoop.current()
    count = 10_000
    got: list[MachPort] = []

    def receive(message: object) -> None:
        got.append(message.receive_port)  # type: ignore[attr-defined]
        if len(got) == count // 2:
            loop.stop()

    ports = [MachPort(receive) for _ in range(count)]
    for port in ports:
        loop.add_port(port)
    for port in ports[::2]:
        port.send(b"x")
    assert loop.run(PATIENCE) is RunResult.STOPPED
    assert got == ports[::2]
    for port in ports:
        port.invalidate()
    assert loop.run() is RunResult.FINISHED


def test_1000_modes() -> None:
    loop = RunLoop.current()
    ran: list[str | None] = []
    source = InputSource(lambda source: ran.append(loop.current_mode))
    loop.add_source(source, COMMON_MODES)
    names = [f"mode {n}" for n in range(1000)]
    for name in names:
        loop.add_common_mode(name)
    for name in names[::100]:
        source.signal()
        loop.run_in_mode(name, 0)
    assert ran == names[::100]
    source.invalidate()
    assert not any(loop.contains_source(source, name) for name in names)


def test_adding_and_removing_from_other_threads_while_it_runs() -> None:
    """Every kind of item, in and out, over and over; then the loop is as it was."""
    with LoopThread() as other:
        loop = other.loop
        loop.add_common_mode("m")
        cancels: Counter[str] = Counter()
        schedules: Counter[str] = Counter()
        errors: list[object] = []
        loop.exception_handler = lambda loop, context: errors.append(context)

        def churn(n: int) -> None:
            dice = random.Random(n)
            for _ in range(300):
                mode = dice.choice([DEFAULT_MODE, COMMON_MODES, "m", "never run"])
                source = InputSource(
                    lambda source: None,
                    schedule=lambda s, loop, mode: schedules.update([mode]),
                    cancel=lambda s, loop, mode: cancels.update([mode]),
                )
                loop.add_source(source, mode)
                source.signal()
                timer = Timer(dice.random() / 100, lambda timer: None, repeats=True)
                loop.add_timer(timer, mode)
                timer.next_fire_date = 0.0
                observer = Observer(lambda observer, activity: None)
                loop.add_observer(observer, mode)
                port = MachPort(lambda message: None)
                loop.add_port(port, mode)
                port.send(b"x")
                loop.perform(int, modes=[mode, DEFAULT_MODE])
                loop.call_later(0.0, int, mode=mode).invalidate()
                loop.describe()
                if dice.random() < 0.5:
                    loop.remove_source(source, mode)
                    loop.remove_timer(timer, mode)
                    loop.remove_observer(observer, mode)
                    loop.remove_port(port, mode)
                for item in (source, timer, observer, port):
                    item.invalidate()

        join(on_threads(4, churn))
        other.call(int)
        assert errors == []
        assert schedules == cancels
        assert len(loop._table.all_items()) == 1  # what keeps the thread's loop alive
        assert loop._ports == {}
        assert loop._delayed == {}
        assert all(len(mode.timers) == 0 for mode in loop._table.modes.values())


def test_starting_and_stopping_over_and_over() -> None:
    """A stop from another thread ends exactly one run, and never goes missing."""
    loop = RunLoop.current()
    keep_alive(loop)
    rounds = 500
    go = Barrier(2, timeout=PATIENCE)

    def stop() -> None:
        for _ in range(rounds):
            go.wait()
            loop.stop()

    thread = Thread(target=stop)
    thread.start()
    for _ in range(rounds):
        loop.perform(go.wait)  # from inside the run
        assert loop.run() is RunResult.STOPPED
    thread.join()


def test_many_threads_with_loops_come_and_go() -> None:
    """Each talks to all the others while it lives (the crash of cocoadev's stress test)."""
    loops: list[RunLoop] = []
    refused: list[int] = []
    made: list[int] = []

    def live(n: int) -> None:
        loop = RunLoop.current()
        loops.append(loop)
        loop.exception_handler = lambda loop, context: refused.append(1)
        source = keep_alive(loop)
        for other in tuple(loops):
            try:
                other.perform(made.append, 1)
            except LoopEndedError:
                refused.append(1)
        loop.run(0.001)
        source.invalidate()

    for _ in range(5):
        join(on_threads(20, live))
    assert eventually(lambda: all("ended" in repr(loop) for loop in loops))
    assert made


@pytest.mark.parametrize("depth", [50])
def test_deep_nesting(depth: int) -> None:
    loop = RunLoop.current()
    levels: list[int] = []

    def nest(level: int) -> None:
        levels.append(level)
        if level < depth:
            loop.perform(nest, level + 1)
            loop.run_in_mode(DEFAULT_MODE, 0)

    loop.perform(nest, 1)
    loop.run()
    assert levels == list(range(1, depth + 1))
    assert loop.current_mode is None
