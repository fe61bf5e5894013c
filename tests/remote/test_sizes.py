"""What arguments, results and items may measure: more is refused where it leaves and arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest

from portkit import InvalidPayloadError, MachPort, MessageTooLargeError, RemoteError
from portkit.remote import Connection
from tests.support import PATIENCE, LoopThread

pytestmark = pytest.mark.own_thread

SMALL = {"max_size": 10_000}


class Archive(Protocol):
    """What is served here."""

    def count(self, words: list[str]) -> int: ...
    def repeat(self, word: str, times: int) -> list[str]: ...
    def weigh(self, data: bytes) -> int: ...
    def lines(self, sizes: list[int]) -> Iterator[str]: ...


class ArchiveServer:
    """An :class:`Archive`."""

    def count(self, words: list[str]) -> int:
        return len(words)

    def repeat(self, word: str, times: int) -> list[str]:
        return [word] * times

    def weigh(self, data: bytes) -> int:
        return len(data)

    def lines(self, sizes: list[int]) -> Iterator[str]:
        for size in sizes:
            yield "x" * size


@contextmanager
def archive(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[Archive]:
    """One of another thread."""
    with LoopThread() as thread, MachPort() as port:

        def serve() -> object:
            return Connection.serve(port, ArchiveServer(), Archive, timeout=PATIENCE, **theirs)

        service: Any = thread.call(serve)
        with Connection.to(port, timeout=PATIENCE, **ours) as connection:
            yield connection.root(Archive)
        thread.call(service.invalidate)


def test_arguments() -> None:
    with archive({}, SMALL) as found:
        with pytest.raises(MessageTooLargeError, match=r"over the limit of 10000: .*max_size="):
            found.count(["word"] * 2000)
        assert found.count(["word"] * 1000) == 1000
        assert found.weigh(bytes(100_000)) == 100_000  # which is not encoded


def test_arguments_that_arrive() -> None:
    with archive(SMALL, {}) as found:
        with pytest.raises(InvalidPayloadError, match=r"Archive.count: .*limit of 10000"):
            found.count(["word"] * 2000)
        assert found.count(["word"] * 1000) == 1000


def test_results() -> None:
    with archive(SMALL, {}) as found:
        with pytest.raises(RemoteError, match=r"limit of 10000: .*max_size=") as caught:
            found.repeat("word", 2000)
        assert caught.value.type == "portkit.errors.MessageTooLargeError"
        assert len(found.repeat("word", 1000)) == 1000


def test_results_that_arrive() -> None:
    with archive({}, SMALL) as found:
        with pytest.raises(InvalidPayloadError, match=r"Archive.repeat returned: .*limit of 10000"):
            found.repeat("word", 2000)
        assert len(found.repeat("word", 1000)) == 1000


def test_of_usual_connections() -> None:
    with archive({}, {}) as found, pytest.raises(MessageTooLargeError, match="limit of 1048576"):
        found.count(["word"] * 200_000)
    raised = {"max_size": 1 << 24}
    with archive(raised, raised) as found:
        assert found.count(["word"] * 200_000) == 200_000


def test_items_go_by_fewer() -> None:
    """Small ones have the caller ask for many, of which too few fit when they are large."""
    sizes = [1] * 200 + [4000] * 70 + [9000, 1, 9000] + [1] * 100
    with archive(SMALL, SMALL) as found:
        assert [len(line) for line in found.lines(sizes)] == sizes


def test_an_item_that_is_too_large(reports: Any) -> None:
    """An error after the items before it."""
    with archive(SMALL, {}) as found:
        lines = found.lines([1] * 20 + [20_000] + [1] * 20)
        got: list[str] = []
        with pytest.raises(RemoteError, match="limit of 10000"):
            got.extend(lines)
        assert len(got) == 20
        assert len(list(found.lines([1] * 20))) == 20
    reports.take()
