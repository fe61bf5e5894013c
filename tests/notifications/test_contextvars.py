"""Observers are called in the context in which they were added."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar

import pytest

from portkit import Notification, NotificationCenter, NotificationQueue, PostingStyle, RunLoop
from portkit.notifications import Observation
from tests.notifications.helpers import Observer
from tests.support import LoopThread

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


class Watch:
    """Keeps the variable's value of each call."""

    def __init__(self) -> None:
        self.center = NotificationCenter()
        self.seen: list[str] = []
        self.told = Observer()

    def __call__(self, notification: Notification) -> None:
        self.seen.append(REQUEST.get())
        REQUEST.set("changed by the observer")
        self.told(notification)

    def add_within(self, value: str, add: Callable[[], Observation]) -> Observation:
        """Add an observer in a context of its own."""

        def within() -> Observation:
            REQUEST.set(value)
            return add()

        return Context().run(within)


def test_by_the_poster() -> None:
    watch = Watch()
    watch.add_within("adding", lambda: watch.center.add_observer(watch))
    watch.add_within("weak", lambda: watch.center.add_observer(watch.__call__, weak=True))
    REQUEST.set("posting")
    for _ in range(2):  # what one call sets, the next does not see
        watch.center.post("a")
    assert watch.seen == ["adding", "weak"] * 2
    assert REQUEST.get() == "posting"


def test_on_a_loop() -> None:
    watch = Watch()
    with LoopThread() as thread:
        watch.add_within("adding", lambda: watch.center.add_observer(watch, loop=thread.loop))
        watch.center.post("a")
        assert watch.told.wait(1)
    assert watch.seen == ["adding"]


def test_by_an_executor() -> None:
    watch = Watch()
    with ThreadPoolExecutor(1) as executor:
        watch.add_within("adding", lambda: watch.center.add_observer(watch, executor=executor))
        watch.center.post("a")
        assert watch.told.wait(1)
    assert watch.seen == ["adding"]


@pytest.mark.own_thread
@pytest.mark.parametrize("style", list(PostingStyle))
def test_through_a_queue(style: PostingStyle) -> None:
    watch = Watch()
    watch.add_within("adding", lambda: watch.center.add_observer(watch))
    Context().run(NotificationQueue(watch.center).enqueue, "a", style)
    RunLoop.current().run(5.0)
    assert watch.seen == ["adding"]


def test_removal_by_the_function() -> None:
    watch = Watch()
    watch.add_within("adding", lambda: watch.center.add_observer(watch))
    assert watch.center.remove_observer(watch) == 1
