"""A crowd of processes, each of which sends to all others at once, and checks what it gets."""

from __future__ import annotations

import struct
from threading import Thread
from typing import Any

from portkit import Port, RunLoop
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
    """

    def __init__(self, index: int, size: int, count: int) -> None:
        self.index = index
        self.others = [other for other in range(size) if other != index]
        self.count = count
        self.expected = dict.fromkeys(self.others, 0)
        self.wrong: list[tuple[int, int, int]] = []
        self.left = count * len(self.others)
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
        self.left -= 1
        if self.playing and not self.left:
            RunLoop.current().stop()

    def send_all(self) -> None:
        """Send to the others by turns, now one by one and now many at once."""
        try:
            ports = [Here.way.remote(f"crowd {other}") for other in self.others]
            for start in range(0, self.count, _BURST):
                numbers = range(start, min(start + _BURST, self.count))
                messages = [_NUMBERS.pack(self.index, number) + b"data" * 8 for number in numbers]
                for port in ports:
                    if start % (2 * _BURST):
                        port.send_many(messages, timeout=PATIENCE)
                    else:
                        for message in messages:
                            port.send(message, timeout=PATIENCE)
        except BaseException as error:
            self.error = error


_members: list[Member] = []


def join(index: int, size: int, count: int) -> None:
    """Be one of the crowd."""
    _members.append(Member(index, size, count))


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
