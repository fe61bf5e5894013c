"""Common modes (R42-R44)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    DescriptorSource,
    InputSource,
    MachPort,
    Observer,
    RunLoop,
    RunResult,
    Timer,
)
from tests.support import keep_alive

pytestmark = pytest.mark.own_thread


class TestItems:
    """Each kind of item, by its three calls."""

    @pytest.fixture(params=["source", "timer", "observer", "port"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        kind: str = request.param
        return kind

    def item(self, kind: str) -> object:
        makers: dict[str, Callable[[], object]] = {
            "source": lambda: InputSource(lambda source: None),
            "timer": lambda: Timer(1000.0, lambda timer: None),
            "observer": lambda: Observer(lambda observer, activity: None),
            "port": lambda: MachPort(lambda message: None),
        }
        return makers[kind]()

    def calls(self, kind: str) -> tuple[Callable[..., Any], ...]:
        loop = RunLoop.current()
        return tuple(getattr(loop, f"{verb}_{kind}") for verb in ("add", "remove", "contains"))

    def test_r42_default_is_common_at_first(self, kind: str) -> None:
        add, _, contains = self.calls(kind)
        item = self.item(kind)
        add(item, COMMON_MODES)
        assert contains(item, COMMON_MODES)
        assert contains(item, DEFAULT_MODE)
        assert not contains(item, "m")

    def test_r42_a_mode_that_becomes_common_gets_the_common_items(self, kind: str) -> None:
        add, _, contains = self.calls(kind)
        common, own = self.item(kind), self.item(kind)
        add(common, COMMON_MODES)
        add(own, DEFAULT_MODE)
        RunLoop.current().add_common_mode("m")
        assert contains(common, "m")
        assert not contains(own, "m")
        later = self.item(kind)
        add(later, COMMON_MODES)
        assert contains(later, "m")

    def test_r43_removing_from_the_common_modes(self, kind: str) -> None:
        add, remove, contains = self.calls(kind)
        RunLoop.current().add_common_mode("m")
        item = self.item(kind)
        add(item, COMMON_MODES)
        remove(item, COMMON_MODES)
        assert not any(contains(item, mode) for mode in (COMMON_MODES, DEFAULT_MODE, "m"))
        RunLoop.current().add_common_mode("late")
        assert not contains(item, "late")

    def test_r43_removing_what_was_not_added_as_common_does_nothing(self, kind: str) -> None:
        add, remove, contains = self.calls(kind)
        item = self.item(kind)
        add(item, DEFAULT_MODE)
        assert not contains(item, COMMON_MODES)
        remove(item, COMMON_MODES)
        assert contains(item, DEFAULT_MODE)

    def test_r43_removing_from_one_mode_leaves_it_common(self, kind: str) -> None:
        add, remove, contains = self.calls(kind)
        RunLoop.current().add_common_mode("m")
        item = self.item(kind)
        add(item, COMMON_MODES)
        remove(item, "m")
        assert not contains(item, "m")
        assert contains(item, COMMON_MODES)
        assert contains(item, DEFAULT_MODE)
        remove(item, COMMON_MODES)
        assert not contains(item, DEFAULT_MODE)

    def test_adding_twice_is_adding_once(self, kind: str) -> None:
        """R30, R37, R46, R63."""
        add, remove, contains = self.calls(kind)
        item = self.item(kind)
        for mode in (DEFAULT_MODE, COMMON_MODES, DEFAULT_MODE, COMMON_MODES):
            add(item, mode)
        remove(item, COMMON_MODES)
        assert not contains(item, DEFAULT_MODE)
        assert RunLoop.current().run() is RunResult.FINISHED


class TestAddCommonMode:
    def test_twice_is_once(self) -> None:
        loop = RunLoop.current()
        scheduled: list[str] = []
        source = InputSource(
            lambda source: None, schedule=lambda source, loop, mode: scheduled.append(mode)
        )
        loop.add_source(source, COMMON_MODES)
        loop.add_common_mode("m")
        loop.add_common_mode("m")
        loop.add_common_mode(DEFAULT_MODE)
        assert scheduled == [DEFAULT_MODE, "m"]

    def test_common_calls_run_in_a_mode_made_common(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        keep_alive(loop, "m")
        loop.perform(ran.append, 1)
        loop.run_in_mode("m", 0)
        assert ran == []
        loop.add_common_mode("m")
        loop.run_in_mode("m", 0)
        assert ran == [1]

    def test_the_common_modes_cannot_be_made_common(self) -> None:
        with pytest.raises(ValueError, match="name the mode"):
            RunLoop.current().add_common_mode(COMMON_MODES)

    def test_r44_modes_are_compared_by_value(self) -> None:
        loop = RunLoop.current()
        source = keep_alive(loop, str(b"common", "ascii"))
        assert loop.contains_source(source, COMMON_MODES)
        assert loop.contains_source(source, str(b"default", "ascii"))

    def test_a_schedule_callout_that_raises_leaves_the_others_scheduled(self) -> None:
        """The item that failed is not in the mode; the error goes to who made the mode common."""
        loop = RunLoop.current()
        told: list[str] = []

        def schedule(name: str) -> Callable[[InputSource, RunLoop, str], None]:
            def callout(source: InputSource, loop: RunLoop, mode: str) -> None:
                if mode == "m":
                    told.append(name)
                    if name == "bad":
                        raise RuntimeError("no")

            return callout

        sources = {
            name: InputSource(lambda source: None, schedule=schedule(name))
            for name in ("first", "bad", "last")
        }
        for source in sources.values():
            loop.add_source(source, COMMON_MODES)
        with pytest.raises(RuntimeError, match="no"):
            loop.add_common_mode("m")
        assert told == ["first", "bad", "last"]
        inside = [name for name, source in sources.items() if loop.contains_source(source, "m")]
        assert inside == ["first", "last"]

    def test_an_item_that_cannot_enter_leaves_the_others_scheduled(self) -> None:
        """A mode watches a descriptor through one source."""
        loop = RunLoop.current()
        read_fd, write_fd = os.pipe()
        loop.add_source(DescriptorSource(read_fd, lambda source, ready: None), "m")
        conflicting = DescriptorSource(read_fd, lambda source, ready: None)
        scheduled: list[str] = []
        other = InputSource(
            lambda source: None, schedule=lambda source, loop, mode: scheduled.append(mode)
        )
        last = keep_alive(loop)
        loop.add_source(other, COMMON_MODES)
        loop.add_source(conflicting, COMMON_MODES)
        loop.add_source(last, COMMON_MODES)
        with pytest.raises(ValueError, match="watched"):
            loop.add_common_mode("m")
        assert scheduled == [DEFAULT_MODE, "m"]
        assert loop.contains_source(last, "m")
        assert not loop.contains_source(conflicting, "m")
        os.close(read_fd)
        os.close(write_fd)
