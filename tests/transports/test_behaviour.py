"""What every port does, whatever carries its messages. One entry below adds a transport."""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from portkit import (
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    MessagePort,
    Port,
    PortError,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    SendTimeoutError,
    SocketPort,
    connect_port,
)
from portkit.link.link import Link
from portkit.link.remote_port import RemotePort
from portkit_transports.message.host import host
from portkit_transports.socket import PreSharedKey
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from tests.link.helpers import Pair
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.message.fresh_host import fresh_host
from tests.transports.socket.pki import Pki


@dataclass
class Transport:
    """How the tests get a port, and something that sends to it from elsewhere.

    Attributes:
        open: makes a local port; takes ``delegate`` and ``queue_limit=``.
        handle: makes a sending handle for a local port; may be the port itself.
    """

    open: Callable[..., Port]
    handle: Callable[[Any], Port]


@contextmanager
def mach() -> Iterator[Transport]:
    """Within the process."""
    yield Transport(open=MachPort, handle=lambda port: port)


@contextmanager
def link() -> Iterator[Transport]:
    """Ports reached over a link, whose two ends are both here."""
    with Pair() as pair:
        yield Transport(open=MachPort, handle=pair.open)


@contextmanager
def message() -> Iterator[Transport]:
    """Ports reached by name: this process connects to itself, as another would."""
    numbers = count()

    def open_port(delegate: Any, *, queue_limit: int) -> MessagePort:
        return MessagePort(f"port {next(numbers)}", delegate, queue_limit=queue_limit)

    links: list[Link] = []

    def handle(port: MessagePort) -> Port:
        assert port.name is not None
        record = host().directory.find(port.name)
        if not links:
            links.append(host().dial(record))
        return RemotePort(links[0].table.open(record.port_id, record.incarnation))

    with fresh_host():
        yield Transport(open=open_port, handle=handle)


@contextmanager
def socket(**security: Any) -> Iterator[Transport]:
    """Ports that listen on loopback: this process connects to itself, as another host would."""

    def open_port(delegate: Any, *, queue_limit: int) -> SocketPort:
        return SocketPort(delegate=delegate, queue_limit=queue_limit, **security)

    def handle(port: SocketPort) -> Port:
        assert port.address is not None
        found = connect_port(port.address, **security)
        assert isinstance(found, RemoteSocketPort)
        found.connect(PATIENCE)
        return found

    yield Transport(open=open_port, handle=handle)


@contextmanager
def tls() -> Iterator[Transport]:
    """The same with certificates on both sides, and a key."""
    with tempfile.TemporaryDirectory() as folder:
        both = Pki(Path(folder)).config()
        with socket(tls=both, key=PreSharedKey.generate("test")) as transport:
            yield transport


TRANSPORTS: dict[str, Callable[[], AbstractContextManager[Transport]]] = {
    "mach": mach,
    "link": link,
    "message": message,
    "socket": socket,
    "tls": tls,
}


class World:
    """Ports of one transport; all are ended, and loops joined, after the test."""

    def __init__(self, transport: Transport, stack: ExitStack) -> None:
        self._transport = transport
        self._stack = stack

    def port(self, delegate: Any = None, *, queue_limit: int = 1024) -> Port:
        """A local port that nobody serves yet."""
        return self._stack.enter_context(self._transport.open(delegate, queue_limit=queue_limit))

    def handle(self, port: Port) -> Port:
        """What sends to it."""
        return self._transport.handle(port)

    def served(self, delegate: Any, *, queue_limit: int = 1024) -> Port:
        """A handle to a port on a loop of its own."""
        loop = self._stack.enter_context(LoopThread()).loop
        port = self.port(delegate, queue_limit=queue_limit)
        loop.add_port(port)
        return self.handle(port)


@pytest.fixture(params=TRANSPORTS.values(), ids=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest, no_leftovers: None) -> Iterator[Transport]:
    """Each of them in turn."""
    with request.param() as chosen:
        yield chosen


@pytest.fixture
def world(transport: Transport) -> Iterator[World]:
    """A place to make ports in."""
    with ExitStack() as stack:
        yield World(transport, stack)


def full(world: World) -> tuple[Port, Port]:
    """A port whose queue is full, and its handle."""
    port = world.port(queue_limit=1)
    handle = world.handle(port)
    handle.send(b"first", timeout=PATIENCE)
    assert eventually(lambda: port.pending)
    return port, handle


class TestMessages:
    def test_arrive_in_order(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        for number in range(100):
            handle.send(b"%d" % number, msgid=number)
        got = [port.receive(PATIENCE) for _ in range(100)]
        assert [(message.msgid, message.data) for message in got] == [
            (number, b"%d" % number) for number in range(100)
        ]

    @pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000, 3_000_000])
    def test_of_any_size(self, world: World, size: int) -> None:
        port = world.port()
        data = bytes(range(256)) * (size // 256 + 1)
        sender = Background(lambda: world.handle(port).send([data[:size], b"end"]))
        message = port.receive(PATIENCE)
        sender.result()
        assert message.data == data[:size]
        assert message.components[1] == b"end"

    @pytest.mark.parametrize("components", [(), [b""], [b"", b"", b""], [b"x"] * 1000])
    def test_keep_their_components(self, world: World, components: Any) -> None:
        port = world.port()
        world.handle(port).send(components)
        assert port.receive(PATIENCE).components == tuple(components)

    @pytest.mark.parametrize("msgid", [0, 1, 2**31, 2**32 - 1])
    def test_keep_their_number(self, world: World, msgid: int) -> None:
        port = world.port()
        world.handle(port).send(msgid=msgid)
        assert port.receive(PATIENCE).msgid == msgid

    def test_mutable_data_is_copied_at_send(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        buffer = bytearray(b"before")
        handle.send(buffer)
        handle.send([memoryview(buffer)])
        buffer[:] = b"after!"
        assert [port.receive(PATIENCE).data for _ in range(2)] == [b"before"] * 2

    @pytest.mark.parametrize("wrong", ["text", [b"good", "text"], [b"good", 5], 5, None, object()])
    def test_wrong_components_are_refused_whole(self, world: World, wrong: Any) -> None:
        """P9."""
        port = world.port()
        handle = world.handle(port)
        for send in (handle.send, handle.request, lambda bad: handle.send_many([b"good", bad])):
            with pytest.raises(TypeError):
                send(wrong)
        handle.send(b"the first to arrive")
        assert port.receive(PATIENCE).data == b"the first to arrive"

    def test_in_bulk(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        assert handle.send_many([b"1", [b"2"], PortMessage(components=b"3", msgid=7)]) == 3
        got = [port.receive(PATIENCE) for _ in range(3)]
        assert [(message.data, message.msgid) for message in got] == [
            (b"1", 0),
            (b"2", 0),
            (b"3", 7),
        ]

    def test_of_many_senders_keep_each_senders_order(self, world: World) -> None:
        entries: list[tuple[int, int]] = []
        handle = world.served(
            lambda message: entries.append((message.msgid, int(message.data))), queue_limit=8
        )

        def send(sender: int) -> None:
            for number in range(200):
                handle.send(b"%d" % number, msgid=sender, timeout=PATIENCE)

        for thread in [Background(partial(send, sender)) for sender in range(3)]:
            thread.result()
        assert eventually(lambda: len(entries) == 600)
        for sender in range(3):
            assert [n for s, n in entries if s == sender] == list(range(200))


class TestPortsInMessages:
    def test_a_local_port_arrives_usable(self, world: World) -> None:
        desk, office = world.port(), world.port()
        world.handle(office).send([b"answer here", desk])
        (arrived,) = office.receive(PATIENCE).ports
        arrived.send(b"hello")
        assert desk.receive(PATIENCE).data == b"hello"

    def test_a_port_comes_home_as_itself(self, world: World) -> None:
        desk, office = world.port(), world.port()
        world.handle(office).send([desk], reply_port=desk)
        message = office.receive(PATIENCE)
        message.reply(message.ports)
        assert desk.receive(PATIENCE).ports == (desk,)

    def test_the_reply_port(self, world: World) -> None:
        """P8: swapped on arrival."""
        desk, office = world.port(), world.port()
        world.handle(office).send(b"?", reply_port=desk)
        message = office.receive(PATIENCE)
        assert message.receive_port == office
        assert not message.is_request
        message.reply(b"!", msgid=5)
        answer = desk.receive(PATIENCE)
        assert (answer.data, answer.msgid) == (b"!", 5)

    def test_check_in(self, world: World) -> None:
        """Section 7: no components, no waiting, the worker's port as the reply port."""
        workers: list[Port | None] = []

        def main_port(message: PortMessage) -> None:
            if message.msgid == 100:
                workers.append(message.send_port)

        main = world.served(main_port)
        seen = Recorder()

        def work() -> None:
            loop = RunLoop.current()

            def delegate(message: PortMessage) -> None:
                seen(message)
                loop.stop()

            own = world.port(delegate)
            loop.add_port(own)
            PortMessage(main, own, msgid=100).send(timeout=0)
            loop.run(PATIENCE)

        worker = Background(work)
        assert eventually(lambda: workers)
        assert workers[0] is not None
        workers[0].send(b"to work")
        worker.result()
        assert seen.data == [b"to work"]


class TestRequests:
    @pytest.mark.parametrize(
        ("result", "components"),
        [(None, (b"",)), (b"!", (b"!",)), ([b"1", b"2"], (b"1", b"2")), ((), ())],
    )
    def test_the_delegates_result_answers(
        self, world: World, result: Any, components: tuple[bytes, ...]
    ) -> None:
        """M11 for None."""
        handle = world.served(Recorder(result))
        assert handle.request(b"?", reply_timeout=PATIENCE).components == components

    def test_one_that_is_given_up_is_told_to_who_has_it(self, world: World) -> None:
        told, kept = threading.Event(), list[PortMessage]()

        def delegate(message: PortMessage) -> None:
            if message.data == b"next":
                message.reply(b"answer")
                return
            message.add_abandon_handler(lambda port: told.set())
            message.defer()
            kept.append(message)

        handle = world.served(delegate)
        with pytest.raises(ReceiveTimeoutError):
            handle.request(b"?", reply_timeout=0.05)
        assert told.wait(PATIENCE)
        assert kept[0].is_abandoned
        kept[0].reply(b"late")  # M10: goes nowhere
        assert handle.request(b"next", reply_timeout=PATIENCE).data == b"answer"

    def test_an_answer_may_carry_ports(self, world: World) -> None:
        desk = world.port()
        handle = world.served(lambda message: [b"here", desk])
        (arrived,) = handle.request(b"?", reply_timeout=PATIENCE).ports
        arrived.send(b"hello")
        assert desk.receive(PATIENCE).data == b"hello"

    def test_deferred(self, world: World) -> None:
        kept: list[PortMessage] = []

        def delegate(message: PortMessage) -> None:
            message.defer()
            kept.append(message)

        handle = world.served(delegate)
        asker = Background(lambda: handle.request(b"?", reply_timeout=PATIENCE).data)
        assert eventually(lambda: kept)
        kept[0].reply(b"later")
        assert asker.result() == b"later"
        with pytest.raises(PortError):
            kept[0].reply(b"twice")

    @pytest.mark.parametrize("how", ["raises", "drops", "forgets"])
    def test_dropped(self, world: World, how: str, reports: Reports) -> None:
        def delegate(message: PortMessage) -> None:
            if how == "raises":
                raise LookupError
            if how == "drops":
                message.drop()
            else:
                message.defer()

        with pytest.raises(ReplyDroppedError):
            world.served(delegate).request(b"?", reply_timeout=PATIENCE)
        assert eventually(lambda: how != "raises" or reports.records)
        reports.take()

    def test_late_answers_are_discarded(self, world: World) -> None:
        """M10."""
        kept: list[PortMessage] = []

        def delegate(message: PortMessage) -> bytes | None:
            if message.msgid == 1:
                message.defer()
                kept.append(message)
                return None
            kept.pop().reply(b"late")
            return b"right"

        handle = world.served(delegate)
        with pytest.raises(ReceiveTimeoutError):
            handle.request(msgid=1, reply_timeout=0.01)
        assert eventually(lambda: kept)
        assert handle.request(msgid=2, reply_timeout=PATIENCE).data == b"right"

    @pytest.mark.own_thread
    def test_there_and_back_again(self, world: World) -> None:
        """A asks B, which asks A before it answers."""
        a = world.port(Recorder(b"a's answer"))
        RunLoop.current().add_port(a)
        a_handle = world.handle(a)
        b = world.served(lambda message: a_handle.request(b"?", reply_timeout=PATIENCE).data)
        answer = b.request(b"?", reply_timeout=PATIENCE, reply_mode="default")
        assert answer.data == b"a's answer"


class TestRoom:
    @pytest.mark.parametrize("timeout", [0, -1, 0.01])
    def test_a_full_queue_refuses_in_time(self, world: World, timeout: float) -> None:
        """P6, P7."""
        port, handle = full(world)
        with pytest.raises(SendTimeoutError) as caught:
            handle.send(b"second", timeout=timeout)
        assert caught.value.code == -1
        with pytest.raises(SendTimeoutError):
            handle.request(b"third", send_timeout=timeout)
        with pytest.raises(SendTimeoutError) as caught:
            handle.send_many([b"fourth"], timeout=timeout)
        assert caught.value.accepted == 0
        assert port.receive(PATIENCE).data == b"first"
        handle.send(b"room again", timeout=PATIENCE)
        assert port.receive(PATIENCE).data == b"room again"

    def test_a_blocked_sender_goes_on_when_there_is_room(self, world: World) -> None:
        port, handle = full(world)
        sender = Background(lambda: handle.send(b"second", timeout=PATIENCE))
        assert port.receive(PATIENCE).data == b"first"
        sender.result()
        assert port.receive(PATIENCE).data == b"second"

    def test_answers_always_have_room(self, world: World) -> None:
        handle = world.served(lambda message: message.data, queue_limit=1)
        for number in range(20):
            data = b"%d" % number
            assert handle.request(data, reply_timeout=PATIENCE).data == data


class TestEnding:
    def test_no_answer(self, world: World) -> None:
        handle = world.handle(world.port())
        for timeout in (0, 0.01):
            with pytest.raises(ReceiveTimeoutError) as caught:
                handle.request(b"?", reply_timeout=timeout)
            assert caught.value.code == -2

    def test_an_invalid_port(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        port.invalidate()
        assert eventually(lambda: not handle.is_valid)
        calls: list[Callable[[], object]] = [
            handle.send,
            handle.request,
            lambda: handle.send_many([b""]),
            lambda: port.receive(PATIENCE),
        ]
        for call in calls:
            with pytest.raises(InvalidPortError) as caught:
                call()
            assert caught.value.code == -3

    def test_a_port_that_becomes_invalid_fails_who_waits(self, world: World) -> None:
        port, handle = full(world)
        start = threading.Barrier(3)

        def wait(call: Callable[[], object]) -> None:
            start.wait(PATIENCE)
            call()

        waiting = [
            Background(partial(wait, call))
            for call in (
                partial(handle.send, b"", timeout=None),
                partial(handle.request, b"", send_timeout=None, reply_timeout=None),
            )
        ]
        start.wait(PATIENCE)
        receiver = world.port()
        asked = world.handle(receiver)
        asker = Background(lambda: asked.request(b"?", reply_timeout=None))
        assert eventually(lambda: receiver.pending)
        port.invalidate()
        receiver.invalidate()
        for thread in waiting:
            with pytest.raises(InvalidPortError):  # before the call, or during it
                thread.result()
        with pytest.raises(BecameInvalidError) as caught:
            asker.result()
        assert caught.value.code == -5

    def test_handlers_of_both_ends_are_called_once(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        calls: list[Port] = []
        with LoopThread() as thread:
            thread.call(port.add_invalidation_handler, calls.append)
            thread.call(handle.add_invalidation_handler, calls.append)
            port.invalidate()
            port.invalidate()
            assert eventually(lambda: len(calls) == 2)
            thread.call(lambda: None)
        assert [port in calls, handle in calls, len(calls)] == [True, True, 2]

    def test_messages_taken_before_can_be_answered(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        asker = Background(lambda: handle.request(b"?", reply_timeout=PATIENCE).data)
        message = port.receive(PATIENCE)
        message.reply(b"first")
        port.invalidate()
        assert asker.result() == b"first"


@pytest.mark.parametrize("kind", [MachPort, MessagePort, SocketPort])
def test_a_port_that_was_never_made_whole_goes_without_a_word(
    kind: type[Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a Ctrl-C in its constructor."""
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    del_it = kind.__new__(kind)
    del del_it
    with fresh_host(), pytest.raises(ValueError, match="queue_limit"):
        kind(queue_limit=0)  # type: ignore[call-arg]
    gc.collect()
    assert not heard
