"""Cuts at any moment: nothing comes twice, or out of order, or is lost in silence."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from random import Random
from threading import Event

import pytest

from portkit import BecameInvalidError, PortMessage, SendTimeoutError
from portkit.link.node import Settings
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually
from tests.transports.socket.ends import SOON, Ends, dialled, ends
from tests.transports.socket.pki import Pki
from tests.transports.socket.proxy import Proxy

__all__ = ["ends"]

STRESS = bool(os.environ.get("PORTKIT_STRESS"))
SECONDS = 5.0 if STRESS else 0.8
SETTINGS = Settings(heartbeat=0.3)
ASK = 1 << 16


class Ledger:
    """What came of each sender, in the order in which it came; the msgid says whose it is."""

    def __init__(self, senders: int) -> None:
        self.came: list[list[int]] = [[] for _ in range(senders)]

    def __call__(self, message: PortMessage) -> bytes:
        """Keep the number."""
        assert message.data is not None, "numbers are data"
        self.came[message.msgid % ASK].append(int(message.data.split()[0]))
        return message.data[:8]


class Sender:
    """Sends numbers in every way there is, until told to stop."""

    def __init__(self, handle: RemoteSocketPort, index: int, seed: int) -> None:
        self._handle = handle
        self._index = index
        self._random = Random(seed)
        self.sent = 0
        self.errors = 0
        self.unsent: set[int] = set()

    def run(self, stop: Event) -> None:
        """Until ``stop``; the last is a request that is answered."""
        while not stop.is_set():
            try:
                self._send(self.sent)
            except BecameInvalidError:
                self.errors += 1
            except SendTimeoutError:
                self.unsent.add(self.sent)
            self.sent += 1
            if self._random.random() < 0.1:
                time.sleep(0.001)
        while True:
            try:
                self._ask(self.sent, b"")
                return
            except BecameInvalidError:
                self.errors += 1
                self.sent += 1

    def _send(self, number: int) -> None:
        data = b"%d " % number + bytes(self._random.choice([0, 10, 1000, 100_000]))
        way = self._random.random()
        if way < 0.1:
            self._ask(number, data)
        elif way < 0.3:
            self._handle.send(data, msgid=self._index, timeout=0)
        elif way < 0.4:
            message = PortMessage(self._handle, None, data, self._index)
            self._handle.send_many([message], timeout=PATIENCE)
        else:
            self._handle.send(data, msgid=self._index, timeout=PATIENCE)

    def _ask(self, number: int, data: bytes) -> None:
        self._handle.request(
            data or b"%d" % number,
            msgid=ASK + self._index,
            send_timeout=PATIENCE,
            reply_timeout=PATIENCE,
        )


def cut(proxy: Proxy, random: Random) -> None:
    proxy.cut()


def cut_in_mid_frame(proxy: Proxy, random: Random) -> None:
    proxy.cut_after(random.randrange(1, 300_000))


def stall(proxy: Proxy, random: Random) -> None:
    proxy.stall()
    time.sleep(random.uniform(0, 0.05))
    if random.random() < 0.5:
        proxy.cut()
    proxy.stall(False)


def forget(proxy: Proxy, random: Random) -> None:
    proxy.forget()
    time.sleep(random.uniform(0, 0.05))
    proxy.cut()
    proxy.forget(False)


def refuse(proxy: Proxy, random: Random) -> None:
    proxy.refuse()
    time.sleep(random.uniform(0, 0.05))
    proxy.listen()


EVENTS: list[Callable[[Proxy, Random], None]] = [cut, cut_in_mid_frame, stall, forget, refuse]


@pytest.mark.parametrize("seed", range(10 if STRESS else 2))
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_nothing_is_lost_in_silence(
    ends: Ends, seed: int, secured: bool, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    random = Random(seed)
    tls = pki.config() if secured else None
    ledger = Ledger(3)
    proxy = ends.proxy(ends.serve(ledger, tls=tls, queue_limit=64, settings=SETTINGS))
    handle = ends.remote(proxy, tls=tls, reconnect=SOON, settings=SETTINGS)
    watch = ends.watch(handle)
    senders = [Sender(handle, index, seed * 3 + index) for index in range(3)]
    stop = Event()
    with caplog.at_level(logging.WARNING):
        threads = [Background(lambda s=sender: s.run(stop)) for sender in senders]  # type: ignore[misc]
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(random.uniform(0, 0.1))
            random.choice(EVENTS)(proxy, random)
        proxy.cut_after(-1)
        stop.set()
        for thread in threads:
            thread.result()
    assert handle.is_valid
    assert handle.is_connected
    logged = sum("could not be sent" in record.getMessage() for record in caplog.records)
    ends.settle()
    missing = 0
    for sender, came in zip(senders, ledger.came, strict=True):
        assert came == sorted(set(came)), "twice, or out of order"
        assert not sender.unsent & set(came), "what was not accepted came"
        missing += sender.sent + 1 - len(sender.unsent) - len(came)
    errors = sum(sender.errors for sender in senders)
    sent = sum(sender.sent for sender in senders)
    assert missing <= errors + logged + watch.unacknowledged
    assert watch.unacknowledged <= sent
    assert [event.is_connected for event in watch.events] == [False, True] * (
        len(watch.events) // 2
    )
    assert all(event.unacknowledged >= 0 for event in watch.events)
    handle.invalidate()
    assert eventually(lambda: not dialled(SETTINGS))
