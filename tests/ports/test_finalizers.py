"""Finalizers and signal handlers run anywhere, also inside a lock: no deadlock, nothing lost."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from portkit import MachPort, PortMessage, ReplyDroppedError, RunLoop
from tests.ports.helpers import Background, Recorder, handling, served
from tests.support import PATIENCE, eventually


class BusyLock:
    """A re-entrant lock inside which ``inside`` happens, once each time it is set."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.inside: Callable[[], object] | None = None

    def __enter__(self) -> None:
        self.lock.acquire()
        inside, self.inside = self.inside, None
        if inside is not None:
            inside()

    def __exit__(self, *exc: object) -> None:
        self.lock.release()


def busy(port: MachPort) -> BusyLock:
    """Put such a lock into the port's mailbox."""
    lock = BusyLock(port._mailbox.lock)
    port._mailbox.lock = lock  # type: ignore[assignment]
    return lock


@contextmanager
def collecting_always() -> Iterator[None]:
    """Have the collector run at nearly every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def in_a_cycle(thing: object) -> None:
    """Leave ``thing`` to the collector."""
    cycle: list[Any] = [thing]
    cycle.append(cycle)


def send_and_receive(port: MachPort) -> None:
    port.send(b"x")
    port.receive(0)


OPERATIONS: dict[str, Callable[[MachPort], object]] = {
    "send": lambda port: port.send(b"x", timeout=0),
    "send_many": lambda port: port.send_many([b"x"], timeout=0),
    "receive": send_and_receive,
    "fileno": lambda port: port.fileno(),
    "add to a loop": lambda port: RunLoop.current().add_port(port),
    "invalidate": lambda port: port.invalidate(),
    "handlers": lambda port: port.add_invalidation_handler(lambda port: None),
}


@pytest.mark.own_thread
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_request_is_collected_inside_the_ports_lock(
    operation: Callable[[MachPort], object],
) -> None:
    with MachPort() as source, MachPort(Recorder()) as port:
        asker = Background(lambda: source.request(b"?", reply_timeout=PATIENCE))
        in_a_cycle(source.receive(PATIENCE))
        busy(port).inside = gc.collect
        operation(port)
        with pytest.raises(ReplyDroppedError):
            asker.result()


@pytest.mark.own_thread
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_user_finalizer_sends_to_the_same_port_from_inside_its_lock(
    operation: Callable[[MachPort], object],
) -> None:
    sent: list[bool] = []

    class Note:
        def __del__(self) -> None:
            port.send(b"from the finalizer", timeout=0)
            sent.append(True)

    delegate = Recorder()
    with MachPort(delegate) as port:
        in_a_cycle(Note())
        busy(port).inside = gc.collect
        operation(port)
        assert sent == [True]
        if port.is_valid:
            taken = [envelope[1] for envelope in port._mailbox.queue]
            assert (b"from the finalizer",) in taken or operation is OPERATIONS["receive"]


@pytest.mark.parametrize("operation", ["send", "send_many", "receive", "fileno", "invalidate"])
def test_a_signal_handler_sends_to_the_same_port_from_inside_its_lock(operation: str) -> None:
    delegate = Recorder()
    with MachPort(delegate) as port:
        sent: list[bool] = []

        def handler() -> None:
            port.send(b"from the handler", timeout=0)
            sent.append(True)

        with handling(signal.SIGUSR1, handler):
            busy(port).inside = lambda: signal.raise_signal(signal.SIGUSR1)
            OPERATIONS[operation](port)
        assert sent == [True]


def test_a_handlers_message_wakes_the_sleeping_loop() -> None:
    """On the main thread, whose loop the signal interrupts."""
    loop = RunLoop.current()
    delegate = Recorder()

    def strike() -> None:
        assert eventually(lambda: loop.is_waiting)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    def stop_after(message: PortMessage) -> None:
        delegate(message)
        loop.stop()

    with (
        MachPort(stop_after) as port,
        handling(signal.SIGUSR1, lambda: port.send(b"!", timeout=0)),
    ):
        loop.add_port(port)
        striker = Background(strike)
        loop.run(PATIENCE)
        striker.result()
    assert delegate.data == [b"!"]


def test_collections_everywhere_while_requests_are_dropped() -> None:
    """The collector runs inside any allocation, and on a thread of its own."""

    def delegate(message: PortMessage) -> bytes | None:
        if message.msgid % 3 == 0:
            message.defer()
            in_a_cycle(message)
            return None
        return b"!"

    def collect() -> None:
        while not done.is_set():
            gc.collect()

    outcomes: list[str] = []
    done = threading.Event()
    with served(delegate) as port, collecting_always():
        collector = Background(collect)
        for number in range(150):
            try:
                port.request(msgid=number, reply_timeout=PATIENCE)
                outcomes.append("answered")
            except ReplyDroppedError:
                outcomes.append("dropped")
        done.set()
        collector.result()
    assert outcomes == ["answered" if number % 3 else "dropped" for number in range(150)]


def test_finalizers_that_send_while_other_threads_send() -> None:
    """Every message counts, whoever sent it from wherever."""
    per_thread = 200
    delegate = Recorder()

    class Note:
        def __init__(self, port: MachPort) -> None:
            self.port = port

        def __del__(self) -> None:
            self.port.send(b"note", timeout=0)

    with served(delegate, queue_limit=10_000) as port:

        def send() -> None:
            for _ in range(per_thread):
                in_a_cycle(Note(port))
                port.send(b"plain", timeout=0)

        with collecting_always():
            for sender in [Background(send) for _ in range(3)]:
                sender.result()
        gc.collect()
        assert delegate.wait(6 * per_thread)
        assert delegate.data.count(b"note") == delegate.data.count(b"plain") == 3 * per_thread
