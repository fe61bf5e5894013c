"""A custom input source: a buffer of commands that one thread fills and another carries out.

After listings 3-3 to 3-8 of Apple's Threading Programming Guide. The worker puts a source into its
run loop. The source's schedule callout tells the main thread, which from then on may add commands
and signal it; the cancel callout tells it to stop doing so (R30). A signal is only a flag,
performed once for any number of signals (R28, R29): the commands themselves are in the buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import NamedTuple

from portkit import InputSource, RunLoop


class CommandSource:
    """An input source with a command buffer; ``quit`` ends the loop that performs it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._commands: list[str] = []
        self._lock = Lock()
        self.source = InputSource(self._perform, schedule=self._schedule, cancel=self._cancel)

    def add_command(self, command: str) -> None:
        """From any thread. Nothing happens until :meth:`fire`."""
        with self._lock:
            self._commands.append(command)

    def fire(self) -> None:
        """From any thread: have the commands carried out. Signals, and wakes the loop."""
        self.source.signal()

    def _schedule(self, source: InputSource, loop: RunLoop, mode: str) -> None:
        print(f"worker: scheduled in mode {mode!r}")
        RunLoop.main().perform(self._registry.register, SourceContext(self, loop))

    def _cancel(self, source: InputSource, loop: RunLoop, mode: str) -> None:
        print(f"worker: cancelled in mode {mode!r}")
        RunLoop.main().perform(self._registry.remove, SourceContext(self, loop))

    def _perform(self, source: InputSource) -> None:
        with self._lock:
            commands, self._commands = self._commands, []
        print(f"worker: {len(commands)} commands at once")
        for command in commands:
            print(f"worker: {command}")
            if command == "quit":
                RunLoop.current().stop()


class SourceContext(NamedTuple):
    """A source, and a loop that it serves (the guide's RunLoopContext)."""

    commands: CommandSource
    loop: RunLoop


class Registry:
    """The main thread's list of sources that may be fired."""

    def __init__(self, on_register: Callable[[SourceContext], None]) -> None:
        self._contexts: list[SourceContext] = []
        self._on_register = on_register

    def register(self, context: SourceContext) -> None:
        self._contexts.append(context)
        print(f"main: {len(self._contexts)} source to send commands to")
        self._on_register(context)

    def remove(self, context: SourceContext) -> None:
        self._contexts.remove(context)
        print(f"main: {len(self._contexts)} sources left")
        RunLoop.current().stop()


def give_commands(context: SourceContext) -> None:
    for command in ("open", "read", "quit"):
        context.commands.add_command(command)
    context.commands.fire()


def work(registry: Registry) -> None:
    loop = RunLoop.current()
    commands = CommandSource(registry)
    loop.add_source(commands.source)
    loop.run()
    commands.source.invalidate()


def main() -> None:
    loop = RunLoop.current()
    # Performed calls alone do not keep a mode from being empty; this timer does, and it ends the
    # program should the worker never come.
    watchdog = loop.call_later(5.0, loop.stop)
    thread = Thread(target=work, args=(Registry(give_commands),), name="worker", daemon=True)
    thread.start()
    loop.run()
    thread.join()
    watchdog.invalidate()


if __name__ == "__main__":
    main()
