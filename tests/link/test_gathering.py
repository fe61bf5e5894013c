"""Bursts: sends after the first few are gathered, and yet never stay behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from portkit import MachPort, Port, RunLoop
from portkit.link.channel import Channel
from tests.link.helpers import Pair
from tests.support import PATIENCE, LoopThread, eventually


class Counting:
    """A channel that counts its writes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.writes = 0

    def write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        self.writes += 1
        return self._channel.write(data, descriptors)


def counting(pair: Pair) -> Counting:
    """Count what the left side writes from now on."""
    channel = pair.left.channel
    assert channel is not None
    found = Counting(channel)
    pair.left.outbox._channel = found  # type: ignore[assignment]
    return found


def received(port: Port, count: int) -> list[bytes | None]:
    return [port.receive(PATIENCE).data for _ in range(count)]


@pytest.mark.own_thread
def test_many_messages_take_few_writes() -> None:
    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)
        channel = counting(pair)
        sent = [b"%d" % number for number in range(500)]
        for data in sent:
            handle.send(data)
        assert received(port, 500) == sent
        assert channel.writes < 100


@pytest.mark.own_thread
def test_the_first_is_written_at_once() -> None:
    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)
        channel = counting(pair)
        handle.send(b"!")
        assert channel.writes == 1
        assert not pair.left.outbox.size


def test_what_a_thread_leaves_behind_is_written_all_the_same() -> None:
    """It neither waits through portkit nor ends: the service thread sees to it."""
    done = threading.Event()

    def burst(handle: Port) -> None:
        for _ in range(10):
            handle.send(b"!")
        done.wait(PATIENCE)

    with Pair() as pair, MachPort() as port:
        thread = threading.Thread(target=burst, args=(pair.open(port),))
        thread.start()
        assert eventually(lambda: port.pending == 10)
        done.set()
        thread.join()


def test_written_before_the_thread_ends() -> None:
    def burst(handle: Port) -> None:
        for _ in range(10):
            handle.send(b"!")

    with Pair() as pair, MachPort() as port:
        thread = threading.Thread(target=burst, args=(pair.open(port),))
        thread.start()
        thread.join()
        assert received(port, 10) == [b"!"] * 10


@pytest.mark.own_thread
def test_written_before_any_wait() -> None:
    with Pair() as pair, MachPort() as port, MachPort() as other:
        handle = pair.open(port)
        for _ in range(10):
            handle.send(b"!")
        with pytest.raises(TimeoutError):
            other.receive(0.001)
        assert not pair.left.outbox.size


def test_written_at_the_end_of_a_pass() -> None:
    with Pair() as pair, MachPort() as port, LoopThread() as loop:
        handle = pair.open(port)

        def burst() -> int:
            for _ in range(10):
                handle.send(b"!")
            return len(RunLoop.current().modes)

        loop.call(burst)
        assert received(port, 10) == [b"!"] * 10


@pytest.mark.own_thread
def test_order_holds_between_what_is_gathered_and_what_is_not() -> None:
    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)
        sent: list[bytes] = []
        for number in range(200):
            data = b"%d " % number * (1 + number % 7 * 200)
            sent.append(data)
            if number % 5:
                handle.send(data)
            else:
                handle.send_many([data])
        assert received(port, len(sent)) == sent


@pytest.mark.own_thread
def test_a_link_that_ends_with_a_burst_unwritten_is_told() -> None:
    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)
        told: list[Port] = []
        loop = RunLoop.current()
        handle.add_invalidation_handler(told.append)
        for _ in range(10):
            handle.send(b"!")
        pair.left.close("the test says so")
        loop.run(0)
        assert told == [handle]


@pytest.mark.own_thread
def test_what_a_foreign_loop_has_sent_is_written_when_it_goes_on() -> None:
    with Pair() as pair, MachPort() as target, MachPort() as port:
        handle = pair.open(target)
        port.delegate = lambda message: handle.send(message.data or b"")
        for turn in range(3):
            port.send_many([b"1"] * 20)
            assert port.process() == 20
            assert not pair.left.outbox.size, turn
            assert received(target, 20) == [b"1"] * 20
