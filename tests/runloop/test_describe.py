"""The dump for people."""

from __future__ import annotations

import os

import pytest

from portkit import (
    COMMON_MODES,
    DescriptorSource,
    InputSource,
    MachPort,
    Observer,
    RunLoop,
    Timer,
)
from portkit.clock import ManualClock
from tests.support import LoopThread, run_on_thread

pytestmark = pytest.mark.own_thread


def test_it_names_modes_items_orders_and_dates(clock: ManualClock) -> None:
    loop = RunLoop.current()
    read_fd, write_fd = os.pipe()

    def a_perform(source: InputSource) -> None:
        pass

    loop.add_common_mode("second")
    loop.add_source(InputSource(a_perform, order=7), COMMON_MODES)
    loop.add_source(DescriptorSource(read_fd, lambda source, ready: None), "third")
    loop.add_timer(Timer(2.5, lambda timer: None, repeats=True, tolerance=0.5), "third")
    loop.add_observer(Observer(lambda observer, activity: None, order=-3), "third")
    loop.add_port(MachPort(lambda message: None), "third")
    text = loop.describe()
    for part in (
        "'test'",  # the thread's name
        "mode 'default', common: 1 items",
        "mode 'second', common: 1 items",
        "mode 'third': 4 items",
        "common items: 1",
        "next timer at 1002.500",
        "repeats every 2.5 s",
        "tolerance=0.5",
        f"fd={read_fd}",
        "order=7",
        "order=-3",
        "a_perform",
        "MachPort",
    ):
        assert part in text, part
    os.close(read_fd)
    os.close(write_fd)


def test_a_running_loop_can_be_described_by_another_thread() -> None:
    with LoopThread("some mode") as other:
        text = other.loop.describe()
        assert "some mode" in text
        assert "InputSource" in text


def test_in_a_callback() -> None:
    loop = RunLoop.current()
    texts: list[str] = []
    loop.perform(lambda: texts.append(loop.describe()))
    loop.run()
    assert "default" in texts[0]


def test_repr_says_what_the_loop_does() -> None:
    loop = RunLoop.current()
    seen: list[str] = []
    loop.perform(lambda: seen.append(repr(loop)), modes="m")
    loop.run_in_mode("m", 0)
    assert "m>" in seen[0]
    assert "idle" in repr(loop)
    assert "ended" in repr(run_on_thread(RunLoop.current))


@pytest.mark.parametrize(
    "item",
    [
        Timer(1.0, lambda timer: None),
        InputSource(lambda source: None),
        Observer(lambda observer, activity: None),
        DescriptorSource(0, lambda source, ready: None),
    ],
    ids=lambda item: type(item).__name__,
)
def test_repr_of_items(item: Timer | InputSource | Observer | DescriptorSource) -> None:
    assert type(item).__name__ in repr(item)
    assert "lambda" in repr(item)
    assert "invalid" not in repr(item)
    item.invalidate()
    assert "invalid" in repr(item)
