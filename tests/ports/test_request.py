"""Requests and their one answer (CFMessagePortSendRequest, M9-M14)."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from portkit import (
    COMMON_MODES,
    DEFAULT_MODE,
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    PortError,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    ReplyPort,
    RunLoop,
    RunResult,
    SendTimeoutError,
)
from portkit._answer import Answer
from portkit._wakeup import Waiter
from tests.ports.helpers import Background, Recorder, served
from tests.support import PATIENCE, LoopThread, Reports, eventually


def ask(port: Any, data: Any = b"?", **options: Any) -> PortMessage:
    options.setdefault("reply_timeout", PATIENCE)
    message: PortMessage = port.request(data, **options)
    return message


class TestAnswers:
    @pytest.mark.parametrize(
        ("result", "components"),
        [
            (None, (b"",)),  # M11
            (b"bytes", (b"bytes",)),
            (bytearray(b"copied"), (b"copied",)),
            ([b"some", b"more"], (b"some", b"more")),
            ((), ()),
        ],
    )
    def test_what_the_delegate_returns(self, result: Any, components: tuple[bytes, ...]) -> None:
        with served(Recorder(result)) as port:
            answer = ask(port)
        assert answer.components == components
        assert answer.msgid == 0
        assert answer.send_port is None
        assert answer.receive_port is None

    def test_a_raw_delegate_answers_too(self) -> None:
        class Raw:
            def handle_raw_message(
                self, port: Any, msgid: int, components: Any, reply_port: Any
            ) -> bytes | None:
                if msgid:
                    reply_port.send(b"by hand", msgid=msgid)
                    return None
                return b"returned"

        with served(Raw()) as port:
            assert ask(port).data == b"returned"
            by_hand = ask(port, msgid=9)
            assert (by_hand.data, by_hand.msgid) == (b"by hand", 9)

    def test_reply_carries_components_and_msgid(self) -> None:
        def delegate(message: PortMessage) -> None:
            assert message.is_request
            assert message.data == b"?"
            assert message.msgid == 4
            message.reply([b"!", port], msgid=5)

        with served() as port:
            port.delegate = delegate
            answer = ask(port, msgid=4)
            assert (answer.components, answer.msgid) == ((b"!", port), 5)

    def test_a_delegate_cannot_answer_what_is_no_component(self, reports: Reports) -> None:
        with served(Recorder("text")) as port:
            with pytest.raises(ReplyDroppedError):
                ask(port)
            assert eventually(lambda: reports.records)
            (error,) = reports.take()
            assert isinstance(error, TypeError)

    def test_empty_request_data(self) -> None:
        delegate = Recorder()
        with served(delegate) as port:
            ask(port, ())
        assert delegate.messages[0].components == ()

    def test_many_requesters_get_their_own_answers(self) -> None:
        with served(lambda message: message.data) as port:

            def series(n: int) -> list[bytes | None]:
                return [ask(port, b"%d.%d" % (n, i)).data for i in range(50)]

            askers = [Background(partial(series, n)) for n in range(4)]
            for n, asker in enumerate(askers):
                assert asker.result() == [b"%d.%d" % (n, i) for i in range(50)]

    def test_answers_always_have_room(self) -> None:
        """The requester's own queue may be full, and so may the receiver's."""
        with served(lambda message: b"!", queue_limit=1) as port:
            assert [ask(port).data for _ in range(20)] == [b"!"] * 20


class TestOnlyOneAnswer:
    def test_a_second_reply_raises(self) -> None:
        errors: list[Exception] = []

        def delegate(message: PortMessage) -> None:
            message.reply(b"first")
            calls: list[Callable[[], None]] = [lambda: message.reply(b"second"), message.defer]
            for call in calls:
                with pytest.raises(PortError) as caught:
                    call()
                errors.append(caught.value)
            message.drop()

        with served(delegate) as port:
            assert ask(port).data == b"first"
        assert len(errors) == 2
        assert "answered" in str(errors[0])

    def test_replying_and_returning_is_reported(self, reports: Reports) -> None:
        def delegate(message: PortMessage) -> bytes:
            message.reply(b"replied")
            return b"returned"

        with served(delegate) as port:
            assert ask(port).data == b"replied"
            assert eventually(lambda: reports.records)
            (error,) = reports.take()
            assert isinstance(error, PortError)

    def test_two_threads_at_once(self) -> None:
        """Exactly one of them has answered, the other is told."""

        def answer(message: PortMessage, start: threading.Barrier, data: bytes) -> bytes | None:
            start.wait(PATIENCE)
            try:
                message.reply(data)
            except PortError:
                return None
            return data

        with MachPort() as port:
            for _ in range(50):
                asker = Background(lambda: ask(port).data)
                message = port.receive(PATIENCE)
                start = threading.Barrier(2)
                threads = [Background(partial(answer, message, start, d)) for d in (b"a", b"b")]
                given = [thread.result() for thread in threads]
                assert given.count(None) == 1
                assert asker.result() in given


class TestDeferred:
    def test_answer_comes_later_from_anywhere(self) -> None:
        kept: list[PortMessage] = []

        def delegate(message: PortMessage) -> None:
            message.defer()
            kept.append(message)

        with served(delegate) as port:
            asker = Background(lambda: ask(port).data)
            assert eventually(lambda: kept)
            Background(lambda: kept.pop().reply(b"later")).result()
            assert asker.result() == b"later"

    def test_deferred_and_returned_is_answered(self) -> None:
        def delegate(message: PortMessage) -> bytes:
            message.defer()
            return b"now after all"

        with served(delegate) as port:
            assert ask(port).data == b"now after all"

    def test_answer_after_invalidation_of_the_port(self) -> None:
        """Messages already taken can still be answered."""
        kept: list[PortMessage] = []

        def delegate(message: PortMessage) -> None:
            message.defer()
            kept.append(message)
            port.invalidate()

        with served() as port:
            port.delegate = delegate
            asker = Background(lambda: ask(port).data)
            assert eventually(lambda: kept)
            assert eventually(lambda: not port.is_valid)
            kept.pop().reply(b"still")
            assert asker.result() == b"still"


def raise_error(message: PortMessage) -> None:
    raise LookupError("mine")


def drop(message: PortMessage) -> None:
    message.drop()


def defer_and_forget(message: PortMessage) -> None:
    message.defer()


def defer_in_a_cycle(message: PortMessage) -> None:
    message.defer()
    cycle: list[Any] = [message]
    cycle.append(cycle)


def defer_and_drop(message: PortMessage) -> None:
    message.defer()
    message.drop()


def invalidate_the_right(message: PortMessage) -> None:
    assert message.send_port is not None
    with message.send_port:
        assert message.send_port.is_valid
    assert not message.send_port.is_valid


class TestDropped:
    @pytest.mark.parametrize(
        "delegate",
        [
            raise_error,
            drop,
            defer_and_forget,
            defer_in_a_cycle,
            defer_and_drop,
            invalidate_the_right,
            None,
        ],
    )
    def test_the_requester_is_told_at_once(
        self, delegate: Callable[[PortMessage], None] | None, reports: Reports
    ) -> None:
        with LoopThread() as thread, MachPort(delegate) as port:
            thread.loop.add_port(port)
            asker = Background(lambda: ask(port))
            if delegate is defer_in_a_cycle:
                # Once more until it is there to be collected.
                assert eventually(lambda: thread.call(gc.collect) < 0 or not asker.is_alive())
            with pytest.raises(ReplyDroppedError) as caught:
                asker.result()
            assert not isinstance(caught.value, TimeoutError)
        if delegate in (raise_error, None):
            assert len(reports.take()) == 1

    def test_dropping_twice_or_late_is_nothing(self) -> None:
        with MachPort() as port:
            asker = Background(lambda: ask(port))
            message = port.receive(PATIENCE)
            message.drop()
            message.drop()
            with pytest.raises(ReplyDroppedError):
                asker.result()
            with pytest.raises(PortError):
                message.defer()

    def test_an_envelope_that_goes_unread_drops_its_request(self) -> None:
        with MachPort() as port:
            asker = Background(lambda: ask(port))
            assert eventually(lambda: port.pending)
            port._mailbox.queue.clear()
            with pytest.raises(ReplyDroppedError):
                asker.result()


class TestTimeouts:
    def test_send_timeout(self) -> None:
        with MachPort(queue_limit=1) as port:
            port.send()
            with pytest.raises(SendTimeoutError) as caught:
                port.request(send_timeout=0.01)
            assert caught.value.code == -1
            assert port.pending == 1

    @pytest.mark.parametrize("timeout", [0, -1, 0.02])
    def test_reply_timeout(self, timeout: float) -> None:
        with MachPort() as port:
            with pytest.raises(ReceiveTimeoutError) as caught:
                port.request(b"?", reply_timeout=timeout)
            assert caught.value.code == -2
            assert port.pending == 1  # it was accepted all the same

    def test_late_answers_are_discarded(self) -> None:
        """M10: a request that timed out never poisons the next one."""
        with MachPort() as port:
            for _ in range(3):
                with pytest.raises(ReceiveTimeoutError):
                    port.request(b"old", reply_timeout=0)
            asker = Background(lambda: ask(port, b"new").data)
            assert eventually(lambda: port.pending == 4)
            for _ in range(3):
                message = port.receive(0)
                assert message.send_port is not None
                assert not message.send_port.is_valid
                message.reply(b"late")
                with pytest.raises(PortError):
                    message.reply(b"and twice")
            port.receive(0).reply(b"right")
            assert asker.result() == b"right"

    def test_same_thread_asks_again_after_a_time_out(self) -> None:
        kept: list[PortMessage] = []

        def delegate(message: PortMessage) -> bytes | None:
            if message.data == b"slow":
                message.defer()
                kept.append(message)
                return None
            if kept:
                kept.pop().reply(b"late")
            return b"right"

        with served(delegate) as port:
            with pytest.raises(ReceiveTimeoutError):
                port.request(b"slow", reply_timeout=0.01)
            assert eventually(lambda: kept)
            assert ask(port, b"quick").data == b"right"

    def test_invalid_port(self) -> None:
        port = MachPort()
        port.invalidate()
        with pytest.raises(InvalidPortError) as caught:
            port.request(b"?")
        assert caught.value.code == -3

    @pytest.mark.parametrize("blocked_in", ["send", "reply"])
    def test_port_that_becomes_invalid(self, blocked_in: str) -> None:
        with MachPort(queue_limit=1) as port:
            if blocked_in == "send":
                port.send()
            asker = Background(lambda: ask(port, send_timeout=None, reply_timeout=None))
            assert eventually(
                lambda: port._mailbox.senders or (port.pending and not port.is_remote)
            )
            if blocked_in == "send":
                assert eventually(lambda: port._mailbox.senders)
            port.invalidate()
            with pytest.raises(BecameInvalidError) as caught:
                asker.result()
            assert caught.value.code == -5

    @pytest.mark.parametrize("requester_first", [True, False])
    def test_outcome_and_time_out_in_the_same_moment(self, requester_first: bool) -> None:
        """The requester may give up between any two steps of who settles."""
        waiter = Waiter()
        answer = Answer(waiter)
        right = (0, (), None, None)

        class Outcomes(list[Any]):
            def append(self, item: Any, /) -> None:
                if requester_first and not self:
                    super().append(ReceiveTimeoutError("gave up"))
                super().append(item)
                if not requester_first:
                    assert answer.result(0) == right

        answer._outcomes = Outcomes()
        assert answer.settle(right) is not requester_first
        assert answer.abandoned is requester_first
        if requester_first:
            with pytest.raises(ReceiveTimeoutError):
                answer.result(0)
        else:
            assert answer.result(0) == right
        waiter.close()


@pytest.mark.own_thread
class TestReplyMode:
    def test_only_the_waiting_loop_serves_the_port(self) -> None:
        loop = RunLoop.current()
        with MachPort(Recorder()) as port:
            loop.add_port(port, "special")
            for reply_mode in (None, DEFAULT_MODE):
                with pytest.raises(PortError, match="reply_mode") as caught:
                    port.request(b"?", reply_mode=reply_mode)
                assert "special" in str(caught.value)
            assert port.pending == 0

    def test_same_thread_echo(self) -> None:
        """M9."""
        loop = RunLoop.current()
        with MachPort(lambda message: message.data) as port:
            loop.add_port(port, "special")
            assert ask(port, b"echo", reply_mode="special").data == b"echo"

    def test_nothing_else_runs_during_the_wait(self) -> None:
        loop = RunLoop.current()
        events: list[str] = []
        with served(Recorder(b"!")) as other, MachPort(lambda m: events.append("mine")) as mine:
            loop.add_port(mine)
            mine.send()
            loop.perform(events.append, "block")
            ask(other)
            ask(other, reply_mode="private")
            assert events == []
            loop.run(0)
            assert sorted(events) == ["block", "mine"]

    def test_the_mode_is_served_during_the_wait(self) -> None:
        loop = RunLoop.current()
        events: list[str] = []
        kept: list[PortMessage] = []

        def slow(message: PortMessage) -> None:
            message.defer()
            kept.append(message)
            mine.send()

        def on_mine(message: PortMessage) -> None:
            events.append("mine")
            assert loop.current_mode == "special"
            kept.pop().reply(b"!")

        with served(slow) as other, MachPort(on_mine) as mine:
            loop.add_port(mine, "special")
            assert ask(other, reply_mode="special").data == b"!"
            assert events == ["mine"]
            assert loop.current_mode is None

    def test_a_to_b_to_a(self) -> None:
        """A asks B, which asks A back before it answers."""
        with MachPort() as a, served() as b:

            def on_a(message: PortMessage) -> bytes:
                assert message.data == b"b asks"
                return b"a answers"

            def on_b(message: PortMessage) -> bytes | None:
                assert message.data == b"a asks"
                return ask(a, b"b asks").data

            a.delegate = on_a
            b.delegate = on_b
            RunLoop.current().add_port(a)
            assert ask(b, b"a asks", reply_mode=DEFAULT_MODE).data == b"a answers"

    def test_a_to_b_to_a_many_deep(self) -> None:
        depth = 10
        with MachPort() as a, served() as b:

            def bounce(other: MachPort, message: PortMessage) -> bytes:
                count = int(message.data or b"0")
                if count == depth:
                    return b"deep"
                answer = ask(other, b"%d" % (count + 1), reply_mode=DEFAULT_MODE)
                return answer.data or b""

            a.delegate = lambda message: bounce(b, message)
            b.delegate = lambda message: bounce(a, message)
            RunLoop.current().add_port(a)
            assert ask(b, b"0", reply_mode=DEFAULT_MODE).data == b"deep"

    def test_a_to_b_to_a_without_a_reply_mode_times_out(self, reports: Reports) -> None:
        with (
            MachPort(Recorder(b"never")) as a,
            served(lambda message: ask(a, reply_timeout=0.02).data) as b,
        ):
            RunLoop.current().add_port(a)
            with pytest.raises(ReplyDroppedError):
                ask(b)
            assert eventually(lambda: reports.records)
            (error,) = reports.take()
            assert isinstance(error, ReceiveTimeoutError)

    @pytest.mark.parametrize("reply_mode", [None, "private"])
    def test_stop_during_the_wait_ends_the_run_around_it(self, reply_mode: str | None) -> None:
        loop = RunLoop.current()
        answers: list[bytes | None] = []

        def slow(message: PortMessage) -> bytes:
            assert eventually(lambda: reply_mode is None or loop.current_mode == reply_mode)
            loop.stop()
            return b"!"

        def on_mine(message: PortMessage) -> None:
            answers.append(ask(other, reply_mode=reply_mode).data)

        with served(slow) as other, MachPort(on_mine) as mine:
            loop.add_port(mine)
            mine.send()
            mine.send()
            assert loop.run(PATIENCE) is RunResult.STOPPED
            assert answers == [b"!"]  # it went on to its answer, and the second was not begun

    @pytest.mark.parametrize(
        ("reply_mode", "error"),
        [(COMMON_MODES, ValueError), ("", ValueError), (5, TypeError), (b"default", TypeError)],
    )
    def test_must_be_a_mode_that_can_be_run(self, reply_mode: Any, error: type[Exception]) -> None:
        """R3; before anything is sent."""
        with MachPort() as port:
            with pytest.raises(error):
                port.request(b"?", reply_mode=reply_mode, reply_timeout=0)
            assert port.pending == 0
            assert RunLoop.current().modes == [DEFAULT_MODE]

    @pytest.mark.parametrize("timeout", [0, 0.02])
    def test_times_out(self, timeout: float) -> None:
        """M14: with 0 the mode is polled once."""
        with MachPort() as port, pytest.raises(ReceiveTimeoutError):
            port.request(b"?", reply_mode="private", reply_timeout=timeout)

    def test_port_that_becomes_invalid(self) -> None:
        with MachPort() as port:

            def end() -> None:
                assert eventually(lambda: port.pending)
                port.invalidate()

            helper = Background(end)
            with pytest.raises(BecameInvalidError):
                ask(port, reply_mode="private")
            helper.result()


class TestReplyPort:
    """Mach's send-once right."""

    def taken(self, port: MachPort) -> tuple[Background, ReplyPort]:
        asker = Background(lambda: ask(port))
        reply_port = port.receive(PATIENCE).send_port
        assert isinstance(reply_port, ReplyPort)
        return asker, reply_port

    def test_only_sends(self) -> None:
        with MachPort() as port:
            modes = RunLoop.current().modes
            asker, right = self.taken(port)
            assert right.is_valid
            assert right.is_remote
            assert (right.name, right.address, right.delegate) == (None, None, None)
            assert (right.queue_limit, right.pending) == (0, 0)
            calls: list[Callable[[], object]] = [
                lambda: right.receive(0),
                right.fileno,
                right.process,
                lambda: RunLoop.current().add_port(right),
                lambda: setattr(right, "delegate", Recorder()),
                lambda: right.add_no_senders_handler(print),
                lambda: right.add_invalidation_handler(print),
            ]
            for call in calls:
                with pytest.raises(PortError):
                    call()
            assert RunLoop.current().modes == modes
            right.send(b"still usable")
            assert asker.result().data == b"still usable"
            assert not right.is_valid

    def test_handed_on_as_a_component(self) -> None:
        with MachPort() as port, MachPort() as office:
            asker, right = self.taken(port)
            office.send([b"answer this", right])
            del right
            gc.collect()
            (arrived,) = office.receive(0).ports
            arrived.send(b"from the office")
            assert asker.result().data == b"from the office"

    def test_handed_on_as_the_reply_port(self) -> None:
        with MachPort() as port, served(lambda message: b"from " + (message.data or b"")) as office:
            asker, right = self.taken(port)
            office.send(b"the office", reply_port=right)
            del right
            assert asker.result().data == b"from the office"

    @pytest.mark.parametrize("deferred", [False, True])
    def test_handed_on_by_a_delegate_it_is_the_other_ones_to_answer(self, deferred: bool) -> None:
        """The right moves with the message, as in Mach; None answers with empty data (M11)."""
        asked = Recorder()
        with served(asked) as office:

            def hand_on(message: PortMessage) -> None:
                if deferred:
                    message.defer()
                office.send(message.components, reply_port=message.send_port)
                assert message.send_port is not None
                assert not message.send_port.is_valid

            with served(hand_on) as front:
                assert ask(front, b"question").data == b""
        assert asked.data == [b"question"]

    def test_what_could_not_be_handed_on_is_still_here(self) -> None:
        with MachPort() as port, MachPort(queue_limit=1) as office:
            asker, right = self.taken(port)
            office.send(b"full")
            with pytest.raises(SendTimeoutError):
                office.send(reply_port=right, timeout=0)
            right.send(b"by the first")
            assert asker.result().data == b"by the first"
            with pytest.raises(PortError, match="before"):
                port.send(reply_port=right)
            with pytest.raises(ValueError, match="send_many"):
                port.send_many([PortMessage(receive_port=right)])

    @pytest.mark.parametrize("how", ["received and let go", "invalidated", "port collected"])
    def test_lost_on_the_way(self, how: str) -> None:
        with MachPort() as port:
            office = MachPort()
            asker, right = self.taken(port)
            office.send([right])
            del right
            if how == "received and let go":
                office.receive(0)
            elif how == "invalidated":
                office.invalidate()
            office = MachPort()
            gc.collect()
            with pytest.raises(ReplyDroppedError):
                asker.result()
            office.invalidate()

    def test_answer_that_asks_back(self) -> None:
        """An answer may itself be a request: the requester gets a right to answer it."""
        with MachPort() as port:
            conversation = Background(lambda: ask(port).reply(b"third"))
            message = port.receive(PATIENCE)
            assert message.send_port is not None
            assert ask(message.send_port, b"second").data == b"third"
            conversation.result()
