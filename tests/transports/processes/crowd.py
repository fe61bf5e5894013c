"""A crowd of processes, each of which sends to all others at once, and checks what it gets."""

from __future__ import annotations

import os
import signal
import struct
from threading import Thread
from typing import Any

from portkit import InvalidPortError, Port, RunLoop
from tests.support import PATIENCE
from tests.transports.processes.roles import Here

_NUMBERS = struct.Struct("<II")
_BURST = 50


class Member:
    """One of the crowd, as its port's delegate.

    Args:
        index: which one.
        size: how many there are.
        count: how many messages each sends to each other.
        mortal: which one is killed in the midst of it, if any; by itself, as it knows best when.
    """

    def __init__(self, index: int, size: int, count: int, mortal: int | None) -> None:
        self.index = index
        self.others = [other for other in range(size) if other != index]
        self.count = count
        self.mortal = mortal
        self.expected = dict.fromkeys(self.others, 0)
        self.wrong: list[tuple[int, int, int]] = []
        self.left = count * sum(other != mortal for other in self.others)
        self.playing = False
        self.error: BaseException | None = None
        self.port = Here.way.open(f"crowd {index}", self, queue_limit=256)
        RunLoop.current().add_port(self.port)

    def handle_raw_message(
        self, port: Port, msgid: int, components: tuple[Any, ...], reply_port: Port | None
    ) -> None:
        """Check a message: the next of its sender, neither lost nor doubled."""
        sender, number = _NUMBERS.unpack_from(components[0])
        if number != self.expected[sender]:
            self.wrong.append((sender, number, self.expected[sender]))
        self.expected[sender] = number + 1
        self.left -= sender != self.mortal
        if self.index == self.mortal and self.left < self.count:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.playing and not self.left:
            RunLoop.current().stop()

    def send_all(self) -> None:
        """Send to the others by turns, now one by one and now many at once."""
        try:
            ports = {other: Here.way.remote(f"crowd {other}") for other in self.others}
            for start in range(0, self.count, _BURST):
                numbers = range(start, min(start + _BURST, self.count))
                messages = [_NUMBERS.pack(self.index, number) + b"data" * 8 for number in numbers]
                for other, port in list(ports.items()):
                    try:
                        _send(port, messages, one_by_one=not start % (2 * _BURST))
                    except InvalidPortError:
                        if other != self.mortal:
                            raise
                        del ports[other]
        except BaseException as error:
            self.error = error


def _send(port: Port, messages: list[bytes], *, one_by_one: bool) -> None:
    if not one_by_one:
        port.send_many(messages, timeout=PATIENCE)
        return
    for message in messages:
        port.send(message, timeout=PATIENCE)


_members: list[Member] = []


def join(index: int, size: int, count: int, mortal: int | None = None) -> None:
    """Be one of the crowd."""
    _members.append(Member(index, size, count, mortal))


def play(timeout: float) -> tuple[int, list[tuple[int, int, int]]]:
    """Send everything while everything is received: what is missing, and what was out of order."""
    (member,) = _members
    sender = Thread(target=member.send_all)
    sender.start()
    member.playing = True
    if member.left:
        RunLoop.current().run_in_mode("default", timeout)
    sender.join(timeout)
    if member.error is not None:
        raise member.error
    return member.left, member.wrong[:10]
