"""Values bound to a thread and its run loop, destroyed when the thread ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from portkit import _thread
from portkit._report import report

T = TypeVar("T")


class ThreadData(Generic[T]):
    """A value for each thread.

    Args:
        destructor: called with a thread's value on that thread when it ends, after its run loop
            has ended (R57). Values set by destructors are destroyed too, for up to 4 rounds. The
            main thread does not end in this sense.
    """

    def __init__(self, destructor: Callable[[T], object] | None = None) -> None:
        self._destructor = destructor

    def get(self) -> T | None:
        """This thread's value, or None if it set none."""
        value: T | None = cast("T | None", _thread.current().values.get(self))
        return value

    def set(self, value: T | None) -> None:
        """Set this thread's value; None takes it away, without destroying it."""
        values = _thread.current().values
        if value is None:
            values.pop(self, None)
        else:
            values[self] = value

    def destroy(self, value: Any) -> None:
        """Run the destructor, as the end of a thread does; what it raises is reported."""
        if self._destructor is None:
            return
        try:
            self._destructor(value)
        except BaseException as error:  # the thread ends; there is nobody else to tell
            report("a thread data destructor raised", error, self._destructor)
