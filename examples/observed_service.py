"""A service that can be watched: who asked for what, how long it took, and what it led to.

The main side asks a worker process for an offer; to make it the worker asks the main side's stock.
Both processes trace, so the four steps are one trace, whose context travelled in the messages. The
main side also has a hook of its own, which gives each message the name of its user; the worker
logs that. In the end the main side shows what Prometheus would scrape, and what it knows of its
links. It needs ``pip install "portkit[otel,prometheus]" opentelemetry-sdk``.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

import portkit
from portkit import Hook, MessagePort, PortMessage, RunLoop, Session, WorkerGroup, otel, prometheus
from portkit.hooks import Outgoing

OFFER = 1
SPANS = 2

finished = InMemorySpanExporter()
"""Of this process. A real program exports them to a collector."""


def begin_tracing() -> None:
    """Have this process make spans."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    otel.instrument(provider)


def told(span: ReadableSpan) -> str:
    """One line on a span: when it began, its trace, its own id, its parent's, and what it was."""
    assert span.context is not None
    trace, own = span.context.trace_id, span.context.span_id
    parent = span.parent.span_id if span.parent else 0
    return f"{span.start_time} {trace} {own} {parent} {span.kind.name.lower()}: {span.name}"


def spans() -> bytes:
    """Those of this process, as text."""
    return "\n".join(map(told, finished.get_finished_spans())).encode()


def run(session: Session) -> None:
    """The worker: makes offers."""
    log: list[str] = []

    def handle(message: PortMessage) -> bytes:
        if message.msgid == SPANS:
            return spans()
        log.append(message.headers.get("user", "nobody"))
        (stock,) = message.ports
        pieces = stock.request(b"apples").data or b""
        return b"offer %d to %s: %s apples" % (len(log), log[-1].encode(), pieces)

    begin_tracing()
    session.port.delegate = handle
    session.run()


class Naming(Hook):
    """Says in each message on whose behalf it is sent."""

    def sending(self, outgoing: Outgoing) -> None:
        outgoing.headers["user"] = "ada"


def show(lines: list[str]) -> None:
    """Print the spans of a trace below each other, the inner ones indented."""
    depth = {"0": 0}
    for line in sorted(lines):
        _, _, span, parent, what = line.split(" ", 4)
        depth[span] = depth[parent] + 1
        print("  " * depth[span] + what)


def main() -> None:
    """Ask for an offer, then show what there was to see."""
    loop = RunLoop.current()
    stock = MessagePort(delegate=lambda _: b"17")
    loop.add_port(stock)
    with stock, WorkerGroup("observed_service:run", count=1, over="message") as group:
        worker = group.workers[0].port
        begin_tracing()
        prometheus.register()
        portkit.add_hook(Naming())

        offer = worker.request(stock, msgid=OFFER, reply_mode=portkit.DEFAULT_MODE)
        print((offer.data or b"").decode())

        otel.uninstrument()  # asking for spans is no part of the trace
        theirs = (worker.request(b"", msgid=SPANS).data or b"").decode().splitlines()
        mine = spans().decode().splitlines()
        trace = mine[0].split(" ")[1]
        print("the trace:")
        show(mine + [line for line in theirs if line.split(" ")[1] == trace])

        labels = {"transport": "message", "port": "", "kind": "request"}
        answered = REGISTRY.get_sample_value("portkit_messages_sent_total", labels)
        served = REGISTRY.get_sample_value("portkit_messages_delivered_total", labels)
        print(f"requests that were answered: {answered:.0f}, served: {served:.0f}")
        (link,) = portkit.stats().links
        print(f"the link to the worker: {link.transport}, {link.requests_open} requests open")


if __name__ == "__main__":
    main()
