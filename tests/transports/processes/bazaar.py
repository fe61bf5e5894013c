"""Processes that give each other's ports to each other at random, by every way that there is."""

from __future__ import annotations

import random
from threading import Lock, Thread

from portkit import MachPort, Port, PortMessage, RunLoop
from portkit.errors import InvalidPortError
from tests.support import PATIENCE
from tests.transports.processes.roles import Here


class Trader:
    """One of the processes: it owns one port, and holds many.

    Args:
        index: which one.
        size: how many there are.
        ways: the first words of the names that they have.
    """

    def __init__(self, index: int, size: int, ways: tuple[str, ...]) -> None:
        self.index = index
        self.wrong: list[str] = []
        self._lock = Lock()
        self._held: list[tuple[int, Port]] = []
        self._names = [f"{way} {other}" for way in ways for other in range(size) if other != index]
        self._thread: Thread | None = None
        loop = RunLoop.current()
        self._own = MachPort(lambda message: b"%d" % index)
        loop.add_port(self._own)
        self._doors = [Here.way.open(f"{way} {index}", self.take) for way in ways]
        for door in self._doors:
            loop.add_port(door)

    def take(self, message: PortMessage) -> None:
        """Keep what another gave; the data says whose each port is."""
        with self._lock:
            self._held += zip(message.data or b"", message.ports, strict=True)

    def begin(self, seed: int, steps: int) -> None:
        """Trade, on a thread of its own."""
        self._thread = Thread(target=self._trade, args=(random.Random(seed), steps))
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has done its steps. Its run loop is needed until all have."""
        return self._thread is not None and not self._thread.is_alive()

    def _trade(self, chance: random.Random, steps: int) -> None:
        try:
            doors = [Here.way.remote(name) for name in self._names]
            for _ in range(steps):
                with self._lock:
                    held = [(self.index, self._own), *self._held]
                    if chance.random() < 0.3 and self._held:
                        self._held.pop(chance.randrange(len(self._held)))
                if chance.random() < 0.5:
                    given = chance.choices(held, k=chance.randint(1, 3))
                    whose = bytes(owner for owner, _ in given)
                    chance.choice(doors).send(
                        [whose, *(port for _, port in given)], timeout=PATIENCE
                    )
                else:
                    self._ask(*chance.choice(held))
        except Exception as error:
            self.wrong.append(f"{self.index}: {error!r}")

    def _ask(self, owner: int, port: Port) -> None:
        try:
            answer = port.request(b"whose?", reply_timeout=PATIENCE).data
        except InvalidPortError as error:
            self.wrong.append(f"{self.index}: the port of {owner} was lost: {error}")
        else:
            if answer != b"%d" % owner:
                self.wrong.append(f"{self.index}: the port of {owner} is that of {answer!r}")

    def is_forgotten(self) -> bool:
        """Let go of everything: whether nobody holds this one's port any more."""
        with self._lock:
            self._held.clear()
        return not self._own._senders


_traders: list[Trader] = []


def join(index: int, size: int, ways: tuple[str, ...]) -> None:
    """Be one of them."""
    _traders.append(Trader(index, size, ways))


def begin(seed: int, steps: int) -> None:
    """Begin to trade."""
    _traders[0].begin(seed, steps)


def is_over() -> bool:
    """Whether this one is done."""
    return _traders[0].is_over


def wrong() -> list[str]:
    """What was wrong."""
    return _traders[0].wrong


def is_forgotten() -> bool:
    """Let go of everything; see :class:`Trader`."""
    return _traders[0].is_forgotten()
