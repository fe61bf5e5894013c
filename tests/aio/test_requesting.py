"""Requests from tasks, and what becomes of them when nobody waits any more."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import suppress
from functools import partial
from threading import Event
from typing import Any

import anyio
import pytest

from portkit import (
    BecameInvalidError,
    MachPort,
    PortError,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
)
from portkit.aio import request
from portkit.typed import Payload
from tests.aio.conftest import Run
from tests.aio.helpers import until
from tests.link.helpers import Pair
from tests.ports.helpers import Background, Recorder, in_child
from tests.support import PATIENCE, eventually
from tests.transports.test_behaviour import World


class Question(Payload, msgid=71):
    text: str


class Reply(Payload, msgid=72):
    text: str


class Held:
    """A delegate that keeps requests open, and notes who gave up."""

    def __init__(self) -> None:
        self.messages: list[PortMessage] = []
        self.abandoned = Event()

    def __call__(self, message: PortMessage) -> None:
        """Keep it."""
        message.defer()
        message.add_abandon_handler(lambda port: self.abandoned.set())
        self.messages.append(message)


class TestAnswers:
    def test_of_a_run_loop_on_another_thread(self, run: Run[None], world: World) -> None:
        handle = world.served(lambda message: [b"re", *message.components])

        async def main() -> None:
            answer = await request(handle, [b"1", b"2"], msgid=3)
            assert answer.components == (b"re", b"1", b"2")

        run(main)

    def test_typed(self, run: Run[None], world: World) -> None:
        def delegate(message: PortMessage) -> Reply:
            message.expect(Question)
            assert isinstance(message.body, Question)
            return Reply(text=message.body.text.upper())

        handle = world.served(delegate)

        async def main() -> None:
            answer = await request(handle, Question(text="hello"), reply=Reply)
            assert answer.text == "HELLO"

        run(main)

    def test_dropped(self, run: Run[None], world: World) -> None:
        handle = world.served(lambda message: message.drop())

        async def main() -> None:
            with pytest.raises(ReplyDroppedError):
                await request(handle, b"?", reply_timeout=None)

        run(main)

    def test_a_thousand_at_once(self, run: Run[None], world: World) -> None:
        handle = world.served(lambda message: message.data, queue_limit=64)
        got: Counter[bytes | None] = Counter()

        async def ask(data: bytes) -> None:
            answer = await request(handle, data, send_timeout=PATIENCE, reply_timeout=PATIENCE)
            assert answer.data == data
            got[data] += 1

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(ask, b"%d" % number)

        run(main)
        assert got == Counter({b"%d" % number: 1 for number in range(1000)})

    def test_the_event_loop_goes_on_meanwhile(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(request, port, b"?")
                    await anyio.wait_all_tasks_blocked()
                    port.receive(0).reply(b"!")

        run(main)

    def test_beside_threads_that_ask_by_the_same_connection(
        self, run: Run[None], world: World
    ) -> None:
        """The thread that reads the connection for itself wakes tasks, too."""
        handle = world.served(lambda message: message.data)

        def block() -> None:
            for _ in range(100):
                assert handle.request(b"thread", reply_timeout=PATIENCE).data == b"thread"

        async def main() -> None:
            threads = [Background(block) for _ in range(2)]
            for _ in range(100):
                assert (await request(handle, b"task", reply_timeout=PATIENCE)).data == b"task"
            for thread in threads:
                thread.result()

        run(main)


class TestGivenUp:
    def test_by_a_time_out(self, run: Run[None], world: World) -> None:
        held = Held()
        handle = world.served(held)

        async def main() -> None:
            with pytest.raises(ReceiveTimeoutError) as caught:
                await request(handle, b"?", send_timeout=PATIENCE, reply_timeout=0.05)
            assert caught.value.code == -2

        run(main)
        assert held.abandoned.wait(PATIENCE)
        assert held.messages[0].is_abandoned
        held.messages[0].reply(b"late")  # M10

    def test_by_looking_once(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                for timeout in (0, -1):
                    with pytest.raises(ReceiveTimeoutError):
                        await request(port, b"?", reply_timeout=timeout)
                    assert port.receive(0).is_abandoned

        run(main)

    def test_by_cancelling(self, run: Run[None], world: World) -> None:
        held = Held()
        handle = world.served(held)

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(request, handle, b"?", reply_timeout=None))
                await until(lambda: held.messages)
                assert not held.abandoned.is_set()
                tasks.cancel_scope.cancel()
            await until(held.abandoned.is_set)

        run(main)
        assert held.messages[0].is_abandoned

    def test_by_hundreds(self, run: Run[None], world: World) -> None:
        """Nothing of them is left on either side."""
        held = Held()
        handle = world.served(held, queue_limit=64)
        count = 500

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(count):
                    ask = partial(request, handle, send_timeout=PATIENCE, reply_timeout=None)
                    tasks.start_soon(ask)
                await until(lambda: len(held.messages) == count)
                tasks.cancel_scope.cancel()
            await until(lambda: all(message.is_abandoned for message in held.messages))

        run(main)
        assert handle.is_valid

    @pytest.mark.parametrize("when", ["before it begins", "while it waits for room"])
    def test_before_it_was_sent(self, run: Run[None], when: str) -> None:
        async def main() -> None:
            with MachPort(queue_limit=1) as port:
                if when == "while it waits for room":
                    port.send(b"full")
                async with anyio.create_task_group() as tasks:
                    if when == "before it begins":
                        tasks.cancel_scope.cancel()
                    tasks.start_soon(request, port, b"?")
                    if when == "while it waits for room":
                        await anyio.wait_all_tasks_blocked()
                        tasks.cancel_scope.cancel()
                while port.pending:
                    assert port.receive(0).data == b"full"

        run(main)

    def test_in_the_moment_of_the_answer(self, run: Run[None], world: World) -> None:
        """Whoever is first: either side comes to the same end, or the answer goes nowhere."""
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            for number in range(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(partial(request, handle, b"?", reply_timeout=None))
                    await until(lambda: port.pending)
                    message = port.receive(PATIENCE)
                    answering = Background(partial(message.reply, b"%d" % number))
                    if number % 3:
                        answering.result()
                    tasks.cancel_scope.cancel()
                answering.result()

        run(main)

    def test_by_the_end_of_the_event_loop(self) -> None:
        """A loop that is closed with requests open: answers that come then disturb nobody."""
        with MachPort() as port:
            loop = asyncio.new_event_loop()
            errors: list[Any] = []
            loop.set_exception_handler(lambda loop, context: errors.append(context["message"]))
            tasks = [loop.create_task(request(port, b"?")) for _ in range(2)]
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.close()
            answered, kept = port.receive(0), port.receive(0)
            Background(partial(answered.reply, b"!")).result()
            before = kept.is_abandoned
            for task in tasks:  # as the collector finds them
                with suppress(RuntimeError):  # by which anyio's scopes miss their event loop
                    task.get_coro().close()
            assert (before, kept.is_abandoned) == (False, True)
            tasks.clear()
            gc.collect()
            assert set(errors) <= {"Task was destroyed but it is pending!"}


class TestEnds:
    def test_of_the_port_with_the_request_unread(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            async with anyio.create_task_group() as tasks:

                async def fails() -> None:
                    with pytest.raises(BecameInvalidError):
                        await request(handle, b"?", reply_timeout=None)

                tasks.start_soon(fails)
                await until(lambda: port.pending)
                port.invalidate()

        run(main)

    def test_of_the_peer(self, run: Run[None]) -> None:
        with Pair() as pair, MachPort() as port:
            handle = pair.open(port)

            async def main() -> None:
                async with anyio.create_task_group() as tasks:

                    async def fails() -> None:
                        with pytest.raises(BecameInvalidError):
                            await request(handle, b"?", reply_timeout=None)

                    for _ in range(10):
                        tasks.start_soon(fails)
                    await until(lambda: port.pending == 10)
                    pair.right.close()

            run(main)

    def test_of_a_forked_child_is_no_end(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                async with anyio.create_task_group() as tasks:
                    got: list[bytes | None] = []

                    async def ask() -> None:
                        got.append((await request(port, b"?", reply_timeout=PATIENCE)).data)

                    tasks.start_soon(ask)
                    await anyio.wait_all_tasks_blocked()
                    message = port.receive(0)

                    def in_the_child() -> str:
                        try:
                            message.reply(b"from the child")
                        except PortError as error:
                            return type(error).__name__
                        return "sent"

                    assert in_child(in_the_child) == "InvalidPortError"
                    message.reply(b"from the parent")
                assert got == [b"from the parent"]

        run(main)


def test_a_port_that_this_threads_event_loop_serves(run: Run[None]) -> None:
    """A blocking request there would wait for itself."""

    async def main() -> None:
        with MachPort(Recorder(b"!")) as port:

            async def process() -> None:
                while True:
                    await anyio.wait_readable(port.fileno())
                    port.process()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(process)
                assert (await request(port, b"?")).data == b"!"
                tasks.cancel_scope.cancel()

    run(main)


def test_links_keep_nothing_of_answered_requests(run: Run[None]) -> None:
    with Pair() as pair, MachPort(Recorder(b"!")) as port:
        handle = pair.open(port)

        def answer() -> None:
            for _ in range(100):
                port.receive(PATIENCE).reply(b"!")

        async def main() -> None:
            server = Background(answer)
            for _ in range(100):
                await request(handle, b"?", reply_timeout=PATIENCE)
            server.result()

        run(main)
        tables = (pair.left.table, pair.right.table)
        assert eventually(lambda: not any(table._once or table.asked for table in tables))
        assert not pair.left.reading._onlookers
