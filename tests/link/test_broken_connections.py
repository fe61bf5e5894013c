"""Short writes, and connections that end, or are interrupted, at every single call."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
from collections.abc import Callable
from threading import get_ident

import pytest

from portkit import InvalidPortError, LoopEndedError, MachPort, Port, PortError, PortMessage
from portkit.link import service
from portkit.link.descriptor import Descriptor
from portkit.link.link import Link
from portkit_transports.message.channel import UnixChannel
from tests.link.faulty import FaultyChannel, Wired, Wrap
from tests.support import PATIENCE, LoopThread, Reports, eventually, run_on_thread

LARGE = bytes(range(256)) * 1200
"""Out of line."""
MIDDLE = bytes(range(256)) * 400
"""In the frame, in parts."""


class Echo:
    """The right side: answers with what came, and says so to every port that comes."""

    def __init__(self) -> None:
        self.port = MachPort(self.handle)
        self.kept: list[Port] = []

    def handle(self, message: PortMessage) -> bytes | None:
        for port in message.ports:
            self.kept.append(port)
            try:
                port.send(b"thanks", timeout=PATIENCE)
            except PortError:
                pass
        return message.data if message.is_request else None


def converse(door: Port, thanks: MachPort) -> list[bytes | None]:
    """Some of everything that goes over a link."""
    answers = [door.request(b"one", reply_timeout=PATIENCE).data]
    with Descriptor(0) as descriptor:
        door.send([b"x", descriptor, thanks], timeout=PATIENCE)
    answers.append(thanks.receive(PATIENCE).data)
    answers.append(door.request(MIDDLE, reply_timeout=PATIENCE).data)
    answers.append(door.request(LARGE, reply_timeout=PATIENCE).data)
    door.send_many([b"many"] * 10, timeout=PATIENCE)
    answers.append(door.request([b"last", LARGE], reply_timeout=PATIENCE).data)
    return answers


EXPECTED = [b"one", b"thanks", MIDDLE, LARGE, b"last"]


def run(wired: Wired) -> list[bytes | None] | PortError:
    """The conversation between two threads; what came of it."""
    echo = Echo()
    thanks = MachPort()
    # On a thread without a run loop, so that the handler is called by the service thread.
    run_on_thread(lambda: thanks.add_no_senders_handler(lambda port: port.invalidate()))
    try:
        with LoopThread() as right:
            right.call(right.loop.add_port, echo.port)
            try:
                door = wired.open(echo.port)
                return run_on_thread(lambda: converse(door, thanks))
            except InvalidPortError as error:
                return error.with_traceback(None)
            finally:
                right.call(right.loop.remove_port, echo.port)
    finally:
        thanks.invalidate()
        echo.port.invalidate()
        echo.kept.clear()


def is_empty(link: Link) -> bool:
    table = link.table
    return not (table.exports or table._once or table.asked or table._relayed or table._imports)


@pytest.mark.parametrize(
    ("most", "again"), [(1 << 20, True), (7, False), (1, True), (1000, True)], ids=str
)
def test_short_writes_and_reads(most: int, again: bool) -> None:
    def wrap(connection: socket.socket) -> FaultyChannel:
        return FaultyChannel(connection, most=most, again=again)

    global MIDDLE
    whole = MIDDLE
    if most < 100:
        MIDDLE, EXPECTED[2] = (MIDDLE[:70_000] if most > 1 else MIDDLE[:3000],) * 2
    try:
        with Wired(wrap, wrap) as wired:
            assert run(wired) == EXPECTED
    finally:
        MIDDLE = EXPECTED[2] = whole


def breaking(error: Callable[[], BaseException], at: int) -> Wrap:
    """A channel that is lost from call number ``at`` on."""

    def wrap(connection: socket.socket) -> FaultyChannel:
        def fault(what: str, calls: int) -> None:
            if calls == at:
                connection.shutdown(socket.SHUT_RDWR)
                raise error()

        return FaultyChannel(connection, fault=fault)

    return wrap


def calls_of_a_conversation() -> int:
    channels: list[FaultyChannel] = []

    def wrap(connection: socket.socket) -> FaultyChannel:
        channels.append(FaultyChannel(connection))
        return channels[-1]

    with Wired(wrap, wrap) as wired:
        assert run(wired) == EXPECTED
    return max(channel.calls for channel in channels)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "code", [errno.ECONNRESET, errno.EPIPE, errno.EIO], ids=errno.errorcode.get
)
def test_lost_at_every_call(side: str, code: int) -> None:
    """Whoever waits gets the error at once; nothing stays in any table."""
    most = calls_of_a_conversation()
    for at in range(1, most + 3):
        wrap = breaking(lambda: OSError(code, os.strerror(code)), at)
        with Wired(**{side: wrap}) as wired:
            outcome = run(wired)
            assert outcome == EXPECTED or isinstance(outcome, InvalidPortError)
            if outcome != EXPECTED:
                assert eventually(lambda w=wired: w.left.is_closed and w.right.is_closed)  # type: ignore[misc]
            left, right = wired.left, wired.right
        del wired
        gc.collect()
        assert eventually(lambda a=left, b=right: is_empty(a) and is_empty(b)), at  # type: ignore[misc]


@pytest.mark.parametrize("side", ["left", "right"])
def test_interrupted_at_every_call(
    side: str, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a signal handler that raises. The link ends, and says so; it is never out of step."""
    caplog.set_level(logging.CRITICAL)
    most = calls_of_a_conversation()
    for at in range(1, most + 3):
        struck: list[int] = []

        def wrap(
            connection: socket.socket, at: int = at, struck: list[int] = struck
        ) -> FaultyChannel:
            def fault(what: str, calls: int) -> None:
                if calls >= at and not struck and get_ident() != service_ident():
                    struck.append(calls)
                    raise Interrupted

            return FaultyChannel(connection, fault=fault)

        with Wired(**{side: wrap}) as wired:
            try:
                outcome = run(wired)
            except (Interrupted, LoopEndedError):
                continue
            assert outcome == EXPECTED or isinstance(outcome, InvalidPortError), at
    reports.take()


def service_ident() -> int:
    """The service thread, on which no signal handler runs."""
    loop = service.loop()
    return 0 if loop is None else loop.ident


class Interrupted(BaseException):
    """Not KeyboardInterrupt, of which pytest thinks its own part."""


def test_the_last_answer_is_read_before_the_connection_is_given_up() -> None:
    """The peer answers and goes; a write that fails meanwhile must not lose what it answered."""
    near, far = socket.socketpair()
    with Wired() as wired, MachPort() as port:
        door = wired.open(port)
        near.close()
        far.close()

        def ask() -> bytes | None:
            return door.request(b"?", reply_timeout=PATIENCE).data

        with LoopThread() as right:

            def answer_and_go(message: PortMessage) -> None:
                message.reply(b"goodbye")
                wired.right.close()

            port.delegate = answer_and_go
            right.call(right.loop.add_port, port)
            assert run_on_thread(ask) == b"goodbye"
            assert eventually(lambda: not door.is_valid)
            right.call(right.loop.remove_port, port)


def test_an_unread_end_is_noticed_by_who_only_waits() -> None:
    with Wired(left=UnixChannel) as wired, MachPort() as port:
        door = wired.open(port)
        door.send(b"x")
        port.receive(PATIENCE)
        with LoopThread() as loop:
            gone: list[Port] = []
            door.add_invalidation_handler(gone.append, loop=loop.loop)
            wired.right.close()
            assert eventually(lambda: gone == [door])
        assert not door.is_valid
