"""The other process in tests: run as a program, ``python peers.py ROLE TRANSPORT NAME``."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

from portkit import MessagePort, Port, PortMessage, RunLoop, SocketPort, connect_port, otel

SPANS = 9
"""The number of the request for the spans that were finished so far."""

_kept: list[Port | PortMessage] = []


def eventually(condition: Callable[[], object], timeout: float = 30.0) -> bool:
    """As ``tests.support.eventually``, which a program of its own cannot import."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return bool(condition())


@contextmanager
def peer(role: str, transport: str = "message") -> Iterator[str]:
    """Have a process in that role; the address of its port. It ends with the ``with``."""
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    process = subprocess.Popen(
        [sys.executable, __file__, role, transport, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.stdout.close()


class Spans:
    """Keeps the spans of this process."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def take(self, count: int = 0) -> list[dict[str, Any]]:
        """Those that are finished since the last time, by their beginnings; at least ``count``."""
        assert eventually(lambda: len(self._exporter.get_finished_spans()) >= count)
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        return [_as_dict(span) for span in sorted(spans, key=lambda span: span.start_time or 0)]


def _as_dict(span: ReadableSpan) -> dict[str, Any]:
    assert span.context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": format_trace_id(span.context.trace_id),
        "id": format_span_id(span.context.span_id),
        "parent": span.parent and format_span_id(span.parent.span_id),
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code.name,
        "events": [event.name for event in span.events],
    }


def answering(message: PortMessage) -> bytes | None:
    """Answer, but for some."""
    if message.msgid == 2:
        message.defer()
        _kept.append(message)
        return None
    if message.msgid == 3:
        port = message.ports[0]
        threading.Thread(target=lambda: port.request(b"a question of the peer's")).start()
        return None
    if message.msgid == 4:
        _kept.extend(message.ports)
        message.ports[0].send(b"kept")
    return b"y" * 100


def traced(spans: Spans, message: PortMessage) -> bytes:
    """Tell the spans so far; answer what a port that came along answers."""
    if message.msgid == SPANS:
        return json.dumps(spans.take()).encode()
    if message.msgid == 1:
        raise ValueError("told to")
    if message.ports:
        return message.ports[0].request(b"back").data or b""
    return json.dumps(dict(message.headers)).encode()


def delegate_of(role: str) -> Callable[[PortMessage], bytes | None]:
    """What a port in that role has."""
    if role == "answering":
        return answering
    spans = Spans()
    if role == "traced":
        otel.instrument(spans.provider)
    return lambda message: traced(spans, message)


def main(role: str, transport: str, name: str) -> None:
    """Serve a port in that role until stdin ends."""
    loop = RunLoop.current()
    loop.exception_handler = lambda loop, context: None

    def wait_for_the_end() -> None:
        sys.stdin.read()
        loop.perform(loop.stop)

    delegate = delegate_of(role)
    by_name = transport == "message"
    port = MessagePort(name, delegate) if by_name else SocketPort(delegate=delegate)
    with port:
        loop.add_port(port)
        threading.Thread(target=wait_for_the_end, daemon=True).start()
        print(port.address, flush=True)
        loop.run()


def reach(address: str) -> Port:
    """A handle to the port of a peer."""
    return connect_port(address)


if __name__ == "__main__":
    main(*sys.argv[1:])
