"""Other processes for the tests of links: each runs a run loop, and calls what it is told there."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, Protocol, Self, TypeAlias, TypeVar

from portkit import RunLoop
from tests.support import PATIENCE, eventually, keep_alive

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
_START = "from tests.transports.processes.child import serve; import sys; serve(*sys.argv[1:])"


class Process(Protocol):
    """What a child needs of its process, as ``subprocess.Popen`` has it."""

    @property
    def pid(self) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def is_stopped(self) -> bool: ...


class Interpreter(subprocess.Popen[bytes]):
    """A process that shares nothing with this one but those descriptors."""

    def __init__(self, commands: int, results: int) -> None:
        super().__init__(
            [sys.executable, "-c", _START, str(commands), str(results)],
            pass_fds=(commands, results),
            cwd=ROOT,
        )

    def is_stopped(self) -> bool:
        """Whether it stands still."""
        options = os.WSTOPPED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self.pid, options) is not None


class Child:
    """Another process, with a run loop on its main thread. Killed at the end of the ``with``.

    It inherits the environment, and so the runtime folder, as it is when it starts.

    Args:
        start: starts the process, which reads commands by the first descriptor and writes results
            to the second.

    Attributes:
        process: the process.
        pid: its number.
    """

    def __init__(self, start: Callable[[int, int], Process] = Interpreter) -> None:
        with ExitStack() as ours, ExitStack() as theirs:
            commands, results = os.pipe(), os.pipe()
            for stack, ends in (
                (theirs, (commands[0], results[1])),
                (ours, (results[0], commands[1])),
            ):
                for end in ends:
                    stack.callback(os.close, end)
            self.process = start(commands[0], results[1])
            ours.pop_all()
        self.pid = self.process.pid
        self._commands = os.fdopen(commands[1], "wb")
        self._results = os.fdopen(results[0], "rb")

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Call a function of a module on the child's run loop; what it returns or raises."""
        self.begin(fn, *args)
        result: T = self.result()
        return result

    def begin(self, fn: Callable[..., object], *args: Any) -> None:
        """Have the child call a function; :meth:`result` waits for it."""
        pickle.dump((fn, args), self._commands)
        self._commands.flush()

    def result(self, patience: float = PATIENCE) -> Any:
        """What the function that was begun first returned; raises what it raised."""
        ready, _, _ = select.select([self._results], [], [], patience)
        assert ready, "the child did not answer"
        value, error = pickle.load(self._results)
        if error is not None:
            raise error
        return value

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """Stop the process (SIGSTOP), and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        assert eventually(self.process.is_stopped), "it goes on"

    def kill(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> int:
        """Let the process end as programs do; its exit status."""
        self._commands.close()
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        for pipe in (self._commands, self._results):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


Start: TypeAlias = Callable[[], Child]
"""Starts another process; for use in a ``with``."""


def serve(commands: int | str, results: int | str) -> None:
    """The child's life: run the loop, and call on it what comes by one pipe."""
    loop = RunLoop.main()
    keep_alive(loop)
    reader = Thread(
        target=_obey,
        args=(loop, os.fdopen(int(commands), "rb"), os.fdopen(int(results), "wb")),
        daemon=True,
    )
    reader.start()
    loop.run()


def _obey(loop: RunLoop, commands: IO[bytes], results: IO[bytes]) -> None:
    while True:
        try:
            fn, args = pickle.load(commands)
        except EOFError:
            loop.perform(loop.stop)
            return
        loop.perform(_call, results, fn, args)


def _call(results: IO[bytes], fn: Callable[..., object], args: tuple[Any, ...]) -> None:
    try:
        outcome: tuple[object, BaseException | None] = (fn(*args), None)
    except Exception as error:
        outcome = (None, error)
    pickle.dump(outcome, results)
    results.flush()
