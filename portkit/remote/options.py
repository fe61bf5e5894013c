"""How a connection behaves, and what it counts."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from portkit._arguments import check_limit, check_timeout


class Options(NamedTuple):
    """How a connection behaves.

    Attributes:
        timeout: seconds for a call to be accepted, and again for its answer; None is for ever.
        independent: while a call waits, serve nothing: unrelated calls are queued until the
            outermost conversation is over, and callbacks during a call wait for ever (D7).
        max_objects: how many objects and iterators of this side the other may hold.
        max_depth: how deep calls of the two sides may be nested; and while how many calls of a
            thread that wait it serves others, be they of whom they may: further ones wait in turn.
        max_items: how many items of an iterator may go at a time, either way. With 1 an iterator
            that waits for its next item keeps none back.
        max_awaited: how many calls of async methods of this side may be under way; further ones
            fail.
        max_size: bytes that arguments, a result, or the items that go at a time may have where they
            are encoded, both ways; data that travels beside them is not counted. To tell what is
            wrong with as much takes some hundred times the memory.
        tracebacks: tell the other side where an exception was raised.
    """

    timeout: float | None = 5.0
    independent: bool = False
    max_objects: int = 10_000
    max_depth: int = 32
    max_items: int = 64
    max_awaited: int = 10_000
    max_size: int = 1 << 20
    tracebacks: bool = True

    def check(self) -> None:
        """Raise where the time-out or a limit is none.

        Raises:
            TypeError, ValueError: that is so.
        """
        check_timeout(self.timeout)
        for name in ("max_objects", "max_depth", "max_items", "max_awaited", "max_size"):
            check_limit(name, getattr(self, name))


class OptionArguments(TypedDict, total=False):
    """:class:`Options` as arguments by name, for type checkers."""

    timeout: float | None
    independent: bool
    max_objects: int
    max_depth: int
    max_items: int
    max_awaited: int
    max_size: int
    tracebacks: bool


class Counts:
    """What a connection has done so far.

    Attributes:
        made: calls to the other side.
        served: calls from the other side.
        failed: of these, those that raised.
        refused: of these, those that did not fit the interface.
    """

    __slots__ = ("failed", "made", "refused", "served")

    def __init__(self) -> None:
        self.made: int = 0
        self.served: int = 0
        self.failed: int = 0
        self.refused: int = 0


class Statistics(NamedTuple):
    """A snapshot of a connection (D14).

    Attributes:
        made: calls to the other side.
        served: calls from the other side.
        failed: of these, those that raised.
        refused: of these, those that did not fit the interface.
        objects: how many objects and iterators of this side the other holds.
        proxies: how many objects of the other side this one holds.
    """

    made: int
    served: int
    failed: int
    refused: int
    objects: int
    proxies: int
