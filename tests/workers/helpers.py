"""What the tests of workers share."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from portkit import DEFAULT_MODE, PortMessage, RunLoop, RunResult
from portkit.workers import Session, Worker
from tests.ports.helpers import Background
from tests.support import PATIENCE

T = TypeVar("T")


def idle(session: Session) -> None:
    """A target that checks in and waits for its end."""
    session.run()


def echo(session: Session) -> None:
    """A target that sends every message back, and answers requests with their data."""

    def answer(message: PortMessage) -> bytes | None:
        if message.is_request:
            return message.data
        session.main.send(message.components, msgid=message.msgid)
        return None

    session.port.delegate = answer
    session.run()


class Events:
    """A group's callbacks, which keep what they are told, in its order."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.all: list[tuple[str, bytes | None]] = []
        self.lost: list[Worker] = []
        self.answer = answer

    def message(self, worker: Worker, message: PortMessage) -> bytes | None:
        """For ``on_message``."""
        self.all.append((worker.name, message.data))
        return self.answer

    def worker_lost(self, worker: Worker) -> None:
        """For ``on_worker_lost``."""
        self.all.append((worker.name, None))
        self.lost.append(worker)

    def of(self, worker: Worker) -> list[bytes | None]:
        """The data of the worker's messages; None stands for its loss."""
        return [data for name, data in self.all if name == worker.name]


def run_until(condition: Callable[[], object]) -> None:
    """Run this thread's loop until one of its callbacks has made the condition true."""
    loop = RunLoop.current()
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, "what the test waits for did not come"
        loop.run_mode(DEFAULT_MODE, PATIENCE)


def beside(fn: Callable[[], T]) -> T:
    """Call ``fn`` on another thread while this thread's loop runs; what it returned or raised."""
    loop = RunLoop.current()

    def body() -> T:
        try:
            return fn()
        finally:
            loop.perform(loop.stop)

    other = Background(body)
    assert loop.run(PATIENCE) is RunResult.STOPPED
    result: T = other.result()
    return result
