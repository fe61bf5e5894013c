"""Hooks are called around every send and delivery, give messages headers, and break nothing."""

from __future__ import annotations

import contextvars
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import monotonic
from types import FrameType
from typing import Any

import pytest

import portkit
from portkit import (
    DEFAULT_MODE,
    Hook,
    InvalidPayloadError,
    MachPort,
    MessagePort,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    SendTimeoutError,
    SocketPort,
    hooks,
)
from portkit.hooks import HEADERS_LIMIT, Kind, Outgoing, size_of
from portkit.link.frames import MAX_HEADERS
from portkit.typed import Payload
from tests.observability.helpers import Seen, hooked
from tests.ports.helpers import Background, Recorder, in_child, in_finalizer, interrupt, served
from tests.support import PATIENCE, LoopThread, Reports, eventually


class Job(Payload, msgid=7):
    text: str


def deliver(port: MachPort) -> None:
    """Deliver what is there, on this thread."""
    port.fileno()
    while port.pending:
        port.process()


@pytest.fixture
def port() -> Iterator[MachPort]:
    with MachPort() as port:
        yield port


# Sending.


def test_around_a_send(port: MachPort) -> None:
    seen = Seen()
    with hooked(seen):
        port.send([b"abc", b"de"], msgid=5)
    assert seen.events == ["+send", "-send"]
    (outgoing,) = seen.outgoing
    assert (outgoing.port, outgoing.kind, outgoing.msgid, outgoing.count, outgoing.size) == (
        port, Kind.SEND, 5, 1, 5,
    )  # fmt: skip
    assert "send" in repr(outgoing)


def test_a_send_that_fails_is_left_with_its_error() -> None:
    seen = Seen()
    with MachPort(queue_limit=1) as port, hooked(seen):
        port.send(b"1")
        with pytest.raises(SendTimeoutError):
            port.send(b"2", timeout=0)
    assert seen.events == ["+send", "-send", "+send", "-send SendTimeoutError"]


def test_wrong_arguments_are_no_send(port: MachPort) -> None:
    seen = Seen()
    with hooked(seen), pytest.raises(TypeError):
        port.send("text")  # type: ignore[arg-type]
    assert seen.events == []


def test_around_a_request_until_its_answer() -> None:
    seen = Seen()
    with served(lambda message: b"answer") as port, hooked(seen):
        answer = port.request(b"question", msgid=3)
    assert eventually(lambda: len(seen.events) == 6)
    assert seen.events[:3] == ["+request", "+deliver", "+answer"]
    ends = [event for event in seen.events if event != "-request"]  # on the other thread
    assert ends[3:] == ["-answer", "-deliver"]
    request, reply = seen.outgoing
    assert request.answer is answer
    assert request.msgid == 3
    assert size_of(answer) == 6
    assert reply.kind is Kind.ANSWER


def test_around_a_request_that_gets_no_answer(port: MachPort) -> None:
    seen = Seen()
    with hooked(seen), pytest.raises(ReceiveTimeoutError):
        port.request(b"", reply_timeout=0)
    assert seen.events == ["+request", "-request ReceiveTimeoutError"]


def test_an_answer_that_is_not_understood_is_an_error_of_the_request() -> None:
    seen = Seen()
    answering = served(lambda message: b"no JSON")
    with answering as port, hooked(seen), pytest.raises(InvalidPayloadError):
        port.request(b"", reply=Job)
    assert "-request InvalidPayloadError" in seen.events


def test_around_many_at_once(port: MachPort) -> None:
    seen = Seen(key="value")
    with hooked(seen):
        assert port.send_many([b"a", b"bc", PortMessage(None, None, b"def", 4)]) == 3
        assert port.send_many([PortMessage(msgid=6), PortMessage(msgid=6)]) == 2
        assert port.send_many([]) == 0
    first, second = seen.outgoing
    assert (first.count, first.size, first.msgid) == (3, 6, None)
    assert (second.count, second.size, second.msgid) == (2, 0, 6)
    arrived = [port.receive(0) for _ in range(5)]
    assert [dict(message.headers) for message in arrived] == [{"key": "value"}] * 5
    assert [message.data for message in arrived[:3]] == [b"a", b"bc", b"def"]


def test_a_payload_by_reference_has_no_size_yet(port: MachPort) -> None:
    seen = Seen(key="value")
    job = Job(text="x")
    with hooked(seen):
        port.send(job)
        assert seen.outgoing[0].size is None
        assert seen.outgoing[0].msgid == 7
        message = port.receive(0)
    assert size_of(message) is None
    assert message.body is job  # headers or not, nothing was encoded
    assert message.headers == {"key": "value"}


def test_around_a_deferred_answer_and_a_request_handed_on() -> None:
    seen = Seen()
    kept: list[PortMessage] = []

    def hand_on(message: PortMessage) -> None:
        message.defer()
        last.send(message.components, reply_port=message.send_port)

    def keep(message: PortMessage) -> None:
        message.defer()
        kept.append(message)
        threading.Timer(0, lambda: kept.pop().reply(b"late")).start()

    with served(keep) as last, served(hand_on) as first, hooked(seen):
        assert first.request(b"").data == b"late"
    assert seen.events[:3] == ["+request", "+deliver", "+send"]
    assert "+answer" in seen.events


# Delivering.


@pytest.mark.parametrize("is_raw", [False, True])
def test_around_a_delegate(port: MachPort, is_raw: bool) -> None:
    seen = Seen()
    handled: list[Any] = []

    class Raw:
        def handle_raw_message(self, port: Port, msgid: int, parts: Any, reply: Any) -> None:
            seen.note(f"raw {msgid} {parts[0]!r}")

    port.delegate = Raw() if is_raw else lambda message: seen.note(f"handled {message.data!r}")
    with hooked(seen):
        port.send(b"x", msgid=2)
        deliver(port)
    assert handled == []
    middle = "raw 2 b'x'" if is_raw else "handled b'x'"
    assert seen.events == ["+send", "-send", "+deliver", middle, "-deliver"]


def test_a_delegate_that_raises_is_seen_and_reported_as_always(reports: Reports) -> None:
    seen = Seen()

    def fail(message: PortMessage) -> None:
        raise ValueError

    with served(fail) as port, hooked(seen), pytest.raises(ReplyDroppedError):
        port.request(b"")
    assert "-deliver ValueError" in seen.events
    assert [type(error) for error in reports.take()] == [ValueError]


def test_an_answer_that_is_none_is_an_error_of_the_delivery(reports: Reports) -> None:
    seen = Seen()
    with served(lambda message: 17) as port, hooked(seen), pytest.raises(ReplyDroppedError):
        port.request(b"")
    assert "-deliver TypeError" in seen.events
    assert len(reports.take()) == 1


def test_an_answer_that_is_to_be_awaited_is_told_of_as_always(
    port: MachPort, reports: Reports
) -> None:
    async def handle(message: PortMessage) -> None: ...

    port.delegate = handle
    with hooked(Seen()):
        port.send(b"")
        deliver(port)
    (error,) = reports.take()
    assert "portkit.aio" in str(error)


def test_a_payload_that_cannot_be_encoded_for_a_raw_delegate_is_dropped(
    port: MachPort, reports: Reports
) -> None:
    """Once, with hooks or without: it would come again for ever if it were put back."""

    class Raw:
        def handle_raw_message(self, *fields: object) -> None:
            raise AssertionError

    class Odd(Payload, msgid=8):
        anything: Any

    port.delegate = Raw()
    for hook in (Seen(key="value"), Hook()):
        with hooked(hook):
            port.send(Odd(anything=object()))
            deliver(port)
        port.send(Odd(anything=object()))
        deliver(port)
    assert [type(error) for error in reports.take()] == [InvalidPayloadError] * 4


def test_a_message_with_headers_shows_its_components(port: MachPort) -> None:
    with hooked(Seen(key="value")):
        port.send([b"abc", b""])
        port.send(Job(text="secret"))
    assert "[3 bytes, 0 bytes]" in repr(port.receive(0))
    assert "[Job]" in repr(port.receive(0))


def test_a_port_without_a_delegate_says_so(port: MachPort, reports: Reports) -> None:
    seen = Seen()
    with hooked(seen):
        port.send(b"")
        deliver(port)
    assert "+deliver" not in seen.events
    assert "delegate" in str(reports.take()[0])


def test_in_the_context_of_the_delegate() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    found: list[str] = []

    class Setting(Hook):
        def delivering(self, port: Port, message: PortMessage) -> AbstractContextManager[object]:
            found.append(variable.get())
            variable.set("by the hook")
            return nullcontext()

    def with_variable() -> MachPort:
        variable.set("registered")
        return MachPort(lambda message: found.append(variable.get()))

    with contextvars.copy_context().run(with_variable) as port, hooked(Setting()):
        port.send(b"")
        deliver(port)
    assert found == ["registered", "by the hook"]
    assert variable.get() == "unset"


def test_receive_is_told_of(port: MachPort) -> None:
    seen = Seen(key="value")
    with hooked(seen):
        port.send(b"x", msgid=9)
        message = port.receive(0)
    assert seen.events == ["+send", "-send", "received 9"]
    assert message.headers == {"key": "value"}


# Headers.


def test_headers_of_requests_and_answers_over_a_link() -> None:
    """And beside a reply port, descriptors or not, data in line or out of it."""
    found: list[dict[str, str]] = []

    def answer(message: PortMessage) -> list[bytes]:
        found.append(dict(message.headers))
        if not message.is_request:
            message.reply([b"two", b"components"])
        return [b"two", b"components"]

    with LoopThread() as thread, SocketPort(delegate=answer) as port, MachPort() as mine:
        thread.loop.add_port(port)
        with SocketPort.remote("127.0.0.1", port.number) as remote, hooked(Seen(key="value")):
            answers = [
                remote.request(b"small"),
                remote.request([b"x" * 100_000, mine, b""]),
                remote.request(Job(text="payload"), msgid=7),
            ]
            remote.send(b"x", reply_port=mine)
            assert [mine.receive(PATIENCE).components] == [(b"two", b"components")]
    assert [message.headers for message in answers] == [{"key": "value"}] * 3
    assert [message.components for message in answers] == [(b"two", b"components")] * 3
    assert found == [{"key": "value"}] * 4


def test_headers_of_several_hooks_and_of_a_message_sent_on(port: MachPort) -> None:
    inner, outer = Seen(a="inner", b="inner"), Seen(a="outer")
    with hooked(outer, inner):
        port.send(b"")
    message = port.receive(0)
    assert message.headers == {"a": "inner", "b": "inner"}
    message.send_port = port
    with hooked(outer):
        message.send()
    assert port.receive(0).headers == {"a": "outer", "b": "inner"}
    message.send()
    assert port.receive(0).headers == {"a": "inner", "b": "inner"}


def test_headers_set_when_entered(port: MachPort) -> None:
    class Late(Hook):
        @contextmanager
        def sending(self, outgoing: Outgoing) -> Iterator[None]:
            outgoing.headers["late"] = "yes"
            yield

    with hooked(Late()):
        port.send(b"")
    assert port.receive(0).headers == {"late": "yes"}


@pytest.mark.parametrize(
    "headers",
    [
        {"key": 7},
        {7: "value"},
        {"key": None},
        {"long": "x" * 5000},
        {"wide": "\U0001f600" * 400},
        {"key": "\ud800"},
        {"\udfff": "value"},
    ],
)
def test_headers_that_cannot_travel_are_left_out(
    port: MachPort, reports: Reports, headers: dict[Any, Any]
) -> None:
    good = Seen(good="yes")
    bad = Seen()
    bad.headers = headers
    with hooked(good, bad, Seen(last="yes")):
        port.send(b"x")
    message = port.receive(0)
    assert message.data == b"x"
    assert message.headers == {"good": "yes", "last": "yes"}
    assert len(reports.take()) == 1


def test_long_headers_that_can_travel(port: MachPort) -> None:
    with hooked(Seen(long="x" * 4000)):
        port.send(b"")
    assert len(port.receive(0).headers["long"]) == 4000
    assert HEADERS_LIMIT == MAX_HEADERS


# Hooks that go wrong.


class Failing(Hook):
    """Raises where it is told to."""

    def __init__(self, *where: str) -> None:
        self.where = where
        self.left = 0

    def _fail(self, where: str) -> None:
        if where in self.where:
            raise LookupError(where)

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        self._fail(f"enter {what}")
        try:
            yield
        finally:
            self.left += 1
            self._fail(f"leave {what}")

    def sending(self, outgoing: Outgoing) -> AbstractContextManager[object]:
        self._fail("sending")
        return self._around("sending")

    def delivering(self, port: Port, message: PortMessage) -> AbstractContextManager[object]:
        self._fail("delivering")
        return self._around("delivering")

    def received(self, port: Port, message: PortMessage) -> None:
        self._fail("received")


@pytest.mark.parametrize(
    "where",
    ["sending", "enter sending", "leave sending", "delivering", "enter delivering",
     "leave delivering"],
)  # fmt: skip
def test_one_that_raises_is_reported_and_breaks_nothing(
    port: MachPort, reports: Reports, where: str
) -> None:
    outer, inner, delegate = Seen(), Seen(), Recorder()
    port.delegate = delegate
    with hooked(outer, Failing(where), inner):
        port.send(b"1")
        deliver(port)
    assert delegate.data == [b"1"]
    assert outer.events == inner.events == ["+send", "-send", "+deliver", "-deliver"]
    assert [str(error) for error in reports.take()] == [where]


def test_one_that_raises_when_told_of_receive(port: MachPort, reports: Reports) -> None:
    with hooked(Failing("received")):
        port.send(b"1")
        assert port.receive(0).data == b"1"
    assert len(reports.take()) == 1


def test_errors_of_the_message_win_over_those_of_hooks(reports: Reports) -> None:
    seen = Seen()
    with MachPort(queue_limit=1) as port, hooked(seen, Failing("leave sending")):
        port.send(b"")
        with pytest.raises(SendTimeoutError):
            port.send(b"", timeout=0)
    assert seen.events[-1] == "-send SendTimeoutError"
    assert len(reports.take()) == 2


def test_one_cannot_swallow_an_error(port: MachPort) -> None:
    class Swallowing(Hook):
        @contextmanager
        def sending(self, outgoing: Outgoing) -> Iterator[None]:
            try:
                yield
            except ReceiveTimeoutError:
                pass

    with hooked(Swallowing()), pytest.raises(ReceiveTimeoutError):
        port.request(b"", reply_timeout=0)


def test_what_is_no_hook_is_refused() -> None:
    with pytest.raises(TypeError, match="subclass"):
        portkit.add_hook(lambda: None)  # type: ignore[arg-type]


# Hooks that send.


def test_what_a_hook_sends_is_not_observed(port: MachPort) -> None:
    seen = Seen()

    class Telling(Hook):
        def sending(self, outgoing: Outgoing) -> None:
            port.send(b"told of a send")

        def delivering(self, port_: Port, message: PortMessage) -> None:
            port.send(b"told of a delivery")

    with MachPort(lambda message: None) as other, hooked(seen, Telling()):
        other.send(b"")
        deliver(other)
        assert port.pending == 2
        port.receive(0)
    assert seen.events == ["+send", "-send", "+deliver", "-deliver"]


def test_nor_what_its_receiver_does_with_it() -> None:
    """Else a recorder that sends for each delivery would go on for ever, over two threads."""
    done = threading.Event()
    records: list[bytes | None] = []

    def record(message: PortMessage) -> bytes:
        records.append(message.data)
        if message.data == b"last":
            done.set()
        other.send(b"by the recorder")
        return b"noted"

    with MachPort(lambda message: None) as other, served(record) as recorder:

        class Recording(Hook):
            def sending(self, outgoing: Outgoing) -> None:
                recorder.request(b"sent")

            def delivering(self, port: Port, message: PortMessage) -> None:
                recorder.send(b"delivered")

        with hooked(Recording()):
            other.send(b"observed")
        recorder.send(b"last")
        assert done.wait(PATIENCE)
        assert records == [b"sent", b"last"]
        assert other.pending == 3


def test_its_own_messages_travel_with_the_headers_they_have(port: MachPort) -> None:
    port.send(b"kept")
    with hooked(Seen(key="value")):
        port.send(b"")
    port.receive(0)
    kept = port.receive(0)
    kept.send_port = port

    class SendingOn(Hook):
        def received(self, port: Port, message: PortMessage) -> None:
            kept.send()

    with hooked(SendingOn()):
        port.send(b"")
        port.receive(0)
        assert port.receive(0).headers == {"key": "value"}


def test_over_a_link_nobody_is_exempt() -> None:
    """A peer cannot keep its messages from being observed."""
    seen = Seen()
    with LoopThread() as thread, MessagePort("observed", lambda message: None) as port:
        thread.loop.add_port(port)
        with hooked(seen):
            MessagePort.remote("observed").request(b"x")
    assert "+deliver" in seen.events


# Installing.


def test_they_nest_in_the_order_of_adding(port: MachPort) -> None:
    first, second = Seen("1"), Seen("2")
    second.note = first.note
    with hooked(first, second):
        port.send(b"")
    assert first.events == ["1+send", "2+send", "2-send", "1-send"]


def test_one_is_added_once_and_removed_at_any_time(port: MachPort) -> None:
    seen = Seen()
    portkit.add_hook(seen)
    portkit.add_hook(seen)
    port.send(b"")
    portkit.remove_hook(seen)
    portkit.remove_hook(seen)
    port.send(b"")
    assert seen.events == ["+send", "-send"]
    assert hooks.installed == ()


def test_one_that_is_removed_meanwhile_is_left_all_the_same() -> None:
    seen = Seen()
    with served(lambda message: portkit.remove_hook(seen)) as port, hooked(seen):
        port.request(b"")
    assert seen.events[:2] == ["+request", "+deliver"]
    assert sorted(seen.events[2:]) == ["-deliver", "-request"]


def test_added_and_removed_by_many_threads_while_messages_go() -> None:
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            with hooked(Seen(key="value")):
                pass

    with served(lambda message: message.data) as port:
        changing = [Background(change) for _ in range(4)]
        try:
            for number in range(500):
                assert port.request(b"%d" % number).data == b"%d" % number
        finally:
            stop.set()
        for thread in changing:
            thread.result()
    assert hooks.installed == ()


def test_a_forked_child_has_them_too() -> None:
    seen = Seen()

    def child() -> list[str]:
        with MachPort() as port:
            port.send(b"")
        portkit.remove_hook(seen)
        return seen.events

    with hooked(seen):
        assert in_child(child) == "['+send', '-send']"


# Signals.


def test_struck_while_it_is_entered_puts_the_message_back(port: MachPort) -> None:
    class Struck(Hook):
        armed = True

        def delivering(self, port: Port, message: PortMessage) -> None:
            if Struck.armed:
                Struck.armed = False
                interrupt()

    seen, delegate = Seen(), Recorder()
    port.delegate = delegate
    with hooked(seen, Struck()):
        port.send(b"1")
        with pytest.raises(KeyboardInterrupt):
            deliver(port)
        assert port.pending == 1
        deliver(port)
    assert delegate.data == [b"1"]
    assert seen.events[2:] == ["+deliver", "-deliver KeyboardInterrupt", "+deliver", "-deliver"]


def test_struck_in_a_call_that_takes_a_message_puts_it_back(port: MachPort) -> None:
    class Struck(Hook):
        def received(self, port: Port, message: PortMessage) -> None:
            interrupt()

    with hooked(Struck()):
        port.send(b"1")
        with pytest.raises(KeyboardInterrupt):
            port.receive(0)
    assert port.receive(0).data == b"1"


def test_struck_while_it_is_left_leaves_the_others_too(port: MachPort) -> None:
    class Struck(Hook):
        @contextmanager
        def sending(self, outgoing: Outgoing) -> Iterator[None]:
            yield
            interrupt()

    seen = Seen()
    with hooked(seen, Struck()), pytest.raises(KeyboardInterrupt):
        port.send(b"1")
    assert seen.events == ["+send", "-send KeyboardInterrupt"]


def send_all(port: MachPort, count: int) -> None:
    for number in range(count):
        port.send(b"", msgid=number, timeout=None)  # a wake-up that is lost is lost for good


def storm(serve: Callable[[MachPort], object], count: int) -> tuple[list[int], int]:
    """Strike this thread, the main one, while it delivers; what was delivered, and how often."""
    seen: list[int] = []
    struck = 0
    armed = [False]

    class Raw:
        @staticmethod
        def handle_raw_message(port: Port, msgid: int, parts: Any, reply: Any) -> None:
            seen.append(msgid)

    begins = Raw.handle_raw_message.__code__

    def strike(signum: int, frame: FrameType | None) -> None:
        # Once its delegate has begun a message is delivered, whatever happens in there, or after.
        if in_finalizer(frame):
            return
        if armed[0] and frame is not None and frame.f_code is not begins:
            armed[0] = False
            interrupt()

    before = signal.signal(signal.SIGALRM, strike)
    with MachPort(Raw()) as port:
        RunLoop.current().add_port(port)
        sender = Background(lambda: send_all(port, count))
        gc.disable()
        signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
        deadline = monotonic() + PATIENCE
        try:
            while len(seen) < count and monotonic() < deadline:
                try:
                    armed[0] = True
                    serve(port)
                    armed[0] = False
                except KeyboardInterrupt:
                    struck += 1
        finally:
            armed[0] = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()
        RunLoop.current().run_in_mode(DEFAULT_MODE, 0)  # the last one may have left a run undone
        port.invalidate()
        sender.result()
    return seen, struck


@pytest.mark.parametrize("headers", [{}, {"key": "value"}], ids=["without headers", "with"])
def test_a_storm_of_interrupts_loses_and_doubles_nothing(headers: dict[str, str]) -> None:
    traced = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        with hooked(Seen(**headers)):
            seen, struck = storm(lambda _: RunLoop.current().accept_input(DEFAULT_MODE, 0.05), 1000)
    finally:
        sys.settrace(traced[0])
        threading.settrace(traced[1])
    assert struck > 5
    assert seen == list(range(1000))
