"""Observers that an executor calls: one notification at a time, in order."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Lock, get_ident
from typing import Any

import pytest

from portkit import Notification, NotificationCenter
from tests.notifications.helpers import Observer
from tests.support import PATIENCE, LoopThread, Reports, eventually


@pytest.fixture
def center() -> NotificationCenter:
    return NotificationCenter()


def test_on_its_threads_in_order(center: NotificationCenter) -> None:
    observer = Observer()
    with ThreadPoolExecutor(4) as executor:
        center.add_observer(observer, executor=executor)
        for number in range(1000):
            center.post("a", user_info={"number": number})
        assert observer.wait(1000)
    assert observer.infos("number") == list(range(1000))
    assert get_ident() not in observer.threads


def test_one_at_a_time(center: NotificationCenter) -> None:
    busy = Lock()
    overlaps: list[bool] = []

    def observe(notification: Notification) -> None:
        overlaps.append(not busy.acquire(blocking=False))
        time.sleep(0)  # lets another thread in, if there were one
        busy.release()

    with ThreadPoolExecutor(8) as executor:
        center.add_observer(observe, executor=executor)
        for _ in range(500):
            center.post("a")
        assert eventually(lambda: len(overlaps) == 500)
    assert not any(overlaps)


def test_observers_are_called_at_once_with_each_other(center: NotificationCenter) -> None:
    met = Event()
    with ThreadPoolExecutor(2) as executor:
        center.add_observer(lambda _: met.wait(PATIENCE), executor=executor)
        center.add_observer(lambda _: met.set(), executor=executor)
        center.post("a")
    assert met.is_set()


def test_a_busy_observer_lets_others_have_their_turn(center: NotificationCenter) -> None:
    told: list[str] = []
    go = Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go.wait, PATIENCE)
        center.add_observer(lambda _: told.append("a"), "a", executor=executor)
        for _ in range(300):
            center.post("a")
        other = executor.submit(told.append, "other")
        go.set()
        other.result(PATIENCE)
    assert told.count("a") == 300
    assert told.index("other") < 100


def test_what_it_raises_is_reported(center: NotificationCenter, reports: Reports) -> None:
    def observe(notification: Notification) -> None:
        raise KeyError if notification.name == "a" else SystemExit

    with ThreadPoolExecutor(1) as executor:
        observation = center.add_observer(observe, executor=executor)
        for name in "aba":
            center.post(name)
        assert eventually(lambda: len(reports.records) == 3)
        assert observation.is_valid
    assert [type(error) for error in reports.take()] == [KeyError, SystemExit, KeyError]


def test_removal(center: NotificationCenter) -> None:
    go, done = Event(), Event()
    observer = Observer()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go.wait, PATIENCE)
        observation = center.add_observer(observer, executor=executor)
        for _ in range(3):
            center.post("a")
        assert observation.pending == 3
        observation.remove()
        assert observation.pending == 0
        executor.submit(done.set)
        go.set()
        assert done.wait(PATIENCE)
    assert observer.names == []


def test_too_many(center: NotificationCenter, reports: Reports) -> None:
    go = Event()
    observer = Observer()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(go.wait, PATIENCE)
        observation = center.add_observer(observer, executor=executor, limit=3)
        for number in range(5):
            center.post("a", user_info={"number": number})
        go.set()
        assert observer.wait(3)
        assert eventually(lambda: len(reports.records) == 2)
        center.post("a", user_info={"number": 5})
        assert observer.wait(4)
    assert observer.infos("number") == [0, 1, 2, 5]
    assert observation.lost == 2
    reports.take()


class TestTheEndOfTheExecutor:
    def test_what_was_posted_before_is_delivered(self, center: NotificationCenter) -> None:
        observer = Observer()
        with ThreadPoolExecutor(2) as executor:
            center.add_observer(observer, executor=executor)
            for number in range(1000):
                center.post("a", user_info={"number": number})
        assert observer.infos("number") == list(range(1000))

    def test_what_is_posted_after_it(self, center: NotificationCenter, reports: Reports) -> None:
        with ThreadPoolExecutor(1) as executor:
            observation = center.add_observer(Observer(), executor=executor)
        center.post("a")
        assert not observation.is_valid
        (error,) = reports.take()
        assert isinstance(error, RuntimeError)
        center.post("a")

    def test_what_it_cancels(self, center: NotificationCenter, reports: Reports) -> None:
        go = Event()
        executor = ThreadPoolExecutor(1)
        executor.submit(go.wait, PATIENCE)
        observation = center.add_observer(Observer(), executor=executor)
        for _ in range(3):
            center.post("a")
        executor.shutdown(wait=False, cancel_futures=True)
        go.set()
        executor.shutdown()
        assert not observation.is_valid
        (record,) = reports.records
        assert "3 notifications were never delivered" in record.getMessage()
        reports.take()

    def test_one_that_fails(self, center: NotificationCenter, reports: Reports) -> None:
        class Failing(Executor):
            def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                future: Future[Any] = Future()
                future.set_exception(OSError("no more threads"))
                return future

        observation = center.add_observer(Observer(), executor=Failing())
        center.post("a")
        assert not observation.is_valid
        (error,) = reports.take()
        assert isinstance(error, OSError)

    def test_one_of_processes(self, center: NotificationCenter, reports: Reports) -> None:
        executor = ProcessPoolExecutor(1)  # starts no process before there is something to do
        with pytest.raises(TypeError, match="other processes"):
            center.add_observer(Observer(), executor=executor)


def test_a_queue_for_a_thread_that_has_neither(center: NotificationCenter) -> None:
    waiting: SimpleQueue[Notification] = SimpleQueue()
    center.add_observer(waiting.put)
    for name in "abc":
        center.post(name)
    assert [waiting.get(timeout=PATIENCE).name for _ in range(3)] == list("abc")


def test_a_run_loops_executor(center: NotificationCenter) -> None:
    observer = Observer()
    with LoopThread() as thread:
        center.add_observer(observer, executor=thread.loop.executor())
        for number in range(500):
            center.post("a", user_info={"number": number})
        assert observer.wait(500)
    assert observer.infos("number") == list(range(500))
