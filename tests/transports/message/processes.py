"""Other processes for the tests of links: each runs a run loop, and calls what it is told there."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from portkit import RunLoop
from tests.support import PATIENCE, keep_alive

T = TypeVar("T")

_ROOT = Path(__file__).parents[3]
_START = "from tests.transports.message.processes import serve; import sys; serve(*sys.argv[1:])"


class Child:
    """Another process, with a run loop on its main thread. Killed at the end of the ``with``.

    It inherits the environment, and so the runtime folder, as it is when it starts.

    Attributes:
        process: the process.
        pid: its number.
    """

    def __init__(self) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out)],
            pass_fds=(theirs_in, theirs_out),
            cwd=_ROOT,
        )
        self.pid = self.process.pid
        os.close(theirs_in)
        os.close(theirs_out)
        self._commands = os.fdopen(ours_out, "wb")
        self._results = os.fdopen(ours_in, "rb")

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
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

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
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self._commands, self._results):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def serve(commands: str, results: str) -> None:
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
