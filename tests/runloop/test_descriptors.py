"""Descriptor sources: level-triggered, by order, fair, changeable while the loop sleeps."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    Observer,
    Ready,
    RunLoop,
    RunResult,
    Timer,
)
from tests.support import PATIENCE, LoopThread, eventually, keep_alive

pytestmark = pytest.mark.own_thread


@contextmanager
def pipes(count: int = 1, *, filled: bool = False) -> Iterator[list[tuple[int, int]]]:
    """Pipes, as (read, write) descriptors."""
    made = [os.pipe() for _ in range(count)]
    for _, write_fd in made:
        if filled:
            os.write(write_fd, b"x")
    try:
        yield made
    finally:
        for pair in made:
            for fd in pair:
                os.close(fd)


def poll(loop: RunLoop, mode: str = DEFAULT_MODE) -> RunResult:
    return loop.run_in_mode(mode, 0)


class TestFiring:
    def test_it_fires_while_the_descriptor_is_readable(self) -> None:
        """Level-triggered: until somebody reads."""
        loop = RunLoop.current()
        fired: list[Ready] = []
        with pipes() as [(read_fd, write_fd)]:
            source = DescriptorSource(read_fd, lambda source, ready: fired.append(ready))
            loop.add_source(source)
            poll(loop)
            assert fired == []
            os.write(write_fd, b"x")
            poll(loop)
            poll(loop)
            assert fired == [Ready.READ] * 2
            os.read(read_fd, 1)
            poll(loop)
            assert len(fired) == 2

    def test_write_interest(self) -> None:
        loop = RunLoop.current()
        fired: list[tuple[DescriptorSource, Ready]] = []
        one, other = socket.socketpair()
        with one, other:
            source = DescriptorSource(one, lambda *told: fired.append(told), read=False, write=True)
            loop.add_source(source)
            poll(loop)
            assert fired == [(source, Ready.WRITE)]
            assert source.fd == one.fileno()
            source.invalidate()

    def test_both_at_once_are_one_call(self) -> None:
        loop = RunLoop.current()
        fired: list[Ready] = []
        one, other = socket.socketpair()
        with one, other:
            source = DescriptorSource(one, lambda source, ready: fired.append(ready), write=True)
            loop.add_source(source)
            other.send(b"x")
            poll(loop)
            assert fired == [Ready.READ | Ready.WRITE]
            source.invalidate()

    def test_a_hang_up_counts_as_what_was_asked_for(self) -> None:
        loop = RunLoop.current()
        fired: list[Ready] = []
        read_fd, write_fd = os.pipe()
        source = DescriptorSource(read_fd, lambda source, ready: fired.append(ready))
        loop.add_source(source)
        os.close(write_fd)
        poll(loop)
        assert fired == [Ready.READ]
        source.invalidate()
        os.close(read_fd)

    def test_one_in_several_modes(self) -> None:
        loop = RunLoop.current()
        fired: list[str | None] = []
        with pipes(filled=True) as [(read_fd, _)]:
            source = DescriptorSource(read_fd, lambda s, r: fired.append(loop.current_mode))
            for mode in ("a", "b"):
                loop.add_source(source, mode)
            poll(loop, "b")
            poll(loop, "a")
            loop.remove_source(source, "a")
            assert poll(loop, "a") is RunResult.FINISHED
            assert fired == ["b", "a"]

    def test_nothing_is_left_once_it_is_invalid(self) -> None:
        """The descriptor can be watched anew, and closed without a word."""
        loop = RunLoop.current()
        fired: list[int] = []
        with pipes(filled=True) as [(read_fd, _)]:
            for n in range(3):
                source = DescriptorSource(read_fd, lambda s, r, n=n: fired.append(n))  # type: ignore[misc]
                loop.add_source(source)
                poll(loop)
                source.invalidate()
        assert fired == [0, 1, 2]
        assert poll(loop) is RunResult.FINISHED

    @pytest.mark.parametrize("how", ["remove", "invalidate"])
    def test_an_earlier_callback_may_remove_a_later_source(self, how: str) -> None:
        loop = RunLoop.current()

        def take_out(source: DescriptorSource, ready: Ready) -> None:
            if how == "remove":
                loop.remove_source(later)
            else:
                later.invalidate()

        fired: list[str] = []
        with pipes(2, filled=True) as [(first, _), (second, _)]:
            later = DescriptorSource(second, lambda s, r: fired.append("later"), order=2)
            loop.add_source(later)
            loop.add_source(DescriptorSource(first, take_out, order=1))
            poll(loop)
        assert fired == []

    def test_events_of_a_descriptor_that_changed_hands_are_ignored(self) -> None:
        """The first callback closes the second pipe and opens another, at the same number."""
        loop = RunLoop.current()
        fired: list[str] = []
        first_read, first_write = os.pipe()
        second_read, second_write = os.pipe()
        os.write(first_write, b"x")
        os.write(second_write, b"x")
        opened: list[int] = []

        def change_hands(source: DescriptorSource, ready: Ready) -> None:
            if opened:
                return
            old.invalidate()
            os.close(second_read)
            os.close(second_write)
            opened.extend(sorted(os.pipe()))
            assert second_read in opened
            loop.add_source(DescriptorSource(second_read, lambda s, r: fired.append("new")))

        old = DescriptorSource(second_read, lambda s, r: fired.append("old"), order=2)
        loop.add_source(old)
        loop.add_source(DescriptorSource(first_read, change_hands, order=1))
        poll(loop)
        assert fired in ([], ["new"])  # an event of the old one may make the new one look
        for fd in (first_read, first_write, *opened):
            os.close(fd)


class TestTurns:
    def test_ready_together_they_fire_by_order(self) -> None:
        loop = RunLoop.current()
        fired: list[int] = []
        orders = [5, -2, 0, 3, -7]
        with pipes(len(orders), filled=True) as made:
            for (read_fd, _), order in zip(made, orders, strict=True):
                loop.add_source(
                    DescriptorSource(
                        read_fd,
                        lambda s, r, order=order: fired.append(order),  # type: ignore[misc]
                        order=order,
                    )
                )
            poll(loop)
        assert fired == sorted(orders)

    def test_r35_one_at_a_time_they_take_turns(self) -> None:
        """No busy descriptor starves the others."""
        loop = RunLoop.current()
        count = 5
        fired: list[int] = []
        with pipes(count, filled=True) as made:
            for n, (read_fd, _) in enumerate(made):
                loop.add_source(DescriptorSource(read_fd, lambda s, r, n=n: fired.append(n)))  # type: ignore[misc]
            for _ in range(4 * count):
                run = loop.run_in_mode(DEFAULT_MODE, 0, return_after_source_handled=True)
                assert run is RunResult.HANDLED_SOURCE
        assert len(fired) == 4 * count
        assert {fired.count(n) for n in range(count)} == {4}

    def test_a_busy_descriptor_starves_neither_timers_nor_calls_nor_sources(self) -> None:
        loop = RunLoop.current()
        done: list[str] = []
        with pipes(filled=True) as [(read_fd, _)]:
            loop.add_source(DescriptorSource(read_fd, lambda s, r: None))
            source = InputSource(lambda source: done.append("source"))
            loop.add_source(source)
            source.signal()
            loop.perform(done.append, "call")

            def fire(timer: Timer) -> None:
                done.append("timer")
                loop.stop()

            Timer.scheduled(0.01, fire)
            assert loop.run(PATIENCE) is RunResult.STOPPED
        assert sorted(done) == ["call", "source", "timer"]


class TestWhileTheLoopSleeps:
    """R33: takes effect at once, from any thread."""

    def test_adding(self) -> None:
        """Also to a mode that had no descriptor yet, and so sleeps on something else."""
        with LoopThread() as other, pipes(filled=True) as [(read_fd, _)]:
            for _ in range(3):
                assert eventually(lambda: other.loop.is_waiting)
                fired = Event()

                def fire(source: DescriptorSource, ready: Ready, fired: Event = fired) -> None:
                    source.invalidate()
                    fired.set()

                other.loop.add_source(DescriptorSource(read_fd, fire))
                assert fired.wait(PATIENCE)

    def test_data(self) -> None:
        with LoopThread() as other, pipes() as [(read_fd, write_fd)]:
            fired = Event()

            def fire(source: DescriptorSource, ready: Ready) -> None:
                os.read(read_fd, 1)
                fired.set()

            source = DescriptorSource(read_fd, fire)
            other.loop.add_source(source)
            for _ in range(50):
                os.write(write_fd, b"x")
                assert fired.wait(PATIENCE)
                fired.clear()
            source.invalidate()

    def test_wake_ups_and_calls_still_come_through(self) -> None:
        with LoopThread() as other, pipes() as [(read_fd, _)]:
            source = DescriptorSource(read_fd, lambda s, r: None)
            other.loop.add_source(source)
            for _ in range(50):
                assert other.call(int) == 0
            source.invalidate()

    def test_changing_what_is_watched(self) -> None:
        one, two = socket.socketpair()
        with one, two, LoopThread() as other:
            fired = Event()

            def fire(source: DescriptorSource, ready: Ready) -> None:
                assert ready == Ready.WRITE
                source.watch(read=True, write=False)
                fired.set()

            source = DescriptorSource(one, fire)
            other.loop.add_source(source)
            for _ in range(3):
                assert eventually(lambda: other.loop.is_waiting)
                source.watch(read=True, write=True)
                assert fired.wait(PATIENCE)
                fired.clear()
            assert source.interest == Ready.READ
            source.invalidate()

    def test_removing_the_last_ends_the_run(self) -> None:
        loop = RunLoop.current()
        with pipes() as [(read_fd, _)]:
            source = DescriptorSource(read_fd, lambda s, r: None)
            loop.add_source(source)

            def remove() -> None:
                assert eventually(lambda: loop.is_waiting)
                loop.remove_source(source)

            thread = Thread(target=remove)
            thread.start()
            assert loop.run() is RunResult.FINISHED
            thread.join()


class TestWatchingNothing:
    """A source may pause: the kernel would tell of hang-ups and errors all the same."""

    def passes_while_hung_up(self, source: DescriptorSource, mode: str = DEFAULT_MODE) -> int:
        loop = RunLoop.current()
        passes: list[int] = []
        loop.add_observer(Observer(lambda o, a: passes.append(1), Activity.BEFORE_TIMERS), mode)
        loop.run_in_mode(mode, 0.05)
        return len(passes)

    @pytest.mark.parametrize("paused", ["from the start", "later"])
    def test_it_does_not_spin(self, paused: str) -> None:
        loop = RunLoop.current()
        fired: list[Ready] = []
        read_fd, write_fd = os.pipe()
        later = paused == "later"
        source = DescriptorSource(read_fd, lambda s, ready: fired.append(ready), read=later)
        loop.add_source(source)
        if later:
            source.watch(read=False, write=False)
        os.close(write_fd)
        assert self.passes_while_hung_up(source) <= 3
        assert fired == []
        source.watch(read=True, write=False)
        poll(loop)
        assert fired == [Ready.READ]
        source.invalidate()
        os.close(read_fd)

    def test_pausing_twice_and_removing(self) -> None:
        loop = RunLoop.current()
        with pipes(filled=True) as [(read_fd, _)]:
            source = DescriptorSource(read_fd, lambda s, r: None)
            loop.add_source(source)
            for _ in range(2):
                source.watch(read=False, write=False)
            loop.remove_source(source)
            loop.add_source(source, "other")
            source.watch(read=True, write=False)
            run = loop.run_in_mode("other", 0, return_after_source_handled=True)
            assert run is RunResult.HANDLED_SOURCE


class TestBadInput:
    @pytest.mark.parametrize("fd", ["3", None, 3.0, object(), b"x"])
    def test_a_descriptor_is_an_int_or_has_one(self, fd: int) -> None:
        with pytest.raises(TypeError, match="descriptor"):
            DescriptorSource(fd, lambda s, r: None)

    def test_a_negative_descriptor(self) -> None:
        closed = socket.socket()
        closed.close()
        for fd in (-1, closed):
            with pytest.raises(ValueError, match="not an open descriptor"):
                DescriptorSource(fd, lambda s, r: None)

    def test_the_callback_is_callable(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            DescriptorSource(0, None)  # type: ignore[arg-type]

    def test_one_source_for_a_descriptor_in_a_mode(self) -> None:
        loop = RunLoop.current()
        with pipes() as [(read_fd, _)]:
            first, second = (DescriptorSource(read_fd, lambda s, r: None) for _ in range(2))
            loop.add_source(first)
            with pytest.raises(ValueError, match="watched in mode"):
                loop.add_source(second)
            assert not loop.contains_source(second)
            loop.add_source(second, "other")
            first.invalidate()
            loop.add_source(second)

    def test_one_loop(self) -> None:
        loop = RunLoop.current()
        with pipes() as [(read_fd, _)], LoopThread() as other:
            source = DescriptorSource(read_fd, lambda s, r: None)
            loop.add_source(source)
            with pytest.raises(ValueError, match="another run loop"):
                other.loop.add_source(source)
            loop.remove_source(source)
            other.loop.add_source(source)
            source.invalidate()

    def test_what_the_kernel_cannot_watch_is_refused(self) -> None:
        """And nothing is left of it, in any of the modes."""
        loop = RunLoop.current()
        loop.add_common_mode("m")
        with tempfile.TemporaryFile() as file:
            source = DescriptorSource(file, lambda s, r: None)
            for mode in (DEFAULT_MODE, COMMON_MODES):
                with pytest.raises(OSError, match=r"not permitted|ermission"):
                    loop.add_source(source, mode)
                assert not loop.contains_source(source, mode)
        with pipes() as [(read_fd, _)]:
            pass
        with pytest.raises(OSError, match="descriptor"):
            loop.add_source(DescriptorSource(read_fd, lambda s, r: None))
        assert poll(loop) is RunResult.FINISHED

    def test_closing_first_is_forgiven(self) -> None:
        loop = RunLoop.current()
        with pipes() as [(read_fd, _)]:
            source = DescriptorSource(read_fd, lambda s, r: None)
            loop.add_source(source)
        source.watch(read=True, write=True)
        source.invalidate()
        keep_alive(loop)
        assert poll(loop) is RunResult.TIMED_OUT
