"""Requests that are waited for no more: whoever holds them is told."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from threading import get_ident
from typing import Any

import pytest

from portkit import MachPort, Port, PortError, PortMessage, ReceiveTimeoutError, ReplyPort, RunLoop
from portkit._answer import Answer
from portkit._wakeup import Waiter
from tests.ports.helpers import Background, Recorder, served
from tests.support import LoopThread, Reports, run_on_thread


class Asked:
    """A request that was taken, whose requester has not given up yet."""

    def __init__(self) -> None:
        self.waiter = Waiter()
        self.answer = Answer(self.waiter)
        with MachPort() as port:
            port._post((0, (b"?",), ReplyPort(self.answer), None), 0)
            self.message = port.receive(0)

    @property
    def right(self) -> ReplyPort:
        assert isinstance(self.message.send_port, ReplyPort)
        return self.message.send_port


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.waiter.close()


def give_up(port: Port, data: Any = b"?") -> None:
    """Ask, and look once whether there is an answer."""
    with pytest.raises(ReceiveTimeoutError):
        port.request(data, reply_timeout=0)


class TestIsAbandoned:
    def test_not_before_nor_once_it_was_answered(self, asked: Asked) -> None:
        assert not asked.message.is_abandoned
        asked.message.reply(b"!")
        asked.answer.abandon()
        assert not asked.message.is_abandoned
        assert isinstance(asked.answer.outcome, tuple)

    def test_of_a_request_that_lay_unread(self) -> None:
        with MachPort() as port:
            give_up(port)
            message = port.receive(0)
            assert message.is_abandoned
            message.reply(b"goes nowhere")  # M10
            assert message.is_abandoned

    def test_of_one_that_is_deferred(self) -> None:
        kept = Recorder()

        def delegate(message: PortMessage) -> None:
            message.defer()
            kept(message)

        with served(delegate) as port:
            with pytest.raises(ReceiveTimeoutError):
                port.request(b"?", reply_timeout=0.01)
            assert kept.wait(1)
            assert kept.messages[0].is_abandoned

    def test_of_one_whose_wait_is_interrupted(self) -> None:
        class Interrupted(MachPort):
            def _await(self, answer: Answer, timeout: float | None, reply_mode: Any) -> None:
                raise KeyboardInterrupt

        with Interrupted() as port:
            with pytest.raises(KeyboardInterrupt):
                port.request(b"?")
            assert port.receive(0).is_abandoned

    def test_no_other_message_ever_is(self) -> None:
        with MachPort() as port:
            port.send(b"one way")
            port.send(b"with a port to answer to", reply_port=port)
            assert not port.receive(0).is_abandoned
            message = port.receive(0)
            assert not message.is_abandoned
            assert not port.is_abandoned
            for add in (message.add_abandon_handler, PortMessage().add_abandon_handler):
                with pytest.raises(PortError, match="one-way"):
                    add(print)


class TestHandlers:
    def test_called_once_with_the_right_to_answer(self, asked: Asked) -> None:
        told: list[Port] = []
        asked.message.add_abandon_handler(told.append)
        asked.message.add_abandon_handler(told.append)
        assert told == []
        asked.answer.abandon()
        asked.answer.abandon()
        assert told == [asked.right] * 2

    def test_at_once_where_it_is_abandoned_already(self, asked: Asked) -> None:
        told: list[Port] = []
        asked.answer.abandon()
        asked.message.add_abandon_handler(told.append)
        assert told == [asked.right]

    @pytest.mark.parametrize("how", ["reply", "drop", "fail", "hand on"])
    def test_never_once_the_request_has_gone(self, asked: Asked, how: str) -> None:
        told: list[Port] = []
        asked.message.add_abandon_handler(told.append)
        with MachPort() as port:
            match how:
                case "reply":
                    asked.message.reply(b"!")
                case "drop":
                    asked.message.drop()
                case "fail":
                    asked.right.fail(PortError("no"))
                case _:
                    port.send(b"yours", reply_port=asked.right)
            asked.answer.abandon()
            asked.message.add_abandon_handler(told.append)
            assert told == []

    def test_who_has_it_now_is_told(self, asked: Asked) -> None:
        told: list[str] = []
        with MachPort() as port:
            asked.message.add_abandon_handler(lambda port: told.append("first"))
            port.send(b"yours", reply_port=asked.right)
            message = port.receive(0)
            message.add_abandon_handler(lambda port: told.append("second"))
            asked.answer.abandon()
        assert told == ["second"]
        assert message.is_abandoned

    def test_a_request_that_could_not_be_handed_on_is_still_ones_own(self, asked: Asked) -> None:
        told: list[Port] = []
        asked.message.add_abandon_handler(told.append)
        with MachPort(queue_limit=1) as port:
            port.send(b"full")
            with pytest.raises(PortError):
                port.send(b"yours", reply_port=asked.right, timeout=0)
        asked.answer.abandon()
        assert told == [asked.right]

    def test_performed_on_the_loop_of_the_thread_that_added_it(self, asked: Asked) -> None:
        told: list[int] = []
        with LoopThread() as thread:
            thread.call(
                lambda: asked.message.add_abandon_handler(lambda port: told.append(get_ident()))
            )
            asked.answer.abandon()
            thread.call(lambda: None)
            assert told == [thread.thread.ident]

    def test_performed_on_the_loop_that_is_named(self, asked: Asked) -> None:
        told: list[int] = []
        with LoopThread() as thread:
            asked.message.add_abandon_handler(
                lambda port: told.append(get_ident()), loop=thread.loop
            )
            asked.answer.abandon()
            thread.call(lambda: None)
            assert told == [thread.thread.ident]

    def test_called_by_who_gives_up_where_there_is_no_loop(self) -> None:
        told: list[int] = []
        message = Background(Asked).result()

        def add() -> None:
            message.message.add_abandon_handler(lambda port: told.append(get_ident()))

        Background(add).result()
        message.answer.abandon()
        assert told == [get_ident()]
        message.waiter.close()

    def test_added_in_the_moment_of_giving_up(self, asked: Asked) -> None:
        """Between any two steps of who adds: it is called once all the same."""
        told: list[Port] = []

        class Handlers(list[Any]):
            def append(self, item: Any, /) -> None:
                super().append(item)
                asked.answer.abandon()

        asked.right._handlers = Handlers()
        asked.message.add_abandon_handler(told.append)
        assert told == [asked.right]

    def test_may_do_anything(self, asked: Asked) -> None:
        def handler(port: Port) -> None:
            port.send(b"late")  # goes nowhere
            asked.message.drop()

        asked.message.add_abandon_handler(handler)
        asked.answer.abandon()

    @pytest.mark.own_thread
    def test_what_one_raises_is_reported(self, asked: Asked, reports: Reports) -> None:
        told: list[Port] = []

        def handler(port: Port) -> None:
            raise LookupError

        asked.message.add_abandon_handler(handler)
        asked.message.add_abandon_handler(told.append)
        asked.answer.abandon()
        (error,) = reports.take()
        assert isinstance(error, LookupError)
        assert told

    def test_must_be_callable(self, asked: Asked) -> None:
        with pytest.raises(TypeError):
            asked.message.add_abandon_handler("no")  # type: ignore[arg-type]

    def test_keep_no_request_open(self) -> None:
        """The last reference to a request going away drops it, handlers or not."""
        asked = Asked()
        asked.message.add_abandon_handler(lambda port: None)
        del asked.message
        gc.collect()
        assert "let the request go" in str(asked.answer.outcome)
        asked.waiter.close()

    def test_one_that_holds_the_message_keeps_it_till_garbage_is_collected(self) -> None:
        asked = Asked()
        asked.message.add_abandon_handler(partial(print, asked.message))
        del asked.message
        gc.collect()
        assert "let the request go" in str(asked.answer.outcome)
        asked.waiter.close()

    def test_a_loop_that_has_ended_is_not_told(self, asked: Asked) -> None:
        def add() -> None:
            RunLoop.current()
            asked.message.add_abandon_handler(lambda port: pytest.fail("called"))

        run_on_thread(add)
        asked.answer.abandon()


def test_in_a_raw_delegate() -> None:
    told: list[Port] = []

    class Raw:
        def handle_raw_message(
            self, port: Port, msgid: int, components: Any, reply_port: ReplyPort
        ) -> bytes:
            assert reply_port.is_abandoned
            reply_port.add_abandon_handler(told.append)
            return b"late"

    with MachPort(Raw()) as port:
        give_up(port)
        port.process()
    assert len(told) == 1


def test_answering_and_giving_up_at_once() -> None:
    """Whoever is first: the handler is called if and only if the requester gave up."""
    for _ in range(200):
        asked = Asked()
        told: list[Port] = []
        asked.message.add_abandon_handler(told.append)
        calls: list[Callable[[], object]] = [
            asked.answer.abandon,
            partial(asked.message.reply, b"!"),
        ]
        for thread in [Background(call) for call in calls]:
            thread.result()
        assert bool(told) <= asked.answer.abandoned
        asked.waiter.close()
