"""Many threads at once, signal handlers, finalizers, and a fork."""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Thread

import pytest

from portkit import Notification, NotificationCenter, NotificationQueue, PostingStyle, RunLoop
from portkit.notifications import Observation, loop_delivery
from tests.notifications.helpers import Observer, Sender
from tests.ports.helpers import Background, handling, in_child
from tests.support import PATIENCE, LoopThread, keep_alive

POSTERS = 4
EACH = 2500


@pytest.fixture
def center() -> NotificationCenter:
    return NotificationCenter()


def post_numbers(center: NotificationCenter, poster: int, start: Barrier) -> None:
    start.wait(PATIENCE)
    for number in range(EACH):
        center.post("number", user_info={"poster": poster, "number": number})


def check_numbers(observer: Observer) -> None:
    """None is lost, none came twice, and those of each poster came in order."""
    assert len(observer.notifications) == POSTERS * EACH
    for poster in range(POSTERS):
        own = [
            n.user_info for n in observer.notifications if (n.user_info or {})["poster"] == poster
        ]
        assert [(info or {})["number"] for info in own] == list(range(EACH))


def test_10000_from_four_threads_to_one(center: NotificationCenter) -> None:
    observer = Observer()
    start = Barrier(POSTERS)
    with LoopThread() as thread:
        observation = center.add_observer(observer, "number", loop=thread.loop)
        posters = [
            Background(partial(post_numbers, center, poster, start)) for poster in range(POSTERS)
        ]
        for poster in posters:
            poster.result()
        assert observer.wait(POSTERS * EACH)
        assert observer.threads == {thread.thread.ident}
    check_numbers(observer)
    assert observation.lost == 0


def test_10000_from_four_threads_to_an_executor(center: NotificationCenter) -> None:
    observer = Observer()
    start = Barrier(POSTERS)
    with ThreadPoolExecutor(3) as executor:
        center.add_observer(observer, "number", executor=executor)
        posters = [
            Background(partial(post_numbers, center, poster, start)) for poster in range(POSTERS)
        ]
        for poster in posters:
            poster.result()
        assert observer.wait(POSTERS * EACH)
    check_numbers(observer)


def test_10000_from_four_run_loops_to_one(center: NotificationCenter) -> None:
    """Each posts from a callback of its own loop, and observes what another posts."""
    observer = Observer()
    start = Barrier(POSTERS)
    with LoopThread() as thread:
        loops = [LoopThread() for _ in range(POSTERS)]
        for loop in loops:
            loop.__enter__()
        others = [Observer() for _ in loops]
        for loop, other in zip(loops, others, strict=True):
            center.add_observer(other, "number", loop=loop.loop)
        center.add_observer(observer, "number", loop=thread.loop)
        for poster, loop in enumerate(loops):
            loop.loop.perform(post_numbers, center, poster, start)
        for told in [observer, *others]:
            assert told.wait(POSTERS * EACH)
        for loop in loops:
            loop.__exit__(None, None, None)
    for told in [observer, *others]:
        check_numbers(told)


class Churner:
    """Adds observers, removes them again, and posts, all by chance.

    Attributes:
        posted: the numbers that it has posted under the name "steady".
        posted_by_first: those that it has posted for the first sender.
    """

    def __init__(
        self,
        center: NotificationCenter,
        seed: int,
        senders: list[Sender],
        loop: RunLoop,
        executor: ThreadPoolExecutor,
    ) -> None:
        self.posted: list[int] = []
        self.posted_by_first: list[int] = []
        self._center = center
        self._seed = seed
        self._random = random.Random(seed)
        self._senders = senders
        self._loop = loop
        self._executor = executor
        self._added: list[Observation] = []

    def churn(self) -> None:
        """Do so for a while; remove in the end what is left."""
        for number in range(600):
            if self._random.random() < 0.5:
                self._added.append(self._add())
            if self._added and self._random.random() < 0.5:
                self._added.pop(self._random.randrange(len(self._added))).remove()
            self._post(number)
        for observation in self._added:
            observation.remove()

    def _add(self) -> Observation:
        add, kind = self._center.add_observer, self._random.randrange(4)
        if kind == 0:
            return add(Observer(), "steady", self._random.choice(self._senders))
        if kind == 1:
            return add(Observer(), loop=self._loop)
        if kind == 2:
            return add(Observer(), "other", executor=self._executor)
        return add(Observer().method, "other", weak=True)  # gone at once

    def _post(self, number: int) -> None:
        name = self._random.choice(["steady", "other"])
        sender = self._random.choice([None, *self._senders])
        self._center.post(name, sender, {"seed": self._seed, "number": number})
        if name == "steady":
            self.posted.append(number)
        if sender is self._senders[0]:
            self.posted_by_first.append(number)


def test_a_storm_of_adding_removing_and_posting(center: NotificationCenter) -> None:
    """Whoever observes throughout is told of everything; in the end nobody else is left."""
    senders = [Sender() for _ in range(3)]
    steady, of_first = Observer(), Observer()
    center.add_observer(steady, "steady")
    center.add_observer(of_first, None, senders[0])
    with LoopThread() as thread, ThreadPoolExecutor(2) as executor:
        churners = [
            Churner(center, seed, senders, thread.loop, executor) for seed in range(POSTERS)
        ]
        for background in [Background(churner.churn) for churner in churners]:
            background.result()
    for seed, churner in enumerate(churners):
        for observer, posted in (
            (steady, churner.posted),
            (of_first, churner.posted_by_first),
        ):
            infos = [notification.user_info or {} for notification in observer.notifications]
            assert [info["number"] for info in infos if info["seed"] == seed] == posted
    gc.collect()
    assert "of 2 observers" in repr(center)


def test_a_finalizer_posts_and_removes(center: NotificationCenter) -> None:
    """A garbage collection may begin anywhere, also while this thread holds the center's lock."""
    observer = Observer()

    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.observation = center.add_observer(print, "unused")

        def __del__(self) -> None:
            self.observation.remove()
            center.post("collected")

    with LoopThread() as thread:
        center.add_observer(observer, "collected", loop=thread.loop)
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(300):
                Cycle()
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert observer.wait(300)
    center.post("unused")
    assert "of 1 observers" in repr(center) or "of 0 observers" in repr(center)


def test_the_lock_is_held_when_a_finalizer_removes(center: NotificationCenter) -> None:
    observer = Observer()
    observation = center.add_observer(observer, "a")
    with center._lock:
        observation.remove()
        center.post("a")
    center.post("a")
    assert observer.names == []
    assert "of 0 observers" in repr(center)


@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_handler_posts(center: NotificationCenter, busy: bool) -> None:
    """To a loop: whatever it interrupts, if only another post to it."""
    observer = Observer()
    with LoopThread() as thread:
        center.add_observer(observer, loop=thread.loop)
        posted = 0
        with handling(signal.SIGUSR1, lambda: center.post("signal")):
            for _ in range(200):
                os.kill(os.getpid(), signal.SIGUSR1)
                if busy:
                    center.post("other")
                posted += 1 + busy
        assert observer.wait(posted)
    assert observer.names.count("signal") == 200


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_observers_of_the_center_stay(self, center: NotificationCenter) -> None:
        """Those in the poster's call; the parent's loops and executors are not the child's."""
        direct, looped, executed = Observer(), Observer(), Observer()
        with LoopThread() as thread, ThreadPoolExecutor(1) as executor:
            center.add_observer(direct)
            others = [
                center.add_observer(looped, loop=thread.loop),
                center.add_observer(executed, executor=executor),
            ]

            def use() -> object:
                center.post("a")
                center.post("b")
                added = Observer()
                center.add_observer(added, "c")
                center.post("c")
                return direct.names, [other.is_valid for other in others], added.names

            assert in_child(use) == str((["a", "b", "c"], [False, False], ["c"]))
            center.post("d")
            assert looped.wait(1)
            assert executed.wait(1)
        assert direct.names == ["d"]

    def test_while_a_lock_is_held(self, center: NotificationCenter) -> None:
        """By a thread that is not in the child, where nobody would let go of it."""

        def use() -> object:
            observer = Observer()
            center.add_observer(observer, "a")
            observation = center.add_observer(observer, "b", loop=RunLoop.current())
            center.post("a")
            observation.remove()
            return observer.names, repr(center).partition(" of ")[2]

        with center._lock, loop_delivery._lock:
            assert in_child(use) == str((["a"], "1 observers>"))
        assert "of 0 observers" in repr(center)

    @pytest.mark.own_thread
    def test_the_queue_is_the_parents(self) -> None:
        queue = NotificationQueue.default()
        queue.enqueue("a", PostingStyle.AS_SOON_AS_POSSIBLE)

        def use() -> object:
            assert NotificationQueue.default() is not queue
            assert len(NotificationQueue.default()) == 0
            return queue.enqueue("b", PostingStyle.NOW)

        assert in_child(use).startswith("LoopEndedError")
        assert queue.dequeue("a") == 1


def test_an_observer_may_add_and_remove_on_other_threads(center: NotificationCenter) -> None:
    """No lock is held while observers are called."""
    calls: list[Callable[[], object]] = [
        lambda: center.add_observer(print, "b").remove(),
        lambda: center.post("b"),
        lambda: center.remove_observer(print),
    ]

    def observe(notification: Notification) -> None:
        for call in calls:
            thread = Thread(target=call)
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    observation = center.add_observer(observe, "a")
    center.post("a")
    observation.remove()


@pytest.mark.own_thread
def test_a_loop_that_sleeps_is_woken(center: NotificationCenter) -> None:
    loop = RunLoop.current()
    source = keep_alive(loop)
    observer = Observer()
    center.add_observer(lambda _: source.invalidate(), "a", loop=loop)
    center.add_observer(observer, "a", loop=loop)
    poster = Thread(target=center.post, args=("a",))
    loop.perform(poster.start)
    loop.run(PATIENCE)
    poster.join()
    assert observer.names == ["a"]


def test_in_order_per_poster_among_the_observers_of_a_loop(center: NotificationCenter) -> None:
    told: list[tuple[int, int]] = []

    def observe(notification: Notification) -> None:
        info = notification.user_info or {}
        told.append((info["poster"], info["number"]))

    def post(poster: int) -> None:
        for number in range(1000):
            center.post("ab"[number % 2], user_info={"poster": poster, "number": number})

    with LoopThread() as thread:
        for name in "ab":
            center.add_observer(observe, name, loop=thread.loop)
        for background in [Background(partial(post, poster)) for poster in range(POSTERS)]:
            background.result()
        thread.call(lambda: None)  # after all that was posted before
    for poster in range(POSTERS):
        assert [number for who, number in told if who == poster] == list(range(1000))
