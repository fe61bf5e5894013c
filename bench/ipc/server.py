"""The other process: ``python -m bench.ipc.server MODULE:FUNCTION ADDRESS [ARGUMENT …]``.

The function gets the address and a :class:`Control`, and serves until the process ends, which it
does when its standard input ends. So it outlives nobody who started it.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from bench.ipc.address import Address

ACK = b"k"
"""What answers data that is not sent back."""


class Control:
    """What the spawning process is told and asks, over standard input and output.

    Attributes:
        left: how many messages are still to be handled until ``done`` is said.
    """

    def __init__(self) -> None:
        self.left = 0
        self._stop: Callable[[], object] = partial(os._exit, 0)

    def ready(self, stop: Callable[[], object] | None = None) -> None:
        """Say that clients may come. ``stop`` ends the serving; without it the process just ends.

        No thread but the caller's runs before this: until then it may fork.
        """
        self._stop = stop or self._stop
        Thread(target=self._listen, daemon=True).start()
        _say("ready")

    def handled(self, _: Any) -> None:
        """To be called for each message of a one-way stream."""
        self.left -= 1
        if self.left == 0:
            _say("done")

    def _listen(self) -> None:
        # Blocked in read(2) it costs nothing; sys.stdin would hold a lock while the process ends.
        received = b""
        while chunk := os.read(0, 4096):
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                self._obey(line.decode())
        self._stop()

    def _obey(self, command: str) -> None:
        word, _, argument = command.partition(" ")
        if word == "cpu":
            _say(str(time.process_time_ns()))
        elif word == "expect":
            self.left = int(argument)
            _say("ok")


def touch(data: bytes | bytearray | memoryview) -> int:
    """What every receiver of large data does with it: read its first and last byte."""
    return data[0] + data[-1]


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def main() -> None:
    """Call the function that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started this one handles it
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    function(Address.parse(sys.argv[2]), Control(), *sys.argv[3:])


if __name__ == "__main__":
    main()
