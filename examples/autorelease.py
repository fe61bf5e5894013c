"""Observers that wrap every pass in a scope: the autorelease-pool pattern, nested runs included.

An Entry observer opens a scope before anything else of the run, a BeforeWaiting observer closes it
and opens the next, an Exit observer closes the last. So whatever a callback leaves to the scope is
let go at the latest before the loop sleeps. A nested run opens scopes of its own and touches none
of the outer run's (R4, R5). Orders far apart keep the opening first and the closing last (R36).
"""

from __future__ import annotations

from contextlib import ExitStack

from portkit import COMMON_MODES, Activity, InputSource, Observer, RunLoop, clock

FIRST, LAST = -1_000_000, 1_000_000
INNER_MODE = "inner"


class Scopes:
    """A stack of scopes, as deep as runs are nested."""

    def __init__(self, loop: RunLoop) -> None:
        self._stack: list[ExitStack] = []
        self.observers = (
            Observer(self._open, Activity.ENTRY, order=FIRST),
            Observer(self._renew, Activity.BEFORE_WAITING, order=LAST),
            Observer(self._close, Activity.EXIT, order=LAST),
        )
        for observer in self.observers:
            loop.add_observer(observer, COMMON_MODES)

    def leave(self, name: str) -> None:
        """Keep something until the present scope closes."""
        print(f"{self._indent}{name} is made")
        self._stack[-1].callback(lambda: print(f"{self._indent}{name} is let go"))

    @property
    def _indent(self) -> str:
        return "    " * len(self._stack)

    def _open(self, observer: Observer, activity: Activity) -> None:
        print(f"{self._indent}open, because of {activity.name}")
        self._stack.append(ExitStack())

    def _renew(self, observer: Observer, activity: Activity) -> None:
        self._close(observer, activity)
        self._open(observer, activity)

    def _close(self, observer: Observer, activity: Activity) -> None:
        self._stack[-1].close()
        self._stack.pop()
        print(f"{self._indent}close, because of {activity.name}")


def main() -> None:
    loop = RunLoop.current()
    loop.add_common_mode(INNER_MODE)
    scopes = Scopes(loop)

    def outer_work(_source: InputSource) -> None:
        scopes.leave("a document")
        loop.add_source(inner, INNER_MODE)
        inner.signal()
        loop.run_in_mode(INNER_MODE, 5.0, return_after_source_handled=True)
        scopes.leave("its picture")
        loop.call_later(1.0, later_work)

    def inner_work(_source: InputSource) -> None:
        scopes.leave("a dialog")

    def later_work() -> None:
        scopes.leave("a letter")
        loop.stop()

    outer = InputSource(outer_work)
    inner = InputSource(inner_work)
    loop.add_source(outer)
    outer.signal()
    with clock.use(clock.ManualClock(jump=True)):  # the second until later_work takes no time
        loop.run(timeout=5.0)

    for item in (outer, inner, *scopes.observers):
        item.invalidate()


if __name__ == "__main__":
    main()
