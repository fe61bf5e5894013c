"""A run loop as a ``concurrent.futures`` executor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from portkit._context import bound
from portkit.errors import WrongThreadError
from portkit.runloop.blocks import FutureBlock
from portkit.runloop.constants import COMMON_MODES

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop

P = ParamSpec("P")
T = TypeVar("T")


class LoopFuture(Future[T]):
    """A future of a call on a run loop, which that loop's own thread must not block on."""

    def __init__(self, loop: RunLoop) -> None:
        super().__init__()
        self._loop = loop

    def result(self, timeout: float | None = None) -> T:
        """As ``Future.result``; on the loop's own thread an unfinished one raises at once.

        Raises:
            WrongThreadError: waiting here would keep the loop from making the call.
        """
        self._check_thread()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As ``Future.exception``; on the loop's own thread an unfinished one raises at once.

        Raises:
            WrongThreadError: waiting here would keep the loop from making the call.
        """
        self._check_thread()
        return super().exception(timeout)

    def _check_thread(self) -> None:
        if not self.done() and get_ident() == self._loop.ident:
            raise WrongThreadError(
                "waiting here for a call on this thread's own run loop would never end: use "
                "add_done_callback(), or wait on another thread"
            )


class LoopExecutor(Executor):
    """Makes calls on a run loop's thread, in its common modes. See ``RunLoop.executor``."""

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self._futures: dict[Future[Any], None] = {}
        self._shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have the loop call ``fn(*args, **kwargs)``.

        Raises:
            LoopEndedError: the loop's thread has ended.
            RuntimeError: the executor was shut down.
        """
        if self._shut_down:
            raise RuntimeError("this executor was shut down: get a new one from the run loop")
        future: LoopFuture[T] = LoopFuture(self._loop)
        call = (lambda: fn(*args, **kwargs)) if kwargs else fn
        block = FutureBlock(bound(call), () if kwargs else args, (COMMON_MODES,), future)
        self._futures[future] = None
        future.add_done_callback(lambda done: self._futures.pop(done, None))
        try:
            self._loop._put(block, wake=True)
        except BaseException:
            self._futures.pop(future, None)
            raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. The loop itself goes on.

        Args:
            wait: block until the calls submitted here are done; not on the loop's own thread.
            cancel_futures: cancel those that have not begun.

        Raises:
            WrongThreadError: it would wait on the loop's own thread.
        """
        self._shut_down = True
        waiting = list(self._futures)
        for future in waiting:
            if cancel_futures:
                future.cancel()
        if wait:
            for future in waiting:
                try:
                    future.exception()
                except CancelledError:
                    pass
