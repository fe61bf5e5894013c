"""Hooks see what tasks send, receive and handle, as they see it of threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from portkit import (
    Hook,
    InvalidPayloadError,
    MachPort,
    Port,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    SendTimeoutError,
    aio,
)
from portkit.typed import Payload
from tests.observability.helpers import Seen, hooked
from tests.ports.helpers import served
from tests.support import Reports, eventually

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


class Job(Payload, msgid=7):
    text: str


def test_sending_and_receiving(run: Run) -> None:
    async def main() -> None:
        seen = Seen(key="value")
        with MachPort() as port, hooked(seen):
            await aio.send(port, b"1", msgid=1)
            assert await aio.send_many(port, [b"2", b"3"]) == 2
            async with aio.receiving(port) as messages:
                for _ in range(3):
                    message = await anext(messages)
                    assert message.headers == {"key": "value"}
        assert seen.events == [
            "+send", "-send", "+send", "-send", "received 1", "received 0", "received 0",
        ]  # fmt: skip
        assert [outgoing.count for outgoing in seen.outgoing] == [1, 2]

    run(main)


def test_what_fails(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with MachPort(queue_limit=1) as port, hooked(seen):
            with pytest.raises(ReceiveTimeoutError):
                await aio.request(port, b"", reply_timeout=0)
            with pytest.raises(SendTimeoutError):
                await aio.send(port, b"", timeout=0)
        assert seen.events == [
            "+request", "-request ReceiveTimeoutError", "+send", "-send SendTimeoutError",
        ]  # fmt: skip

    run(main)


def test_a_request_that_is_cancelled(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        with MachPort() as port, hooked(seen):
            with anyio.move_on_after(0.01):
                await aio.request(port, b"")
        assert seen.events[0] == "+request"
        assert seen.events[1].startswith("-request Cancelled")

    run(main)


def test_an_answer_that_is_not_understood_is_an_error_of_the_request(run: Run) -> None:
    async def main() -> None:
        seen = Seen()
        answering = served(lambda message: b"no JSON")
        with answering as port, hooked(seen), pytest.raises(InvalidPayloadError):
            await aio.request(port, b"", reply=Job)
        assert "-request InvalidPayloadError" in seen.events

    run(main)


def test_handlers_that_are_awaited(run: Run, reports: Reports) -> None:
    async def main() -> None:
        seen = Seen()

        async def handle(message: PortMessage) -> bytes:
            await anyio.lowlevel.checkpoint()
            seen.note("handled")
            if message.msgid:
                raise LookupError
            return b"answer"

        with MachPort() as port, hooked(seen):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(aio.serve, port, handle)
                answer = await aio.request(port, b"")
                with pytest.raises(ReplyDroppedError):
                    await aio.request(port, b"", msgid=1)
                port.invalidate()
        assert answer.data == b"answer"
        first = ["+request", "+deliver", "handled", "+answer", "-answer", "-deliver", "-request"]
        second = ["+request", "+deliver", "handled", "-deliver LookupError"]
        assert seen.events == [*first, *second, "-request ReplyDroppedError"]
        assert [type(error) for error in reports.take()] == [LookupError]

    run(main)


def test_what_a_hook_sends_is_not_observed(run: Run) -> None:
    """Nor what an asynchronous receiver does with it, while other tasks go on."""

    async def main() -> None:
        seen = Seen()

        async def record(message: PortMessage) -> None:
            await anyio.lowlevel.checkpoint()
            await aio.send(other, b"by the recorder")

        with MachPort() as recorder, MachPort() as other:

            class Recording(Hook):
                def delivering(self, port: Port, message: PortMessage) -> None:
                    recorder.send(b"a record")

            async def handle(message: PortMessage) -> None:
                await anyio.lowlevel.checkpoint()
                await aio.send(other, b"by the handler")

            with MachPort() as port, hooked(seen, Recording()):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(aio.serve, recorder, record)
                    tasks.start_soon(aio.serve, port, handle)
                    await aio.send(port, b"")
                    async with aio.receiving(other) as messages:
                        found = {(await anext(messages)).data, (await anext(messages)).data}
                    port.invalidate()
                    recorder.invalidate()
        assert found == {b"by the handler", b"by the recorder"}
        assert eventually(lambda: len(seen.events) == 7)
        assert seen.events.count("received 0") == 1
        assert seen.events.count("+deliver") == 1
        assert seen.events.count("+send") == 2

    run(main)
