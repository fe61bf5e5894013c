"""The doorbell of a thread: rung from anywhere, slept on by one."""

from __future__ import annotations

import os
import select
from time import monotonic

import pytest

from portkit._wakeup import Pipe, Waiter
from tests.ports.helpers import Background, interrupt
from tests.support import PATIENCE, eventually, open_descriptors


def rung(waiter: Waiter) -> bool:
    return bool(select.select([waiter.read_fd], [], [], 0)[0])


def arm(waiter: Waiter) -> None:
    waiter.armed = waiter


class TestWaiter:
    def test_is_not_rung_while_nobody_waits(self) -> None:
        waiter = Waiter()
        waiter.ring()
        assert not rung(waiter)

    def test_many_rings_are_one(self) -> None:
        waiter = Waiter()
        arm(waiter)
        for _ in range(3):
            waiter.ring()
        assert waiter.armed is None
        assert rung(waiter)
        waiter.drain()
        assert not rung(waiter)

    def test_wakes_who_sleeps(self) -> None:
        waiter = Waiter()
        waiter.armed = self
        sleeper = Background(lambda: waiter.sleep(PATIENCE))
        begun = monotonic()
        waiter.ring()
        sleeper.result()
        assert monotonic() - begun < PATIENCE / 2
        assert not rung(waiter)

    def test_wakes_who_is_about_to_sleep(self) -> None:
        waiter = Waiter()
        waiter.armed = self
        waiter.ring()
        waiter.sleep(None)

    @pytest.mark.parametrize("timeout", [0, 0.001])
    def test_sleeps_no_longer_than_asked(self, timeout: float) -> None:
        waiter = Waiter()
        waiter.armed = self
        waiter.sleep(timeout)
        assert waiter.armed is self

    def test_sleeps_for_more_milliseconds_than_an_int_holds(self) -> None:
        waiter = Waiter()
        waiter.armed = self
        waiter.ring()
        waiter.sleep(1e12)

    def test_an_interrupted_ring_rings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The ringer has said that the sleeper is awake: then it must become so."""
        waiter = Waiter()
        waiter.armed = self

        def ring(pipe: Pipe) -> None:
            monkeypatch.undo()
            interrupt()

        monkeypatch.setattr(Pipe, "ring", ring)
        with pytest.raises(KeyboardInterrupt):
            waiter.ring()
        assert rung(waiter) or waiter.armed is self

    def test_rings_after_its_thread_has_ended_do_nothing(self) -> None:
        waiter = Waiter()
        waiter.armed = self
        waiter.close()
        waiter.ring()
        waiter.armed = self
        waiter.ring()
        waiter.drain()
        assert (waiter.read_fd, waiter.write_fd) == (-1, -1)


class TestPipe:
    def test_a_full_one_takes_rings(self) -> None:
        pipe = Pipe()
        for _ in range(70_000):
            pipe.ring()
        pipe.drain()
        assert not select.select([pipe.read_fd], [], [], 0)[0]
        pipe.ring()
        assert select.select([pipe.read_fd], [], [], 0)[0]

    def test_is_closed_with_its_last_reference(self) -> None:
        before = open_descriptors()
        pipe = Pipe()
        assert open_descriptors() != before
        del pipe
        assert open_descriptors() == before

    def test_is_open_while_somebody_rings(self) -> None:
        """A bound method keeps it: nobody writes into a descriptor reused by others."""
        pipe = Pipe()
        ring, read_fd = pipe.ring, os.dup(pipe.read_fd)
        del pipe
        ring()
        assert os.read(read_fd, 10) == b"\0"
        os.close(read_fd)

    def test_is_not_inherited_by_programs(self) -> None:
        pipe = Pipe()
        assert not os.get_inheritable(pipe.read_fd)
        assert not os.get_inheritable(pipe.write_fd)


def test_a_thread_that_ends_closes_its_waiter() -> None:
    before = open_descriptors()

    def use() -> None:
        from portkit import _thread

        _thread.current()

    Background(use).result()
    assert eventually(lambda: open_descriptors() == before)
