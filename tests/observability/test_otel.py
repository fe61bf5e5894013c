"""Spans of sends and deliveries are parts of one trace, over threads, processes and connections."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portkit import (
    MachPort,
    MessagePort,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    SendTimeoutError,
    SocketPort,
    aio,
    hooks,
    otel,
)
from tests.observability.peers import SPANS, Spans, peer, reach
from tests.ports.helpers import in_child, served
from tests.support import LoopThread, Reports, eventually

Span = dict[str, Any]


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Tracing is on, and these are the spans."""
    spans = Spans()
    otel.instrument(spans.provider)
    yield spans
    otel.uninstrument()
    assert hooks.installed == ()


def deliver(port: MachPort) -> None:
    port.fileno()
    while port.pending:
        port.process()


# In one process.


def test_a_message_from_thread_to_thread(spans: Spans) -> None:
    done = threading.Event()
    with served(lambda message: done.set()) as port:
        port.send(b"abc", msgid=5)
        assert done.wait(30)
    sent, delivered = spans.take(2)
    assert (sent["name"], sent["kind"], sent["parent"]) == ("send", "PRODUCER", None)
    assert (delivered["name"], delivered["kind"]) == ("process", "CONSUMER")
    assert delivered["parent"] == sent["id"]
    assert delivered["trace"] == sent["trace"]
    common = {
        "messaging.system": "portkit",
        "messaging.destination.anonymous": True,
        "messaging.message.body.size": 3,
        "portkit.transport": "mach",
        "portkit.msgid": 5,
    }
    assert sent["attributes"] == {
        **common, "messaging.operation.name": "send", "messaging.operation.type": "send",
    }  # fmt: skip
    assert delivered["attributes"] == {
        **common, "messaging.operation.name": "process", "messaging.operation.type": "process",
    }  # fmt: skip


def test_a_request_that_makes_requests(spans: Spans) -> None:
    with served(lambda message: b"deep") as inner, served(lambda message: outer_answer()) as outer:

        def outer_answer() -> bytes | None:
            return inner.request(b"").data

        assert outer.request(b"").data == b"deep"
    taken = spans.take(4)
    assert [span["kind"] for span in taken] == ["CLIENT", "SERVER", "CLIENT", "SERVER"]
    outer_client, outer_server, inner_client, inner_server = taken
    assert inner_server["parent"] == inner_client["id"]
    assert inner_client["parent"] == outer_server["id"]
    assert outer_server["parent"] == outer_client["id"]
    assert len({span["trace"] for span in taken}) == 1
    assert {span["status"] for span in taken} == {"UNSET"}


def test_within_a_span_of_the_program(spans: Spans) -> None:
    tracer = trace.get_tracer("test", tracer_provider=spans.provider)
    found: list[int] = []

    def delegate(message: PortMessage) -> None:
        with tracer.start_as_current_span("in the delegate") as span:
            found.append(span.get_span_context().trace_id)

    with MachPort(delegate) as port:
        with tracer.start_as_current_span("in the program"):
            port.send(b"")
        deliver(port)
    taken = spans.take()
    names = {span["id"]: span["name"] for span in taken}
    parents = {span["name"]: names.get(span["parent"]) for span in taken}
    assert parents == {
        "in the program": None,
        "send": "in the program",
        "process": "send",
        "in the delegate": "process",
    }
    assert not trace.get_current_span().get_span_context().is_valid  # nothing of it is left


def test_several_in_one_call(spans: Spans) -> None:
    with MachPort(lambda message: None) as port:
        port.send_many([b"1", b"2", PortMessage(msgid=4)])
        deliver(port)
    sent, *delivered = spans.take()
    assert sent["attributes"]["messaging.batch.message_count"] == 3
    assert "portkit.msgid" not in sent["attributes"]
    assert [span["parent"] for span in delivered] == [sent["id"]] * 3


def test_errors_are_recorded(spans: Spans, reports: Reports) -> None:
    def fail(message: PortMessage) -> None:
        raise ValueError("no good")

    with served(fail) as port, pytest.raises(ReplyDroppedError):
        port.request(b"")
    with MachPort(queue_limit=1) as port:
        port.send(b"")
        with pytest.raises(SendTimeoutError):
            port.send(b"", timeout=0)
    client, server, _, failed = spans.take(4)
    for span, error in [
        (server, "ValueError"), (client, "ReplyDroppedError"), (failed, "SendTimeoutError"),
    ]:  # fmt: skip
        assert span["status"] == "ERROR"
        assert span["attributes"]["error.type"] == error
        assert span["events"] == ["exception"]
    assert len(reports.take()) == 1


def test_a_request_that_is_dropped_is_dropped_at_once(spans: Spans) -> None:
    """The hooks hold no message that somebody waits to be gone."""

    def forget(message: PortMessage) -> None:
        message.defer()

    with served(forget) as port, pytest.raises(ReplyDroppedError):
        port.request(b"")


def test_a_message_without_context_begins_a_trace(spans: Spans) -> None:
    otel.uninstrument()
    with MachPort(lambda message: None) as port:
        port.send(b"")
        otel.instrument(spans.provider)
        deliver(port)
    (delivered,) = spans.take()
    assert delivered["parent"] is None


def test_baggage_travels_too(spans: Spans) -> None:
    found: list[object] = []
    with MachPort(lambda message: found.append(baggage.get_baggage("who"))) as port:
        token = context.attach(baggage.set_baggage("who", "me"))
        try:
            port.send(b"")
        finally:
            context.detach(token)
        deliver(port)
    assert found == ["me"]
    assert baggage.get_baggage("who") is None


def test_with_a_propagator_of_its_own() -> None:
    spans, propagator = Spans(), TraceContextTextMapPropagator()
    assert isinstance(propagator, TextMapPropagator)
    otel.instrument(spans.provider, propagator)
    otel.instrument(spans.provider, propagator)  # again is as once
    try:
        with MachPort() as port:
            port.send(b"")
            assert {*port.receive(0).headers} == {"traceparent"}
    finally:
        otel.uninstrument()
        otel.uninstrument()
    assert len(spans.take()) == 1
    assert hooks.installed == ()


def test_without_a_provider_there_is_the_global_one() -> None:
    otel.instrument()
    try:
        with served(lambda message: b"fine") as port:
            assert port.request(b"").data == b"fine"  # which records nothing
    finally:
        otel.uninstrument()


def test_in_a_forked_child(spans: Spans) -> None:
    def child() -> list[str]:
        with MachPort(lambda message: None) as port:
            port.send(b"")
            deliver(port)
        return [span["name"] for span in spans.take()]

    assert in_child(child) == "['send', 'process']"


def test_in_tasks(spans: Spans, run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    """Each task has its own current span, be they ever so interleaved."""

    async def handle(message: PortMessage) -> bytes:
        await anyio.lowlevel.checkpoint()
        return (await aio.request(inner, message.data or b"")).data or b""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(aio.serve, outer, handle)

            async def ask(number: int) -> None:
                answer = await aio.request(outer, b"%d" % number)
                assert answer.data == b"%d" % number

            async with anyio.create_task_group() as asking:
                for number in range(10):
                    asking.start_soon(ask, number)
            outer.invalidate()

    with served(lambda message: message.data) as inner, MachPort() as outer:
        run(main)
    traces: dict[str, list[str]] = {}
    for span in spans.take(40):
        traces.setdefault(span["trace"], []).append(span["kind"])
    assert list(traces.values()) == [["CLIENT", "SERVER", "CLIENT", "SERVER"]] * 10


# Over links.


def spans_of(port: Port) -> list[Span]:
    found: list[Span] = json.loads(port.request(b"", msgid=SPANS).data or b"")
    return found


@pytest.mark.parametrize("transport", ["message", "socket"])
def test_over_two_processes_and_back(spans: Spans, transport: str) -> None:
    """A request whose receiver, in another process, asks the requester's process back."""
    back: MessagePort | SocketPort
    back = MessagePort() if transport == "message" else SocketPort(None)
    with peer("traced", transport) as address, reach(address) as port, LoopThread() as thread, back:
        back.delegate = lambda message: b"came home"
        thread.loop.add_port(back)
        assert port.request(back).data == b"came home"
        mine = spans.take(2)
        theirs = [span for span in spans_of(port) if span["trace"] == mine[0]["trace"]]
    client_here, server_here = mine
    server_there, client_there = theirs
    assert server_there["kind"] == server_here["kind"] == "SERVER"
    assert client_there["kind"] == client_here["kind"] == "CLIENT"
    assert server_there["parent"] == client_here["id"]
    assert client_there["parent"] == server_there["id"]
    assert server_here["parent"] == client_there["id"]
    network = {"message": "unix", "socket": "tcp"}[transport]
    assert client_here["attributes"]["network.transport"] == network
    assert server_there["attributes"]["network.transport"] == network
    name = address.removeprefix("message:")
    assert client_here["attributes"]["messaging.destination.name"] == name
    assert client_here["name"] == f"request {name}"
    if transport == "socket":
        assert server_there["attributes"]["network.peer.address"] == "127.0.0.1"


def test_an_error_in_the_other_process(spans: Spans) -> None:
    with peer("traced") as address, reach(address) as port:
        with pytest.raises(ReplyDroppedError):
            port.request(b"", msgid=1)
        (client,) = spans.take()
        server = next(span for span in spans_of(port) if span["status"] == "ERROR")
    assert server["attributes"]["error.type"] == "ValueError"
    assert client["attributes"]["error.type"] == "ReplyDroppedError"
    assert server["parent"] == client["id"]


def test_a_receiver_that_does_not_trace_gets_the_headers(spans: Spans) -> None:
    with peer("plain") as address, reach(address) as port:
        headers = json.loads(port.request(b"").data or b"")
        (client,) = spans.take()
    assert headers["traceparent"].split("-")[1:3] == [client["trace"], client["id"]]


def test_a_sender_that_does_not_trace() -> None:
    with peer("traced") as address, reach(address) as port:
        assert json.loads(port.request(b"").data or b"") == {}
        (server,) = spans_of(port)
    assert (server["kind"], server["parent"]) == ("SERVER", None)


@pytest.mark.parametrize("trash", ["", "garbage", "00-0-0-00", "ff" * 500])
def test_trash_in_place_of_a_context(spans: Spans, trash: str) -> None:
    class Trash(hooks.Hook):
        def sending(self, outgoing: hooks.Outgoing) -> None:
            outgoing.headers.update(traceparent=trash, tracestate=trash, baggage=trash)

    done: list[PortMessage] = []
    hook = Trash()
    hooks.add_hook(hook)
    try:
        with served(done.append) as port:
            port.send(b"")
            assert eventually(lambda: done)
    finally:
        hooks.remove_hook(hook)
    assert len(spans.take(2)) == 2


def test_a_request_that_times_out_over_a_link(spans: Spans) -> None:
    with peer("answering") as address, reach(address) as port:
        with pytest.raises(ReceiveTimeoutError):
            port.request(b"", msgid=2, reply_timeout=0)
        assert [span["attributes"]["error.type"] for span in spans.take()] == [
            "ReceiveTimeoutError"
        ]


# Where it is missing.


def test_what_is_missing_is_named() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import portkit.otel\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "portkit[otel]" in done.stdout


def test_portkit_itself_loads_none_of_it() -> None:
    code = (
        "import sys, portkit; portkit.stats(); portkit.MessagePort; portkit.SocketPort\n"
        "print([name for name in ('opentelemetry', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
