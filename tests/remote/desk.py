"""What is served in most of these tests."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from threading import Event
from typing import Protocol

from portkit.remote import Connection, current_call, oneway, raises, with_timeout
from tests.support import PATIENCE
from tests.transports.processes.roles import Here


class Item(Protocol):
    """What goes by reference."""

    def name(self) -> str: ...
    def rename(self, name: str) -> None: ...


class Listener(Protocol):
    """What is called back."""

    def heard(self, number: int) -> int: ...


class Teller(Protocol):
    """What is called back with objects."""

    def tell(self, item: Item) -> Item: ...


class OutOfStockError(Exception):
    """Made of one argument."""


class AwkwardError(Exception):
    """Made of other arguments than it says."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Desk(Protocol):
    """The root object."""

    def add(self, left: int, right: int = 1) -> int: ...
    def echo(self, data: bytes) -> bytes: ...
    def process(self) -> int: ...
    def depth(self) -> int: ...
    def wait(self, seconds: float) -> None: ...

    def call_back(self, listener: Listener, times: int) -> list[int]: ...
    def call_back_from_threads(self, listener: Listener, threads: int, times: int) -> int: ...
    def descend(self, listener: Desk, depth: int) -> int: ...

    @oneway
    def note(self, number: int) -> None: ...
    @oneway
    def fail_unheard(self) -> None: ...
    def notes(self) -> list[int]: ...

    def fail(self, how: str) -> None: ...
    @raises(OutOfStockError, LookupError, AwkwardError)
    def fail_declared(self, how: str) -> None: ...
    def wrong_result(self) -> int: ...
    def fetch(self, size: int) -> bytes: ...

    def item(self, name: str) -> Item: ...
    def items(self, names: list[str]) -> dict[str, Item]: ...
    def keep(self, item: Item | None) -> None: ...
    def kept(self) -> Item | None: ...
    def is_own(self, item: Item) -> bool: ...
    def same_as_kept(self, item: Item) -> bool: ...
    def tell(self, teller: Teller, item: Item) -> Item: ...
    def relay(self, name: str, item: Item) -> Item: ...
    def alive(self) -> int: ...

    def numbers(self, count: int, fail: bool = False) -> Iterator[int]: ...
    def produced(self) -> int: ...
    def closed(self) -> int: ...
    def item_stream(self, names: list[str]) -> Iterator[Item]: ...
    def blobs(self, sizes: list[int]) -> Iterator[bytes]: ...
    def slow(self, count: int, seconds: float) -> Iterator[int]: ...
    def total(self, numbers: Iterator[int]) -> int: ...
    def doubled(self, numbers: Iterator[int]) -> Iterator[int]: ...

    def memory(self) -> int: ...


class Thing:
    """An item."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def rename(self, name: str) -> None:
        self._name = name


FAILURES: dict[str, BaseException] = {
    "plain": ValueError("on purpose"),
    "own": OutOfStockError("nails", 3),
    "mute": MuteError("x"),
    "awkward": AwkwardError(7, detail="odd"),
    "group": ExceptionGroup("several", [ValueError("a"), TypeError("b")]),
    "surrogate": ValueError("\ud800"),
    "derived": KeyError("k"),
    "unplain": OutOfStockError(object()),
    "infinite": OutOfStockError(float("inf"), None, [1, {"a": True}]),
    "large": OutOfStockError("x" * 1_000_000),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
}


class DeskServer:
    """A :class:`Desk`."""

    def __init__(self) -> None:
        self._notes: list[int] = []
        self._things: weakref.WeakSet[Thing] = weakref.WeakSet()
        self._kept: Item | None = None
        self._produced = 0
        self._closed = 0

    def add(self, left: int, right: int = 1) -> int:
        return left + right

    def echo(self, data: bytes) -> bytes:
        return data

    def process(self) -> int:
        return os.getpid()

    def depth(self) -> int:
        call = current_call()
        assert call is not None
        return call.depth

    def wait(self, seconds: float) -> None:
        Event().wait(seconds)

    def call_back(self, listener: Listener, times: int) -> list[int]:
        return [listener.heard(number) for number in range(times)]

    def call_back_from_threads(self, listener: Listener, threads: int, times: int) -> int:
        listener = with_timeout(listener, PATIENCE)
        total: list[int] = []

        def call() -> None:
            total.extend(listener.heard(number) for number in range(times))

        running = [threading.Thread(target=call) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(total)

    def descend(self, listener: Desk, depth: int) -> int:
        return self.depth() if not depth else listener.descend(self, depth - 1)

    def note(self, number: int) -> None:
        self._notes.append(number)

    def fail_unheard(self) -> None:
        raise ValueError("unheard")

    def notes(self) -> list[int]:
        return self._notes

    def fail(self, how: str) -> None:
        raise FAILURES[how]

    def fail_declared(self, how: str) -> None:
        raise FAILURES[how]

    def wrong_result(self) -> int:
        return "none"  # type: ignore[return-value]

    def fetch(self, size: int) -> bytes:
        return bytes(size)

    def item(self, name: str) -> Item:
        thing = Thing(name)
        self._things.add(thing)
        return thing

    def items(self, names: list[str]) -> dict[str, Item]:
        return {name: self.item(name) for name in names}

    def keep(self, item: Item | None) -> None:
        self._kept = item

    def kept(self) -> Item | None:
        return self._kept

    def is_own(self, item: Item) -> bool:
        return item in self._things

    def same_as_kept(self, item: Item) -> bool:
        return item is self._kept

    def tell(self, teller: Teller, item: Item) -> Item:
        return teller.tell(item)

    def relay(self, name: str, item: Item) -> Item:
        with Connection.to(Here.way.remote(name), timeout=PATIENCE) as connection:
            root = connection.root(Desk)
            root.keep(item)
            found = root.kept()
            assert found is not None
            found.rename(f"{found.name()} relayed")
        return item

    def alive(self) -> int:
        gc.collect()
        return len(self._things)

    def numbers(self, count: int, fail: bool = False) -> Iterator[int]:
        self._produced = 0
        try:
            for number in range(count):
                self._produced += 1
                yield number
            if fail:
                raise ValueError("after all numbers")
        finally:
            self._closed += 1

    def produced(self) -> int:
        return self._produced

    def closed(self) -> int:
        return self._closed

    def item_stream(self, names: list[str]) -> Iterator[Item]:
        return (self.item(name) for name in names)

    def blobs(self, sizes: list[int]) -> Iterator[bytes]:
        return map(bytes, sizes)

    def slow(self, count: int, seconds: float) -> Iterator[int]:
        for number in range(count):
            time.sleep(seconds)
            yield number

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]:
        return (2 * number for number in numbers)

    def memory(self) -> int:
        gc.collect()
        return sys.getallocatedblocks()
