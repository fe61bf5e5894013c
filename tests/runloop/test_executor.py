"""A run loop as an executor."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import CancelledError, Executor, Future, as_completed, wait
from threading import Event, Thread, get_ident

import pytest

from portkit import LoopEndedError, RunLoop, RunResult, WrongThreadError
from tests.support import PATIENCE, LoopThread, eventually, run_on_thread

pytestmark = pytest.mark.own_thread


def test_it_is_an_executor_and_makes_calls_on_the_loop() -> None:
    with LoopThread() as other:
        executor = other.loop.executor()
        assert isinstance(executor, Executor)
        assert executor.submit(get_ident).result(PATIENCE) == other.loop.ident
        assert executor.submit(dict, [("a", 1)], b=2).result(PATIENCE) == {"a": 1, "b": 2}
        assert list(executor.map(abs, [-1, 2, -3], timeout=PATIENCE)) == [1, 2, 3]


def test_exceptions_come_back_and_are_not_reported() -> None:
    with LoopThread() as other:
        future = other.loop.executor().submit(lambda: 1 / 0)
        assert isinstance(future.exception(PATIENCE), ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            future.result(PATIENCE)


def test_in_the_order_of_submission_among_performed_calls() -> None:
    loop = RunLoop.current()
    ran: list[int] = []
    executors = [loop.executor(), loop.executor()]
    for n in range(20):
        if n % 3 == 2:
            loop.perform(ran.append, n)
        else:
            executors[n % 3].submit(ran.append, n)
    assert loop.run() is RunResult.FINISHED
    assert ran == list(range(20))


class TestWaitingOnTheLoopsOwnThread:
    """It raises instead of hanging."""

    @pytest.mark.parametrize("timeout", [None, 0, 5.0])
    def test_result_and_exception(self, timeout: float | None) -> None:
        loop = RunLoop.current()
        future = loop.executor().submit(int)
        for ask in (future.result, future.exception):
            with pytest.raises(WrongThreadError, match="never end"):
                ask(timeout)
        loop.run()
        assert future.result(timeout) == 0
        assert future.exception(timeout) is None

    def test_inside_a_call(self) -> None:
        with LoopThread() as other:
            executor = other.loop.executor()

            def wait_for_another() -> None:
                executor.submit(int).result()

            with pytest.raises(WrongThreadError):
                executor.submit(wait_for_another).result(PATIENCE)

    def test_shutdown(self) -> None:
        loop = RunLoop.current()
        executor = loop.executor()
        future = executor.submit(int)
        with pytest.raises(WrongThreadError):
            executor.shutdown()
        executor.shutdown(wait=False)
        loop.run()
        assert future.result() == 0
        executor.shutdown()

    def test_a_future_of_another_loop_may_be_waited_for(self) -> None:
        with LoopThread() as one, LoopThread() as other:
            future = one.call(other.loop.executor().submit, get_ident)
            assert one.call(future.result, PATIENCE) == other.loop.ident


class TestCancelling:
    def test_a_cancelled_call_is_not_made(self) -> None:
        loop = RunLoop.current()
        ran: list[int] = []
        executor = loop.executor()
        first, second = (executor.submit(ran.append, n) for n in (1, 2))
        assert first.cancel()
        loop.run()
        assert ran == [2]
        assert first.cancelled()
        with pytest.raises(CancelledError):
            first.result()
        assert not second.cancel()

    def test_a_call_that_runs_cannot_be_cancelled(self) -> None:
        with LoopThread() as other:
            begun, go = Event(), Event()

            def call() -> None:
                begun.set()
                assert go.wait(PATIENCE)

            future = other.loop.executor().submit(call)
            assert begun.wait(PATIENCE)
            assert future.running()
            assert not future.cancel()
            go.set()
            future.result(PATIENCE)

    def test_callbacks_run_on_the_loops_thread(self) -> None:
        with LoopThread() as other:
            called: Future[int] = Future()
            other.loop.executor().submit(int).add_done_callback(
                lambda future: called.set_result(get_ident())
            )
            ident = called.result(PATIENCE)
            assert ident in (other.loop.ident, get_ident())  # here, if it was done already

    def test_wait_and_as_completed(self) -> None:
        with LoopThread() as other:
            executor = other.loop.executor()
            futures = [executor.submit(int, n) for n in range(10)]
            assert sorted(f.result() for f in as_completed(futures, PATIENCE)) == list(range(10))
            futures = [executor.submit(int, n) for n in range(10)]
            assert wait(futures, PATIENCE).not_done == set()


class TestShutdown:
    def test_it_takes_no_more_calls_and_the_loop_goes_on(self) -> None:
        with LoopThread() as other:
            with other.loop.executor() as executor:
                future = executor.submit(int)
            assert future.done()
            with pytest.raises(RuntimeError, match="shut down"):
                executor.submit(int)
            executor.shutdown()
            assert other.loop.executor().submit(int).result(PATIENCE) == 0

    def test_it_waits_for_the_calls_of_this_executor(self) -> None:
        with LoopThread() as other:
            go = Event()
            executor = other.loop.executor()
            futures = [executor.submit(go.wait, PATIENCE) for _ in range(3)]
            executor.shutdown(wait=False)
            assert not any(future.done() for future in futures)
            Thread(target=go.set).start()
            executor.shutdown(wait=True)
            assert all(future.done() for future in futures)

    def test_cancel_futures(self) -> None:
        with LoopThread() as other:
            begun, go = Event(), Event()

            def call() -> None:
                begun.set()
                assert go.wait(PATIENCE)

            executor = other.loop.executor()
            first, *rest = [executor.submit(call) for _ in range(4)]
            assert begun.wait(PATIENCE)
            executor.shutdown(wait=False, cancel_futures=True)
            go.set()
            executor.shutdown()
            assert first.result() is None
            assert all(future.cancelled() for future in rest)

    def test_a_call_cancelled_while_it_waits(self) -> None:
        """A cancelled call is done: that is no error of the shutdown's."""
        with LoopThread() as other:
            go = Event()
            executor = other.loop.executor()
            blocking = other.loop.executor().submit(go.wait, PATIENCE)
            waiting = executor.submit(int)
            outcome: list[BaseException | None] = []

            def shut_down() -> None:
                try:
                    executor.shutdown()
                    outcome.append(None)
                except BaseException as error:
                    outcome.append(error)

            thread = Thread(target=shut_down)
            thread.start()

            def waits() -> bool:
                frame = sys._current_frames().get(thread.ident or 0)
                return frame is not None and frame.f_code.co_name == "wait"

            assert eventually(waits)
            assert waiting.cancel()
            thread.join(PATIENCE)
            assert outcome == [None]
            go.set()
            blocking.result(PATIENCE)


class TestTheEndOfTheThread:
    def test_calls_not_made_fail(self) -> None:
        def body() -> tuple[Future[int], Future[int]]:
            executor = RunLoop.current().executor()
            cancelled = executor.submit(int)
            cancelled.cancel()
            return executor.submit(int), cancelled

        future, cancelled = run_on_thread(body)
        assert isinstance(future.exception(0), LoopEndedError)
        assert cancelled.cancelled()

    def test_a_thread_that_waits_is_told(self) -> None:
        submitted: Future[Future[int]] = Future()
        go = Event()

        def body() -> None:
            submitted.set_result(RunLoop.current().executor().submit(int))
            assert go.wait(PATIENCE)

        thread = Thread(target=body)
        thread.start()
        future = submitted.result(PATIENCE)
        waiter = threading.Timer(0, go.set)
        waiter.start()
        with pytest.raises(LoopEndedError):
            future.result(PATIENCE)
        thread.join()
        waiter.join()

    def test_an_ended_loop_takes_no_calls(self) -> None:
        executor = run_on_thread(lambda: RunLoop.current().executor())
        with pytest.raises(LoopEndedError):
            executor.submit(int)
        executor.shutdown()
