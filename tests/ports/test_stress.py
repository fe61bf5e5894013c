"""Many threads, one port: order per sender, nothing lost, nothing doubled."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest

from portkit import (
    InvalidPortError,
    LoopEndedError,
    MachPort,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    SendTimeoutError,
)
from tests.ports.helpers import Background, served
from tests.support import PATIENCE, LoopThread, eventually

SENDERS = 4
EACH = 1500


@pytest.fixture(autouse=True, params=[None, 1e-5], ids=["", "fast switching"])
def switch_interval(request: pytest.FixtureRequest) -> Iterator[None]:
    """Once as usual, once with threads taking turns at nearly every instruction."""
    before = sys.getswitchinterval()
    if request.param is not None:
        sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(before)


class Ledger:
    """A raw delegate that keeps (sender, number) of every message."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int]] = []

    def handle_raw_message(
        self, port: Port, msgid: int, components: tuple[bytes, ...], reply_port: Port | None
    ) -> None:
        self.entries.append((msgid, int(components[0])))

    def complete(self) -> bool:
        return len(self.entries) >= SENDERS * EACH

    def check(self) -> None:
        for sender in range(SENDERS):
            assert [n for s, n in self.entries if s == sender] == list(range(EACH))


def one_by_one(port: MachPort, sender: int) -> None:
    for number in range(EACH):
        port.send(b"%d" % number, msgid=sender, timeout=PATIENCE)


def in_bursts(port: MachPort, sender: int) -> None:
    for start in range(0, EACH, 100):
        burst = [
            PortMessage(port, None, b"%d" % number, sender) for number in range(start, start + 100)
        ]
        assert port.send_many(burst, timeout=PATIENCE) == 100


def by_trying(port: MachPort, sender: int) -> None:
    for number in range(EACH):
        while True:
            try:
                port.send(b"%d" % number, msgid=sender, timeout=0)
                break
            except SendTimeoutError:
                threading.Event().wait(0.0001)


@pytest.mark.parametrize(
    ("send", "queue_limit"),
    [
        (one_by_one, 1),
        (one_by_one, 7),
        (one_by_one, 10_000),
        (in_bursts, 7),
        (in_bursts, 10_000),
        (by_trying, 7),
    ],
)
def test_senders_and_one_loop(send: Callable[[MachPort, int], None], queue_limit: int) -> None:
    ledger = Ledger()
    with served(ledger, queue_limit=queue_limit) as port:
        senders = [Background(partial(send, port, number)) for number in range(SENDERS)]
        for sender in senders:
            sender.result()
        assert eventually(ledger.complete)
    ledger.check()


def test_senders_and_a_receiving_thread() -> None:
    entries: list[tuple[int, int]] = []
    with MachPort(queue_limit=16) as port:
        senders = [Background(partial(one_by_one, port, n)) for n in range(SENDERS)]
        for _ in range(SENDERS * EACH):
            message = port.receive(PATIENCE)
            entries.append((message.msgid, int(message.data or b"")))
        for sender in senders:
            sender.result()
    ledger = Ledger()
    ledger.entries = entries
    ledger.check()


def test_the_port_moves_between_loops() -> None:
    """Whoever has it delivers; what lies there goes with it."""
    ledger = Ledger()
    with LoopThread() as first, LoopThread() as second, MachPort(ledger, queue_limit=64) as port:
        senders = [Background(partial(one_by_one, port, n)) for n in range(SENDERS)]
        loops = [first.loop, second.loop]
        while any(sender.is_alive() for sender in senders):
            loops.reverse()
            loops[0].add_port(port)
            loops[0].remove_port(port)
        for sender in senders:
            sender.result()
        first.loop.add_port(port)
        assert eventually(lambda: not port.pending)
        first.call(lambda: None)
        second.call(lambda: None)
    assert len(ledger.entries) == SENDERS * EACH
    assert len(set(ledger.entries)) == SENDERS * EACH


@pytest.mark.parametrize("depth", [1, 2])
def test_notification_pattern(depth: int) -> None:
    """Semantics 6.3: the list is the truth, the message only a signal; one pending is enough."""
    notes: list[tuple[int, int]] = []
    lock = threading.Lock()
    done: list[tuple[int, int]] = []

    def process_all(message: PortMessage) -> None:
        while True:
            with lock:
                if not notes:
                    return
                note = notes.pop(0)
            done.append(note)

    with served(process_all, queue_limit=depth) as port:

        def post(sender: int) -> None:
            for number in range(EACH):
                with lock:
                    notes.append((sender, number))
                try:
                    port.send(timeout=0)
                except SendTimeoutError:
                    pass  # a signal is there already

        for thread in [Background(partial(post, number)) for number in range(SENDERS)]:
            thread.result()
        assert eventually(lambda: len(done) == SENDERS * EACH)
    for sender in range(SENDERS):
        assert [n for s, n in done if s == sender] == list(range(EACH))


@pytest.mark.parametrize("how", ["invalidate", "end of the loop's thread"])
def test_every_request_ends_when_the_port_does(how: str) -> None:
    """Each is answered, or fails for the reason there is; none waits for its time-out. Each that
    the delegate got is answered.
    """
    for _ in range(15):
        end_under_requests(how)


def end_under_requests(how: str) -> None:
    taken: list[int] = []
    answered: list[int] = []
    failed: list[Exception] = []

    def serve() -> None:
        RunLoop.current().add_port(port)
        ready.set()
        RunLoop.current().run(PATIENCE)

    def ask(sender: int) -> None:
        for msgid in count(sender << 24):
            try:
                port.request(msgid=msgid, send_timeout=PATIENCE, reply_timeout=PATIENCE)
            except Exception as error:
                failed.append(error)
                return
            answered.append(msgid)

    ready = threading.Event()
    port = MachPort(lambda message: taken.append(message.msgid))
    server = Background(serve)
    assert ready.wait(PATIENCE)
    loop = port._loop
    assert loop is not None
    askers = [Background(partial(ask, number)) for number in range(SENDERS)]
    assert eventually(lambda: len(answered) > 20)
    if how == "invalidate":
        port.invalidate()
    else:
        loop.stop()
    for thread in [*askers, server]:
        thread.result()
    assert [error for error in failed if not isinstance(error, InvalidPortError)] == []
    assert len(failed) == SENDERS
    assert sorted(taken) == sorted(answered)


def test_requests_time_out_while_they_are_answered() -> None:
    """A time-out and an answer in the same moment are one or the other."""
    outcomes: list[str] = []
    with served(lambda message: b"!") as port:

        def ask() -> None:
            for number in range(400):
                try:
                    assert port.request(reply_timeout=number % 8 * 2e-5).data == b"!"
                    outcomes.append("answer")
                except ReceiveTimeoutError:
                    outcomes.append("time-out")

        for thread in [Background(ask) for _ in range(SENDERS)]:
            thread.result()
    assert len(outcomes) == SENDERS * 400
    assert not {"answer", "time-out"} - set(outcomes)


def test_ports_come_and_go_on_a_running_loop() -> None:
    """Threads make ports there, use and end them, all at once."""
    with LoopThread() as thread:

        def churn() -> None:
            for _ in range(100):
                with MachPort(lambda message: message.data) as port:
                    thread.loop.add_port(port)
                    assert port.request(b"!", reply_timeout=PATIENCE).data == b"!"

        for worker in [Background(churn) for _ in range(SENDERS)]:
            worker.result()
        assert thread.loop._ports == {}


def test_threads_come_and_go() -> None:
    """Section 11, stress: churn of threads that have loops, with others sending to them."""

    def life(number: int) -> None:
        port = MachPort(lambda message: b"%d" % number)
        RunLoop.current().add_port(port)
        office.send([port], msgid=number, timeout=PATIENCE)
        RunLoop.current().run(0.001)

    results: list[bytes | type[Exception] | None] = []

    def use(message: PortMessage) -> None:
        (port,) = message.ports
        try:
            results.append(port.request(reply_timeout=PATIENCE).data)
        except (InvalidPortError, ReplyDroppedError, LoopEndedError) as error:
            results.append(type(error))

    with served(use) as office:
        for start in range(0, 60, 6):
            for thread in [Background(partial(life, start + n)) for n in range(6)]:
                thread.result()
        assert eventually(lambda: len(results) == 60)
