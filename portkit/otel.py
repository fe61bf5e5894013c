"""Tracing with OpenTelemetry: spans of sends and deliveries, over threads, processes and hosts.

It needs the extra ``otel``. The context of the sender's span travels in the headers of the message,
as W3C trace context or however else the propagator writes it, so that what the receiver does
belongs to the same trace. Without a call of :func:`instrument` there is nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import SpanKind
except ImportError as _error:
    raise ImportError(
        'portkit.otel needs OpenTelemetry: pip install "portkit[otel]"', name=_error.name
    ) from _error

from portkit import _fork
from portkit.hooks import Hook, Kind, Outgoing, add_hook, remove_hook, size_of

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from portkit.message import PortMessage
    from portkit.port import Port

__all__ = ["instrument", "uninstrument"]

_NETWORKS = {"message": "unix", "socket": "tcp"}
"""What the semantic conventions call the networks of these transports."""


class _Tracing(Hook):
    """Makes the spans.

    Args:
        tracer: begins them.
        propagator: writes and reads the context of a message.
    """

    def __init__(self, tracer: Tracer, propagator: TextMapPropagator) -> None:
        self._tracer = tracer
        self._propagator = propagator

    def sending(self, outgoing: Outgoing) -> AbstractContextManager[object] | None:
        """A span of kind PRODUCER, or CLIENT for a request; none for an answer, which ends that."""
        return None if outgoing.kind is Kind.ANSWER else self._sending(outgoing)

    def delivering(self, port: Port, message: PortMessage) -> AbstractContextManager[object]:
        """A span of kind CONSUMER, or SERVER for a request, within the sender's."""
        return self._delivering(port, message)

    @contextmanager
    def _sending(self, outgoing: Outgoing) -> Iterator[None]:
        name, attributes = _described(outgoing.port, outgoing.kind.value, outgoing.size)
        attributes["messaging.operation.type"] = "send"
        if outgoing.msgid is not None:
            attributes["portkit.msgid"] = outgoing.msgid
        if outgoing.count > 1:
            attributes["messaging.batch.message_count"] = outgoing.count
        kind = SpanKind.CLIENT if outgoing.kind is Kind.REQUEST else SpanKind.PRODUCER
        with self._tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
            self._propagator.inject(outgoing.headers)  # pyright: ignore[reportArgumentType]
            with _naming_errors(span):
                yield

    @contextmanager
    def _delivering(self, port: Port, message: PortMessage) -> Iterator[None]:
        name, attributes = _described(port, "process", size_of(message))
        attributes["messaging.operation.type"] = "process"
        attributes["portkit.msgid"] = message.msgid
        if message.sender is not None and message.sender.host:
            attributes["network.peer.address"] = message.sender.host
        kind = SpanKind.SERVER if message.is_request else SpanKind.CONSUMER
        token = context.attach(self._propagator.extract(message.headers))
        try:
            with self._tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
                del message  # whose request can be dropped only where nobody has it
                with _naming_errors(span):
                    yield
        finally:
            context.detach(token)


def _described(
    port: Port, operation: str, size: int | None
) -> tuple[str, dict[str, AttributeValue]]:
    """A span's name and attributes, as far as they are the same in both directions."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "portkit",
        "messaging.operation.name": operation,
        "portkit.transport": (transport := port.transport),
    }
    if transport in _NETWORKS:
        attributes["network.transport"] = _NETWORKS[transport]
    if size is not None:
        attributes["messaging.message.body.size"] = size
    destination = port.name or str(port.address or "")
    if not destination:
        attributes["messaging.destination.anonymous"] = True
        return operation, attributes
    attributes["messaging.destination.name"] = destination
    return f"{operation} {destination}", attributes


@contextmanager
def _naming_errors(span: Span) -> Iterator[None]:
    """What is raised is recorded by the span; this says in an attribute of what type it is."""
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        raise


_lock = Lock()
_installed: _Tracing | None = None


def instrument(
    tracer_provider: TracerProvider | None = None, propagator: TextMapPropagator | None = None
) -> None:
    """Have a span around each send, each request and each delivery from now on. Any thread.

    Called again it takes these in place of those that were given before.

    A span of a request lasts until its answer is there. One of a delivery lasts until the delegate
    has returned, or was awaited, and its answer was sent; where it defers the request, until it
    has returned. What it raises is recorded.

    Args:
        tracer_provider: makes the tracer; by default the global one.
        propagator: writes the context into messages; by default the global one, which does so as
            W3C trace context, and baggage.
    """
    global _installed
    tracer = trace.get_tracer("portkit", tracer_provider=tracer_provider)
    tracing = _Tracing(tracer, propagator or propagate.get_global_textmap())
    with _lock:
        before, _installed = _installed, tracing
    add_hook(tracing)
    if before is not None:
        remove_hook(before)


def uninstrument() -> None:
    """Undo :func:`instrument`; nothing where it was not called. Spans under way are ended."""
    global _installed
    with _lock:
        before, _installed = _installed, None
    if before is not None:
        remove_hook(before)


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)
