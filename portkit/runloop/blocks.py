"""Performed calls ("blocks", R24-R27), first in first out across modes and nesting.

Putting takes no lock, so that signal handlers and finalizers may do it. The loop's thread sorts
what was put into one queue per mode name; a block for several modes stands in several queues and
is claimed by whoever runs it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeAlias

from portkit._context import original
from portkit._report import report
from portkit._wakeup import Waiter
from portkit.errors import LoopEndedError, ReceiveTimeoutError
from portkit.runloop.constants import COMMON_MODES
from portkit.runloop.mode import Mode


def _nothing() -> None:
    """What a block calls that is done with."""


class Block:
    """A call that nobody waits for.

    Args:
        fn: what to call.
        args: its arguments.
        modes: names of the modes in which it may run.
    """

    __slots__ = ("_unclaimed", "args", "fn", "modes")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], modes: tuple[str, ...]
    ) -> None:
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.modes: tuple[str, ...] = modes
        self._unclaimed = [None]

    @property
    def claimed(self) -> bool:
        """Whether somebody runs, ran or withdrew it."""
        return not self._unclaimed

    def claim(self) -> bool:
        """Take the one right to run or withdraw it; False if it is taken."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Let go of the call, which was made or withdrawn."""
        self.fn, self.args = _nothing, ()

    def run(self) -> None:
        """Make the call. An Exception is reported; a BaseException comes out."""
        try:
            self.fn(*self.args)
        except Exception as error:
            report("a performed call raised", error, original(self.fn))

    def abandon(self, error: LoopEndedError) -> None:
        """The loop ended before the call was made."""
        source = original(self.fn)
        report("a call was never performed, because its run loop ended", error, source)


class WaitedBlock(Block):
    """A call whose result another thread waits for.

    Attributes:
        done: whether ``result`` or ``exception`` is set.
    """

    __slots__ = ("_waiter", "done", "exception", "result")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        modes: tuple[str, ...],
        waiter: Waiter,
    ) -> None:
        super().__init__(fn, args, modes)
        self._waiter = waiter
        self.done: bool = False
        self.result: Any = None
        self.exception: BaseException | None = None

    def run(self) -> None:
        """Make the call and hand over what it returned or raised."""
        try:
            self.result = self.fn(*self.args)
        except Exception as error:
            self.exception = error
        except BaseException as error:
            self.exception = error
            raise
        finally:
            self._finish()

    def abandon(self, error: LoopEndedError) -> None:
        """Raise the error where the call is waited for."""
        self.exception = error
        self._finish()

    def wait(self, timeout: float | None) -> Any:
        """The result, waited for on the thread that made this.

        Raises:
            ReceiveTimeoutError: there is none within ``timeout`` seconds; a call that had not begun
                is withdrawn.
            BaseException: what the call raised.
        """
        waiter = self._waiter
        waiter.check_awake()
        deadline = None if timeout is None else monotonic() + timeout
        try:
            while True:
                waiter.armed = self
                if self.done:
                    break
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise ReceiveTimeoutError(
                        f"the call was not begun within {timeout} s and is withdrawn"
                        if self.claim()
                        else f"the call began but did not end within {timeout} s; it goes on"
                    )
                waiter.sleep(remaining)
        finally:
            waiter.armed = None
            if self.claim():
                self.release()
        if self.exception is not None:
            raise self.exception
        return self.result

    def _finish(self) -> None:
        self.done = True
        self._waiter.ring()


class FutureBlock(Block):
    """A call whose result goes into a future."""

    __slots__ = ("_future",)

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        modes: tuple[str, ...],
        future: Future[Any],
    ) -> None:
        super().__init__(fn, args, modes)
        self._future = future

    def run(self) -> None:
        """Make the call, unless the future was cancelled."""
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args)
        except Exception as error:
            self._future.set_exception(error)
        except BaseException as error:
            self._future.set_exception(error)
            raise
        else:
            self._future.set_result(result)

    def abandon(self, error: LoopEndedError) -> None:
        """Fail the future."""
        if self._future.set_running_or_notify_cancel():
            self._future.set_exception(error)


_Queued: TypeAlias = "tuple[int, Block]"

_SWEEP_EVERY = 1024
"""Blocks after which the queues are looked through; more would hold memory longer."""


class BlockQueue:
    """The blocks of one loop. Only :meth:`put` may be called by other threads.

    Attributes:
        inbox: what was put and not yet sorted.
        queues: what was sorted, by mode name. If both are empty there is nothing to run.
        urgent: those of them to be run as soon as the present callback has returned; put there by
            the loop's thread.
    """

    __slots__ = ("_ran_urgent", "_sequence", "_sweep_at", "inbox", "queues", "urgent")

    def __init__(self) -> None:
        self.inbox: deque[Block] = deque()
        self.queues: dict[str, deque[_Queued]] = {}
        self.urgent: deque[Block] = deque()
        self._ran_urgent = False
        self._sequence = 0
        self._sweep_at = _SWEEP_EVERY

    def put(self, block: Block) -> None:
        """Queue a block. Takes no lock."""
        self.inbox.append(block)

    def has_any(self, mode: Mode) -> bool:
        """Whether a block waits for this mode, counting common ones if the mode is (R2)."""
        if self.inbox:
            self._sort()
        return self._head(mode) is not None

    def run(self, mode: Mode) -> bool:
        """Run the blocks that wait for ``mode`` now, oldest first; whether there were any.

        Blocks put meanwhile wait for the next drain (R25). A nested run continues this drain, so
        that the order is the same with nesting as without it (R26).
        """
        if self.inbox:
            self._sort()
        last = self._sequence
        ran, self._ran_urgent = self._ran_urgent, False
        while (queue := self._head(mode)) is not None and queue[0][0] <= last:
            block = queue.popleft()[1]
            if block.claim():
                ran = True
                try:
                    block.run()
                finally:
                    # Its entries for other modes stay behind; they hold nothing any more (R27).
                    block.release()
                if self.urgent:
                    self.run_urgent(mode)
        return ran

    def run_urgent(self, mode: Mode) -> None:
        """Run the urgent blocks that may run in ``mode``; the others wait for a drain in theirs.

        What is put meanwhile waits for the end of the next callback, or for the next drain.
        """
        for _ in range(len(self.urgent)):
            if not self.urgent:
                return  # a nested run did the rest
            block = self.urgent.popleft()
            fits = mode.name in block.modes or (mode.is_common and COMMON_MODES in block.modes)
            if fits and block.claim():
                self._ran_urgent = True
                try:
                    block.run()
                finally:
                    block.release()

    def take_all(self) -> list[Block]:
        """Every unclaimed block, claimed now, oldest first."""
        self._sort()
        waiting = sorted(
            {entry for queue in self.queues.values() for entry in queue},
            key=lambda entry: entry[0],
        )
        self.queues.clear()
        return [block for _, block in waiting if block.claim()]

    def __len__(self) -> int:
        self._sort()
        return len({block for queue in self.queues.values() for _, block in queue})

    def _sort(self) -> None:
        while self.inbox:
            block = self.inbox.popleft()
            self._sequence += 1
            for name in block.modes:
                self.queues.setdefault(name, deque()).append((self._sequence, block))
            if self._sequence == self._sweep_at:
                self._sweep()

    def _sweep(self) -> None:
        """Drop entries of blocks that ran elsewhere: where no run comes they would pile up."""
        for name, queue in list(self.queues.items()):
            self.queues[name] = deque([entry for entry in queue if not entry[1].claimed])
            self._live(name)
        # Not before as many came as are left, so that a block is looked at a few times in all.
        left = sum([len(queue) for queue in self.queues.values()])
        self._sweep_at = self._sequence + max(_SWEEP_EVERY, left)

    def _head(self, mode: Mode) -> deque[_Queued] | None:
        """The queue with the oldest unclaimed block for ``mode`` at its head."""
        own = self._live(mode.name)
        common = self._live(COMMON_MODES) if mode.is_common else None
        if own is None or common is None:
            return own if common is None else common
        return own if own[0][0] <= common[0][0] else common

    def _live(self, name: str) -> deque[_Queued] | None:
        queue = self.queues.get(name)
        if queue is None:
            return None
        while queue and queue[0][1].claimed:
            queue.popleft()
        if not queue:
            del self.queues[name]
            return None
        return queue
