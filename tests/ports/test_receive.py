"""Blocking receive on threads without a run loop, and the rule of one consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from portkit import (
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    PortError,
    ReceiveTimeoutError,
    RunLoop,
)
from tests.ports.helpers import Background, Recorder, served
from tests.support import PATIENCE, LoopThread, eventually


def receiving(port: MachPort) -> Background:
    """A thread that waits at the port."""
    thread = Background(lambda: port.receive(PATIENCE).data)
    assert eventually(lambda: port._receiver)
    return thread


class TestReceive:
    def test_takes_in_order(self) -> None:
        with MachPort() as port:
            port.send_many([b"1", b"2", b"3"])
            assert [port.receive(0).data for _ in range(3)] == [b"1", b"2", b"3"]

    def test_waits_for_a_message(self) -> None:
        with MachPort() as port:
            waiting = receiving(port)
            port.send(b"!")
            assert waiting.result() == b"!"

    @pytest.mark.parametrize("timeout", [0, -1, 0.01])
    def test_times_out(self, timeout: float) -> None:
        with MachPort() as port:
            with pytest.raises(ReceiveTimeoutError) as caught:
                port.receive(timeout)
            assert caught.value.code == -2
            port.send(b"!")
            assert port.receive(timeout).data == b"!"

    def test_delegate_is_not_asked(self) -> None:
        delegate = Recorder()
        with MachPort(delegate) as port:
            port.send()
            port.receive(0)
        assert delegate.messages == []

    def test_invalid_before_the_call(self) -> None:
        port = MachPort()
        port.invalidate()
        with pytest.raises(InvalidPortError) as caught:
            port.receive(PATIENCE)
        assert type(caught.value) is InvalidPortError

    def test_invalidated_while_it_waits(self) -> None:
        with MachPort() as port:
            waiting = receiving(port)
            port.invalidate()
            with pytest.raises(BecameInvalidError):
                waiting.result()

    def test_request_and_receive(self) -> None:
        with MachPort() as port:
            asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
            with port.receive(PATIENCE) as message:
                message.reply(b"!")
            assert asker.result() == b"!"

    def test_ping_pong_between_two_threads(self) -> None:
        with MachPort() as here, MachPort() as there:

            def echo() -> None:
                for _ in range(200):
                    there.receive(PATIENCE).reply(b"pong")

            other = Background(echo)
            for _ in range(200):
                there.send(b"ping", reply_port=here)
                assert here.receive(PATIENCE).data == b"pong"
            other.result()

    def test_room_made_wakes_a_blocked_sender(self) -> None:
        with MachPort(queue_limit=1) as port:
            port.send(b"1")
            sender = Background(lambda: port.send(b"2", timeout=None))
            assert eventually(lambda: port._mailbox.senders)
            assert port.receive(0).data == b"1"
            sender.result()
            assert port.receive(0).data == b"2"

    def test_works_on_a_thread_whose_loop_serves_other_ports(self) -> None:
        with LoopThread() as thread, MachPort() as port:
            port.send(b"!")
            assert thread.call(port.receive, 0).data == b"!"


CONSUMERS: dict[str, Callable[[MachPort], object]] = {
    "this loop": lambda port: RunLoop.current().add_port(port),
    "receive": lambda port: port.receive(0),
    "fileno": lambda port: port.fileno(),
    "process": lambda port: port.process(),
}


class TestOneConsumer:
    @pytest.mark.parametrize("other", CONSUMERS.values(), ids=CONSUMERS)
    def test_beside_another_threads_loop(self, other: Callable[[MachPort], object]) -> None:
        delegate = Recorder()
        with served(delegate) as port:
            with pytest.raises(PortError, match="'loop'"):  # the thread's name
                other(port)
            port.send(b"!")
            assert delegate.wait(1)

    @pytest.mark.own_thread
    @pytest.mark.parametrize("other", list(CONSUMERS)[1:])
    def test_beside_this_threads_loop(self, other: str) -> None:
        with MachPort(Recorder()) as port:
            RunLoop.current().add_port(port)
            with pytest.raises(PortError, match="run loop"):
                CONSUMERS[other](port)

    @pytest.mark.parametrize("other", CONSUMERS.values(), ids=CONSUMERS)
    def test_beside_a_thread_in_receive(self, other: Callable[[MachPort], object]) -> None:
        with MachPort(Recorder()) as port:
            waiting = receiving(port)
            with pytest.raises(PortError, match="receive"):
                other(port)
            port.send(b"!")
            assert waiting.result() == b"!"
            port.send(b"free again")
            assert port.receive(0).data == b"free again"

    @pytest.mark.parametrize("other", ["this loop", "receive"])
    def test_beside_a_foreign_loop(self, other: str) -> None:
        delegate = Recorder()
        with MachPort(delegate) as port:
            port.fileno()
            with pytest.raises(PortError, match="fileno"):
                CONSUMERS[other](port)
            assert not RunLoop.current().contains_port(port)
            port.send(b"!")
            assert port.process() == 1

    def test_one_after_the_other(self) -> None:
        delegate = Recorder()
        with served(delegate) as port:
            loop = port._loop
            assert loop is not None
            port.send(b"1")
            assert delegate.wait(1)
            loop.remove_port(port)
            port.send(b"2")
            assert port.receive(0).data == b"2"
            loop.add_port(port)
            port.send(b"3")
            assert delegate.wait(2)
            loop.remove_port(port)
            port.send(b"4")
            assert port.process() == 1

    def test_from_one_loop_to_another(self) -> None:
        """What lies there, and what comes meanwhile, goes to the next loop."""
        idents: list[int] = []
        with (
            LoopThread() as first,
            LoopThread() as second,
            MachPort(lambda message: idents.append(threading.get_ident())) as port,
        ):
            first.loop.add_port(port)
            port.send()
            assert eventually(lambda: len(idents) == 1)
            first.loop.remove_port(port)
            port.send()
            second.loop.add_port(port)
            assert eventually(lambda: len(idents) == 2)
            assert idents == [first.loop.ident, second.loop.ident]
