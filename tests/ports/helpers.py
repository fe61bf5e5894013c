"""What the tests of ports share beside ``tests.support``."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType
from typing import Any, TypeVar

from portkit import DEFAULT_MODE, MachPort, PortMessage
from tests.support import PATIENCE, LoopThread, eventually

T = TypeVar("T")


class Recorder:
    """A delegate that keeps what it gets, and answers requests with ``answer``."""

    def __init__(self, answer: Any = None) -> None:
        self.messages: list[PortMessage] = []
        self.answer = answer

    def __call__(self, message: PortMessage) -> Any:
        """Keep the message."""
        self.messages.append(message)
        return self.answer

    @property
    def data(self) -> list[bytes | None]:
        """The data of all messages so far."""
        return [message.data for message in self.messages]

    def wait(self, count: int) -> bool:
        """Whether that many messages came in time."""
        return eventually(lambda: len(self.messages) >= count)


@contextmanager
def served(
    delegate: Any = None, *, mode: str = DEFAULT_MODE, queue_limit: int = 1024
) -> Iterator[MachPort]:
    """A port that another thread's run loop serves while the ``with`` lasts."""
    with LoopThread(mode) as thread, MachPort(delegate, queue_limit=queue_limit) as port:
        thread.loop.add_port(port, mode)
        yield port


class Background(Thread):
    """A thread whose result, or error, :meth:`result` hands over. It begins at once."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._fn = fn
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the function."""
        try:
            self._value = self._fn()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread did not end"
        if self._error is not None:
            raise self._error
        return self._value


def in_child(fn: Callable[[], object]) -> str:
    """Call ``fn`` in a forked child; what it returned or raised there, as text."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE))  # a child that hangs must not outlive the test
            try:
                text = f"{fn()}"
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(write_fd, text.encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text


@contextmanager
def handling(signum: signal.Signals, handler: Callable[[], object]) -> Iterator[None]:
    """Have this signal call ``handler`` while the ``with`` lasts."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        handler()

    before = signal.signal(signum, on_signal)
    try:
        yield
    finally:
        signal.signal(signum, before)


def in_finalizer(frame: FrameType | None) -> bool:
    """Whether it runs inside a ``__del__``, where what is raised goes to nobody."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def interrupt() -> None:
    """What Ctrl-C does, here and now."""
    raise KeyboardInterrupt


class HookedDeque(deque[T]):
    """A deque that calls ``after[name]`` right after a call of that method, once each.

    So a test puts another thread's step, or a signal, at one exact place.
    """

    after: dict[str, Callable[[], object]]

    def _call(self, name: str) -> None:
        hook = self.after.pop(name, None)
        if hook is not None:
            hook()

    def append(self, item: T, /) -> None:
        """As deque, then the hook."""
        super().append(item)
        self._call("append")

    def popleft(self) -> T:
        """As deque, then the hook."""
        item = super().popleft()
        self._call("popleft")
        return item

    def __getitem__(self, index: Any, /) -> Any:
        """As deque, then the hook."""
        item = super().__getitem__(index)
        self._call("getitem")
        return item


def hooked(items: deque[T], **after: Callable[[], object]) -> HookedDeque[T]:
    """A copy of the deque with hooks."""
    made = HookedDeque(items)
    made.after = after
    return made


def on_other_thread(fn: Callable[[], object]) -> Callable[[], None]:
    """A function that has another thread call ``fn`` to its end."""

    def call() -> None:
        Background(fn).result()

    return call
