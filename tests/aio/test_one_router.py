"""One router, served by a run loop, by asyncio and by trio: whoever asks cannot tell which."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from portkit import (
    InvalidPayloadError,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
)
from portkit.aio import hosting, serve
from portkit.typed import Data, Payload, Router
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.test_behaviour import World

Place = Callable[[Port, Router], AbstractContextManager[None]]


class Add(Payload, msgid=7):
    a: int
    b: int = 1
    data: Data = b""


class Sum(Payload):
    value: int
    data: Data = b""


class Note(Payload, msgid=8):
    text: str


class Fail(Payload, msgid=9):
    pass


class Wait(Payload, msgid=10):
    pass


def plain_router(notes: list[str], waiting: Event, given_up: Event) -> Router:
    router = Router()

    @router.middleware
    def refuse(message: PortMessage, call_next: Callable[[PortMessage], Any]) -> Any:
        return b"refused" if message.msgid == 66 else call_next(message)

    @router.on(Add)
    def add(payload: Add) -> Sum:
        return Sum(value=payload.a + payload.b, data=payload.data)

    @router.on(Note)
    def note(payload: Note, message: PortMessage) -> None:
        assert message.body is payload
        notes.append(payload.text)

    @router.on(Fail)
    def fail(payload: Fail) -> None:
        raise LookupError("on purpose")

    @router.on(Wait)
    def wait(payload: Wait, message: PortMessage) -> None:
        message.defer()
        message.add_abandon_handler(lambda port: given_up.set())
        held.append(message)
        waiting.set()

    @router.on(msgid=20)
    def raw(message: PortMessage) -> bytes:
        return (message.data or b"")[::-1]

    held: list[PortMessage] = []
    return router


def async_router(notes: list[str], waiting: Event, given_up: Event) -> Router:
    router = Router()

    @router.middleware
    async def refuse(message: PortMessage, call_next: Callable[[PortMessage], Any]) -> Any:
        return b"refused" if message.msgid == 66 else await call_next(message)

    @router.on(Add)
    async def add(payload: Add) -> Sum:
        await anyio.lowlevel.checkpoint()
        return Sum(value=payload.a + payload.b, data=payload.data)

    @router.on(Note)
    async def note(payload: Note, message: PortMessage) -> None:
        assert message.body is payload
        notes.append(payload.text)

    @router.on(Fail)
    async def fail(payload: Fail) -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError("on purpose")

    @router.on(Wait)
    async def wait(payload: Wait) -> None:
        waiting.set()
        try:
            await anyio.sleep_forever()
        finally:
            given_up.set()

    @router.on(msgid=20)
    async def raw(message: PortMessage) -> bytes:
        return (message.data or b"")[::-1]

    return router


@contextmanager
def on_run_loop(port: Port, router: Router) -> Iterator[None]:
    with LoopThread() as thread:
        port.delegate = router
        thread.loop.add_port(port)
        yield
        thread.loop.remove_port(port)


def in_tasks(**options: Any) -> Place:
    @contextmanager
    def place(port: Port, router: Router) -> Iterator[None]:
        with anyio.from_thread.start_blocking_portal(**options) as portal:
            serving = portal.start_task_soon(serve, port, router)
            yield
            serving.cancel()

    return place


def on_hosted_run_loop(**options: Any) -> Place:
    @contextmanager
    def place(port: Port, router: Router) -> Iterator[None]:
        async def body(*, task_status: Any) -> None:
            async with hosting():
                port.delegate = router
                RunLoop.current().add_port(port)
                try:
                    task_status.started()
                    await anyio.sleep_forever()
                finally:
                    RunLoop.current().remove_port(port)

        with anyio.from_thread.start_blocking_portal(**options) as portal:
            hosted, _ = portal.start_task(body)
            yield
            hosted.cancel()

    return place


PLACES: dict[str, tuple[Place, Callable[[list[str], Event, Event], Router]]] = {
    "run loop": (on_run_loop, plain_router),
    "asyncio": (in_tasks(backend="asyncio"), plain_router),
    "trio": (in_tasks(backend="trio"), plain_router),
    "asyncio, async": (in_tasks(backend="asyncio"), async_router),
    "trio, async": (in_tasks(backend="trio"), async_router),
    "run loop in asyncio": (on_hosted_run_loop(backend="asyncio"), plain_router),
    "run loop in trio": (on_hosted_run_loop(backend="trio"), plain_router),
}


class Served:
    """A router that is served somewhere, and what it was told."""

    def __init__(self, port: Port, router: Router, notes: list[str]) -> None:
        self.port = port
        self.router = router
        self.notes = notes
        self.waiting = Event()
        self.given_up = Event()


@pytest.fixture(params=PLACES.values(), ids=list(PLACES))
def served(request: pytest.FixtureRequest, world: World) -> Iterator[Served]:
    place, make = request.param
    notes: list[str] = []
    waiting, given_up = Event(), Event()
    router = make(notes, waiting, given_up)
    port = world.port()
    with place(port, router):
        served = Served(world.handle(port), router, notes)
        served.waiting, served.given_up = waiting, given_up
        yield served


def test_a_payload_is_answered_by_one(served: Served) -> None:
    assert served.port.request(Add(a=2, b=3), reply=Sum).value == 5
    assert served.port.request(Add(a=2), reply=Sum).value == 3
    large = bytes(range(256)) * 2000
    assert served.port.request(Add(a=1, data=large), reply=Sum).data == large


def test_messages_by_number(served: Served) -> None:
    assert served.port.request(b"abc", msgid=20).data == b"cba"


def test_middleware_answers_instead(served: Served) -> None:
    assert served.port.request(b"", msgid=66).data == b"refused"


def test_what_does_not_validate_is_answered_so(served: Served) -> None:
    with pytest.raises(InvalidPayloadError, match=r"Add: a: .* valid integer") as caught:
        served.port.request(b'{"a": "secret"}', msgid=Add.msgid)
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidPayloadError, match="no handler takes message 99"):
        served.port.request(b"", msgid=99)
    assert served.port.request(Add(a=1), reply=Sum).value == 2
    assert served.router.invalid == 2


def test_a_handler_that_raises_drops_the_request(served: Served, reports: Reports) -> None:
    with pytest.raises(ReplyDroppedError):
        served.port.request(Fail())
    assert eventually(lambda: reports.records)
    assert list(map(type, reports.take())) == [LookupError]
    assert served.port.request(Add(a=1), reply=Sum).value == 2


def test_one_way_messages_all_come(served: Served) -> None:
    for number in range(200):
        served.port.send(Note(text=str(number)), timeout=PATIENCE)
    assert eventually(lambda: len(served.notes) == 200)
    assert sorted(map(int, served.notes)) == list(range(200))


def test_who_handles_a_request_hears_that_it_was_given_up(served: Served) -> None:
    def is_begun() -> bool:
        with pytest.raises(ReceiveTimeoutError):
            served.port.request(Wait(), reply_timeout=0.05)
        return served.waiting.is_set()

    assert eventually(is_begun)  # one that was given up before is not begun with
    assert served.given_up.wait(PATIENCE)
    assert served.port.request(Add(a=1), reply=Sum).value == 2
