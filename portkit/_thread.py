"""What portkit keeps for each thread, and the moment that thread ends.

A :class:`ThreadState` is made at a thread's first use of portkit. It ends with the thread: for
threads portkit starts, by :func:`end_current` in a ``finally``; for all others, when Python drops
their ``threading.local`` values, which runs the sentinel's finalizer on the thread that ends.
"""

from __future__ import annotations

import threading
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from portkit import _fork
from portkit._wakeup import Waiter

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop


class Slot(Protocol):
    """A per-thread value's key, asked to destroy the value when the thread ends."""

    def destroy(self, value: object) -> None:
        """Run the destructor for ``value``; never raises."""


class ThreadState:
    """One thread's waiter, run loop and thread-bound values.

    Attributes:
        ident: ``threading.get_ident()`` of the thread.
        waiter: what the thread sleeps on.
        loop: its run loop, once asked for.
        values: thread-bound values by :class:`Slot`.
        ended: True as soon as the end began.
    """

    __slots__ = ("ended", "generation", "ident", "loop", "values", "waiter")

    DESTRUCTOR_ROUNDS = 4
    """As PTHREAD_DESTRUCTOR_ITERATIONS: destructors may set values, which are destroyed too."""

    def __init__(self, ident: int) -> None:
        self.ident: int = ident
        self.generation: int = _fork.generation
        self.waiter: Waiter = Waiter()
        self.loop: RunLoop | None = None
        self.values: dict[Slot, object] = {}
        self.ended: bool = False

    def end(self) -> None:
        """End the loop, then destroy the values, then close (R57). Once; nothing in a fork.

        Where another thread finalizes this one's values (interpreter exit), it only closes.
        """
        if self.ended or self.generation != _fork.generation:
            return
        self.ended = True
        own_thread = get_ident() == self.ident
        if own_thread:  # else it may be frozen with a lock in hand that this would wait for
            self.waiter.flush()
        _ending[self.ident] = self
        try:
            if self.loop is not None:
                self.loop._end(callouts=own_thread)
            if own_thread:
                self._destroy_values()
        finally:
            del _ending[self.ident]
            _states.discard(self)
            self.waiter.close()

    def _destroy_values(self) -> None:
        for _ in range(self.DESTRUCTOR_ROUNDS):
            if not self.values:
                return
            values, self.values = self.values, {}
            for slot, value in values.items():
                slot.destroy(value)


class _Sentinel:
    """Lives in the thread's ``threading.local``; its end is the thread's end."""

    __slots__ = ("_state",)

    def __init__(self, state: ThreadState) -> None:
        self._state = state

    def __del__(self) -> None:
        self._state.end()


class _Local(threading.local):
    state: ThreadState
    sentinel: _Sentinel | None


_local = _Local()
_states: set[ThreadState] = set()
"""Those that have not ended."""
_ending: dict[int, ThreadState] = {}
"""States whose end is running, by thread: at that moment ``_local`` is already empty."""

_main_lock = threading.Lock()
_main: ThreadState | None = None


def current() -> ThreadState:
    """The calling thread's state, made at first use."""
    try:
        return _local.state
    except AttributeError:
        return _make_current()


def present_waiter() -> Waiter | None:
    """The calling thread's waiter if it has one. For finalizers: makes nothing."""
    state = getattr(_local, "state", None)
    return None if state is None else state.waiter


def main() -> ThreadState:
    """The main thread's state, which any thread may be the first to ask for."""
    global _main
    with _main_lock:
        if _main is None:
            ident = threading.main_thread().ident
            assert ident is not None, "the main thread runs"
            _main = ThreadState(ident)
            _states.add(_main)
        return _main


def states() -> tuple[ThreadState, ...]:
    """Those of all threads that use portkit now."""
    return tuple(_states.copy())  # at once, without a lock: others come and go meanwhile


def end_current() -> None:
    """End the calling thread's state now: for the last ``finally`` of a thread of portkit's."""
    current().end()


def thread_name(ident: int) -> str:
    """A thread's name for messages, found without registering a foreign thread with Python."""
    thread = find(ident)
    return f"with ident {ident}" if thread is None else f"{thread.name!r}"


def find(ident: int) -> threading.Thread | None:
    """The thread as ``threading`` knows it; None for a foreign one, and at a thread's very end."""
    for thread in threading.enumerate():
        if thread.ident == ident:
            return thread
    return None


def _make_current() -> ThreadState:
    ident = get_ident()
    if ident in _ending:
        return _ending[ident]
    if ident == threading.main_thread().ident:
        # No sentinel: the main loop has no thread exit of its own (R57).
        _local.state = main()
        return _local.state
    state = ThreadState(ident)
    _states.add(state)
    _local.state = state
    _local.sentinel = _Sentinel(state)
    return state


def _after_fork_in_child() -> None:
    global _main, _main_lock
    if _main is not None and _main.loop is not None:
        _main.loop._forked()
    _main_lock = threading.Lock()
    _main = None
    _ending.clear()
    _states.clear()
    _local.__dict__.clear()


_fork.call_in_child(_after_fork_in_child)
