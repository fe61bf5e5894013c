"""fileno() and process(): a port in event loops that are not portkit's."""

from __future__ import annotations

import asyncio
import gc
import select
import selectors
import threading
import warnings
from collections.abc import Callable

import pytest

from portkit import InvalidPortError, MachPort, PortMessage, ReplyDroppedError
from portkit._doorbell import Doorbell
from tests.ports.helpers import Background, Recorder, on_other_thread
from tests.support import PATIENCE, Reports, open_descriptors

Wait = Callable[[int, float], bool]


def by_select(fd: int, timeout: float) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def by_poll(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def by_selector(fd: int, timeout: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(timeout))


@pytest.fixture(params=[by_select, by_poll, by_selector])
def wait(request: pytest.FixtureRequest) -> Wait:
    """Whether a descriptor becomes readable in time."""
    chosen: Wait = request.param
    return chosen


def test_readable_while_messages_wait(wait: Wait) -> None:
    delegate = Recorder()
    with MachPort(delegate) as port:
        fd = port.fileno()
        assert port.fileno() == fd
        assert not wait(fd, 0)
        port.send_many([b"1", b"2", b"3"])
        assert wait(fd, 0)
        assert port.process(limit=2) == 2
        assert wait(fd, 0)  # level-triggered: one is left
        assert port.process() == 1
        assert not wait(fd, 0)
        assert port.process() == 0
        assert delegate.data == [b"1", b"2", b"3"]


def test_opened_over_waiting_messages(wait: Wait) -> None:
    with MachPort(Recorder()) as port:
        port.send(b"before")
        assert wait(port.fileno(), 0)
        assert port.process() == 1


def test_a_message_from_another_thread_wakes_it(wait: Wait) -> None:
    with MachPort(Recorder()) as port:
        fd = port.fileno()
        sender = Background(lambda: port.send(b"!"))
        assert wait(fd, PATIENCE)
        assert port.process() == 1
        sender.result()


def test_process_opens_the_descriptor_itself(wait: Wait) -> None:
    delegate = Recorder()
    with MachPort(delegate) as port:
        port.send(b"!")
        assert port.process() == 1
        assert not wait(port.fileno(), 0)
        port.send(b"!")
        assert wait(port.fileno(), 0)


def test_a_message_sent_by_the_delegate_is_not_missed(wait: Wait) -> None:
    def delegate(message: PortMessage) -> None:
        if message.msgid < 3:
            port.send(msgid=message.msgid + 1)

    with MachPort(delegate) as port:
        port.fileno()
        port.send()
        delivered = 0
        while wait(port.fileno(), 0):
            delivered += port.process(limit=1)
        assert delivered == 4


def test_a_message_that_comes_while_the_descriptor_is_emptied(
    wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Doorbell.drain

    def send_and_drain(doorbell: Doorbell) -> None:
        monkeypatch.undo()
        on_other_thread(lambda: port.send(b"late"))()
        drain(doorbell)

    with MachPort(Recorder()) as port:
        port.send(b"1")
        monkeypatch.setattr(Doorbell, "drain", send_and_drain)
        assert port.process() == 1
        assert wait(port.fileno(), 0)
        assert port.process() == 1


def test_requests_are_answered() -> None:
    with MachPort(Recorder(b"!")) as port:
        fd = port.fileno()
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
        assert by_select(fd, PATIENCE)
        assert port.process() == 1
        assert asker.result() == b"!"


def test_a_delegate_that_raises_is_reported(reports: Reports) -> None:
    seen: list[bytes | None] = []

    def delegate(message: PortMessage) -> None:
        seen.append(message.data)
        raise LookupError

    with MachPort(delegate) as port:
        port.fileno()
        port.send(b"1")
        asker = Background(lambda: port.request(b"2", reply_timeout=PATIENCE))
        while len(seen) < 2:
            assert by_select(port.fileno(), PATIENCE)
            port.process()
        with pytest.raises(ReplyDroppedError):
            asker.result()
        assert [type(error) for error in reports.take()] == [LookupError, LookupError]


@pytest.mark.parametrize("limit", [0, 1])
def test_limit(limit: int) -> None:
    with MachPort(Recorder()) as port:
        port.send_many([b"", b""])
        assert port.process(limit) == limit
        assert port.pending == 2 - limit
        assert by_select(port.fileno(), 0)


def test_asyncio() -> None:
    """A port served by asyncio, asked by a thread."""

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def delegate(message: PortMessage) -> bytes:
            assert asyncio.get_running_loop() is loop
            if message.msgid == 99:
                done.set()
            return b"%d" % message.msgid

        with MachPort(delegate) as port:

            def ask() -> list[bytes | None]:
                return [port.request(msgid=n, reply_timeout=PATIENCE).data for n in (1, 2, 3, 99)]

            loop.add_reader(port.fileno(), port.process)
            try:
                asker = Background(ask)
                await asyncio.wait_for(done.wait(), PATIENCE)
                return await asyncio.to_thread(asker.result)
            finally:
                loop.remove_reader(port.fileno())

    assert asyncio.run(main()) == [b"1", b"2", b"3", b"99"]


class TestEnding:
    def test_invalidate_closes_the_descriptor(self) -> None:
        before = open_descriptors()
        port = MachPort(Recorder())
        port.fileno()
        assert open_descriptors() != before
        port.send(b"unread")
        port.invalidate()
        assert open_descriptors() == before
        assert port.process() == 0
        with pytest.raises(InvalidPortError):
            port.fileno()

    def test_invalidate_inside_the_delegate(self) -> None:
        before = open_descriptors()
        delegate = Recorder()

        def once(message: PortMessage) -> None:
            delegate(message)
            port.invalidate()

        port = MachPort(once)
        port.send_many([b"1", b"2"])
        assert port.process() == 1
        assert delegate.data == [b"1"]
        assert open_descriptors() == before

    def test_dropped_with_its_descriptor_open(self) -> None:
        before = open_descriptors()
        port = MachPort()
        port.fileno()
        ports = [port]
        del port
        with pytest.warns(ResourceWarning, match=r"invalidate\(\)"):
            ports.clear()
        assert open_descriptors() == before

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_dropped_where_warnings_are_errors(self) -> None:
        before = open_descriptors()
        port = MachPort()
        port.fileno()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del port
            gc.collect()
        assert open_descriptors() == before

    def test_dropped_without_a_descriptor_is_nothing(self) -> None:
        port = MachPort(Recorder())
        port.send(b"unread")
        del port
        gc.collect()

    def test_senders_at_the_moment_of_invalidation(self) -> None:
        """Nobody rings a descriptor that is closed already, or somebody else's by now."""
        for _ in range(20):
            port = MachPort()
            port.fileno()
            start = threading.Barrier(3)

            def send(port: MachPort = port, start: threading.Barrier = start) -> None:
                start.wait(PATIENCE)
                try:
                    for _ in range(50):
                        port.send(b"x", timeout=0)
                except InvalidPortError:
                    pass

            senders = [Background(send) for _ in range(2)]
            start.wait(PATIENCE)
            port.invalidate()
            for sender in senders:
                sender.result()
