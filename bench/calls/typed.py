"""Typed messages of portkit's: requests and one-way messages, and what one would write without.

"By hand" is pydantic's JSON in the data of a message, both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.calls import payloads
from bench.calls.payloads import Result, Shape
from bench.ipc import ours as raw
from bench.ipc.address import Address
from bench.ipc.server import Control
from bench.measure import Call, Handler, Send
from bench.ours import running
from portkit import MachPort, Port, PortMessage
from portkit.typed import Router


def asking(port: Port, shape: Shape) -> Call:
    """Typed requests to a port."""
    make, request = shape.make, port.request
    return lambda _: request(make(), reply=Result)


def asking_by_hand(port: Port, shape: Shape) -> Call:
    """As :func:`asking`, without types."""
    make, request = shape.make, port.request

    def ask(_: bytes) -> Result:
        answer = request(make().model_dump_json().encode())
        return Result.model_validate_json(answer.data or b"")

    return ask


def _answering_by_hand(shape: Shape) -> Callable[[PortMessage], bytes]:
    kind, answer = shape.kind, shape.answer

    def serve(message: PortMessage) -> bytes:
        payload = kind.model_validate_json(message.data or b"")
        return answer(payload).model_dump_json().encode()

    return serve


@contextmanager
def request(shape: Shape) -> Iterator[Call]:
    """Asks another thread."""
    with MachPort(payloads.router()) as port, running(port):
        yield asking(port, shape)


@contextmanager
def request_by_hand(shape: Shape) -> Iterator[Call]:
    """As :func:`request`, without types."""
    with MachPort(_answering_by_hand(shape)) as port, running(port):
        yield asking_by_hand(port, shape)


@contextmanager
def send(shape: Shape, handler: Handler) -> Iterator[Send]:
    """Sends to another thread; the handler is a router's."""
    router = Router()
    router.on(shape.kind)(handler)
    make = shape.make
    with MachPort(router) as port, running(port):
        yield lambda _: port.send(make())


def serve_requests(address: Address, control: Control) -> None:
    """Answer typed requests."""
    raw.serve(address, control, payloads.router())


def serve_requests_by_hand(address: Address, control: Control, number: str) -> None:
    """As :func:`serve_requests`, without types."""
    raw.serve(address, control, _answering_by_hand(payloads.SHAPES[int(number)]))


def serve_messages(address: Address, control: Control) -> None:
    """Count typed messages."""
    router = Router()
    for kind in (payloads.Job, payloads.Order):
        router.on(kind)(control.handled)
    raw.serve(address, control, router)


@contextmanager
def connect(
    make_call: Callable[[Port, Shape], Call], shape: Shape, address: Address
) -> Iterator[Call]:
    """Asks another process."""
    with raw.remote(address) as port:
        yield make_call(port, shape)


@contextmanager
def connect_to_send(shape: Shape, address: Address) -> Iterator[Send]:
    """Sends to another process."""
    make = shape.make
    with raw.remote(address) as port:
        yield lambda _: port.send(make())
