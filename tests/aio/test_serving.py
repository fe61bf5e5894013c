"""Delegates that are awaited: how many at a time, and what becomes of their tasks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from portkit import (
    Hook,
    InvalidPayloadError,
    InvalidPortError,
    MachPort,
    Port,
    PortError,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    add_hook,
    remove_hook,
)
from portkit.aio import receiving, request, send, serve
from portkit.typed import Payload, Router
from tests.aio.conftest import Run
from tests.aio.helpers import served, until
from tests.link.helpers import Pair
from tests.ports.helpers import Background
from tests.ports.helpers import served as served_by_loop
from tests.support import PATIENCE, Reports, eventually
from tests.transports.test_behaviour import World

ask = partial(request, reply_timeout=PATIENCE)


class Add(Payload, msgid=81):
    numbers: list[int]


class Sum(Payload, msgid=82):
    value: int


class Gate:
    """A handler whose calls wait until it is opened.

    Attributes:
        running, most: calls under way, and how many these were at once.
        cancelled, finished: how many came to which end.
    """

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.running = self.most = self.cancelled = self.finished = 0
        self.messages: list[bytes | None] = []

    async def __call__(self, message: PortMessage) -> bytes | None:
        """Wait, then answer with the data."""
        self.messages.append(message.data)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
            self.finished += 1
            return message.data
        except BaseException:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


class TestDelegates:
    @pytest.mark.parametrize("kind", ["plain", "async", "object", "awaitable"])
    def test_of_every_kind(self, run: Run[None], world: World, kind: str) -> None:
        def plain(message: PortMessage) -> Any:
            return [b"re", *message.components]

        async def asynchronous(message: PortMessage) -> Any:
            await anyio.sleep(0.001)
            return plain(message)

        class Object:
            async def handle_port_message(self, message: PortMessage) -> Any:
                return plain(message)

        delegates: dict[str, Any] = {
            "plain": plain,
            "async": asynchronous,
            "object": Object(),
            "awaitable": partial(asynchronous),
        }
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            async with served(port, delegates[kind]):
                answer = await ask(handle, [b"1", b"2"])
                assert answer.components == (b"re", b"1", b"2")
                # Threads ask it like any other.
                thread = Background(partial(handle.request, b"3", reply_timeout=PATIENCE))
                await until(lambda: not thread.is_alive())
                assert thread.result().components == (b"re", b"3")

        run(main)

    def test_a_router_with_handlers_of_both_kinds(self, run: Run[None], world: World) -> None:
        router = Router()

        @router.on(Add)
        async def add(payload: Add) -> Sum:
            await anyio.lowlevel.checkpoint()
            return Sum(value=sum(payload.numbers))

        @router.on(msgid=5)
        def plain(message: PortMessage) -> bytes:
            return b"plain"

        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            async with served(port, router):
                assert (await request(handle, Add(numbers=[1, 2, 3]), reply=Sum)).value == 6
                assert (await ask(handle, b"", msgid=5)).data == b"plain"
                with pytest.raises(InvalidPayloadError):
                    await ask(handle, b"{", msgid=Add.msgid)
                with pytest.raises(InvalidPayloadError):
                    await ask(handle, b"", msgid=999)

        run(main)

    @pytest.mark.parametrize("how", ["return None", "reply", "defer", "drop"])
    def test_answer_as_any_delegate_does(self, run: Run[None], how: str) -> None:
        kept: list[PortMessage] = []

        async def delegate(message: PortMessage) -> None:
            match how:
                case "reply":
                    message.reply(b"by hand")
                case "defer":
                    message.defer()
                    kept.append(message)
                case "drop":
                    message.drop()

        async def main() -> None:
            with MachPort() as port:
                async with served(port, delegate), anyio.create_task_group() as tasks:
                    if how == "drop":
                        with pytest.raises(ReplyDroppedError):
                            await ask(port)
                        return

                    async def answer() -> None:
                        await until(lambda: kept)
                        kept.pop().reply(b"later")

                    if how == "defer":
                        tasks.start_soon(answer)
                    expected = {"return None": b"", "reply": b"by hand", "defer": b"later"}
                    assert (await ask(port)).data == expected[how]

        run(main)

    def test_one_way_messages(self, run: Run[None], world: World) -> None:
        port, desk = world.port(), world.port()
        handle = world.handle(port)
        seen: list[int] = []

        async def delegate(message: PortMessage) -> bytes:
            seen.append(message.msgid)
            if message.send_port is not None:
                await send(message.send_port, b"back")
            return b"goes nowhere"

        async def main() -> None:
            async with served(port, delegate):
                for number in range(20):
                    await send(handle, msgid=number, timeout=PATIENCE)
                await send(handle, msgid=20, reply_port=desk, timeout=PATIENCE)
                await until(lambda: len(seen) == 21)
                await until(lambda: desk.pending)
            assert sorted(seen) == [*range(21)]

        run(main)

    def test_an_error_drops_the_request_and_is_reported(
        self, run: Run[None], world: World, reports: Reports
    ) -> None:
        async def delegate(message: PortMessage) -> Any:
            if message.msgid == 1:
                raise LookupError
            if message.msgid == 2:
                message.reply(b"replied")
                return b"and returned"
            return "no answer" if message.msgid == 3 else b"fine"

        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            async with served(port, delegate):
                for msgid in (1, 3):
                    with pytest.raises(ReplyDroppedError):
                        await ask(handle, msgid=msgid)
                assert (await ask(handle, msgid=2)).data == b"replied"
                assert (await ask(handle)).data == b"fine"

        run(main)
        assert eventually(lambda: len(reports.records) == 3)
        found = {type(error) for error in reports.take()}
        assert found == {LookupError, TypeError, PortError}

    @pytest.mark.parametrize(
        ("delegate", "options", "error"),
        [
            (5, {}, TypeError),
            (None, {}, TypeError),
            (print, {"limit": 0}, ValueError),
            (print, {"limit": "1"}, TypeError),
            (print, {"limit": True}, TypeError),
        ],
    )
    def test_that_are_none(
        self, run: Run[None], delegate: Any, options: dict[str, Any], error: type[Exception]
    ) -> None:
        async def main() -> None:
            with MachPort() as port, pytest.raises(error):
                await serve(port, delegate, **options)

        run(main)

    def test_the_context_is_that_of_who_serves(self, run: Run[None]) -> None:
        variable: ContextVar[str] = ContextVar("variable")

        async def delegate(message: PortMessage) -> bytes:
            before = variable.get()
            variable.set("changed by a handler")
            return before.encode()

        async def main() -> None:
            variable.set("of the server")
            with MachPort() as port:
                async with served(port, delegate):
                    for _ in range(2):
                        assert (await ask(port)).data == b"of the server"

        run(main)


class TestLimit:
    def test_so_many_are_handled_at_once(self, run: Run[None], world: World) -> None:
        """More stay in the queue, and then with their senders."""
        port = world.port(queue_limit=4)
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()
            async with served(port, gate, limit=3), anyio.create_task_group() as tasks:
                for number in range(20):
                    data = b"%d" % number
                    tasks.start_soon(partial(ask, handle, data, send_timeout=PATIENCE))
                # Of the room of those taken half may not be granted again yet.
                await until(lambda: gate.running == 3 and port.pending >= 3)
                await anyio.sleep(0.02)
                assert gate.running == 3
                assert port.pending <= 4
                gate.open.set()
            assert (gate.most, gate.finished) == (3, 20)

        run(main)

    def test_one_at_a_time_is_in_order(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            seen: list[int] = []

            async def delegate(message: PortMessage) -> None:
                await anyio.sleep(0.002 if message.msgid % 3 == 0 else 0)
                seen.append(message.msgid)

            for number in range(30):
                await send(handle, msgid=number, timeout=PATIENCE)
            async with served(port, delegate, limit=1):
                await until(lambda: len(seen) == 30)
            assert seen == [*range(30)]

        run(main)


class TestGivenUp:
    def test_the_handlers_task_is_cancelled(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()
            async with served(port, gate, limit=1):
                with pytest.raises(ReceiveTimeoutError):
                    await request(handle, b"given up", reply_timeout=0.05)
                await until(lambda: gate.cancelled == 1)
                gate.open.set()  # and the next has its place
                assert (await ask(handle, b"next")).data == b"next"
            assert gate.cancelled == 1

        run(main)

    def test_by_a_cancelled_task(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()
            async with served(port, gate):
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(partial(request, handle, b"?", reply_timeout=None))
                    await until(lambda: gate.running == 10)
                    tasks.cancel_scope.cancel()
                await until(lambda: gate.cancelled == 10)

        run(main)

    def test_by_a_thread(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()
            async with served(port, gate):
                asker = Background(partial(handle.request, b"?", reply_timeout=0.1))
                await until(lambda: gate.cancelled)
                with pytest.raises(ReceiveTimeoutError):
                    asker.result()

        run(main)

    def test_by_the_end_of_the_peer(self, run: Run[None]) -> None:
        async def main() -> None:
            gate = Gate()
            with Pair() as pair, MachPort() as port:
                handle = pair.open(port)
                async with served(port, gate):
                    asker = Background(partial(handle.request, b"?", reply_timeout=None))
                    await until(lambda: gate.running)
                    pair.left.close()
                    await until(lambda: gate.cancelled)
                    with pytest.raises(PortError):
                        asker.result()

        run(main)

    def test_before_it_begins_it_does_not(self, run: Run[None]) -> None:
        async def main() -> None:
            gate = Gate()
            with MachPort() as port:
                with pytest.raises(ReceiveTimeoutError):
                    await request(port, b"given up", reply_timeout=0)
                await send(port, b"one way")
                gate.open.set()
                async with served(port, gate):
                    assert (await ask(port, b"next")).data == b"next"
            assert set(gate.messages) == {b"next", b"one way"}

        run(main)


class TestCancelled:
    def test_handlers_are_and_their_requests_dropped(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()

            async def fails() -> None:
                with pytest.raises(ReplyDroppedError):
                    await ask(handle, b"dropped")

            async with (
                anyio.create_task_group() as tasks,
                served(port, gate, limit=5) as scope,
            ):
                for _ in range(5):
                    tasks.start_soon(fails)
                await until(lambda: gate.running == 5)
                await send(handle, b"unread", timeout=PATIENCE)
                scope.cancel()
            assert gate.cancelled == 5
            # The port is left as it was, with what was unread.
            gate = Gate()
            gate.open.set()
            async with served(port, gate):
                assert (await ask(handle, b"again")).data == b"again"
                await until(lambda: gate.finished == 2)
            assert b"unread" in gate.messages
            assert not port.pending

        run(main)

    def test_at_any_point_no_request_is_lost(self, run: Run[None]) -> None:
        """Each is answered, dropped or still there: nobody waits for a time-out."""

        async def delegate(message: PortMessage) -> bytes:
            await anyio.lowlevel.checkpoint()
            return b"!"

        async def main() -> None:
            outcomes: list[str] = []

            async def requester(port: Port) -> None:
                try:
                    await request(port, b"?", reply_timeout=None)
                    outcomes.append("answered")
                except ReplyDroppedError:
                    outcomes.append("dropped")

            with MachPort() as port:
                async with anyio.create_task_group() as tasks:
                    for turn in range(60):
                        tasks.start_soon(requester, port)
                        with anyio.move_on_after(0.0003 * (turn % 10)):
                            await serve(port, delegate)
                    async with served(port, delegate):
                        await until(lambda: len(outcomes) == 60)
            assert "answered" in outcomes

        run(main)


class TestEnd:
    def test_of_the_port_lets_those_under_way_finish(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        async def main() -> None:
            gate = Gate()
            done = anyio.Event()

            async def body() -> None:
                await serve(port, gate)
                done.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(body)
                answers: list[bytes | None] = []

                async def requester() -> None:
                    answers.append((await ask(handle, b"!")).data)

                tasks.start_soon(requester)
                await until(lambda: gate.running)
                port.invalidate()
                await anyio.sleep(0.01)
                assert not done.is_set()
                gate.open.set()
                await done.wait()
            assert answers == [b"!"]

        run(main)

    def test_of_an_invalid_port(self, run: Run[None]) -> None:
        async def main() -> None:
            port = MachPort()
            port.invalidate()
            with pytest.raises(InvalidPortError):
                await serve(port, print)

        run(main)

    def test_it_is_the_ports_one_consumer(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                async with served(port, print):
                    await anyio.wait_all_tasks_blocked()
                    with pytest.raises(PortError, match="consumer"):
                        await serve(port, print)

        run(main)


class TestHooks:
    def test_see_each_message_once(self, run: Run[None]) -> None:
        seen: list[str] = []

        class Watch(Hook):
            def sending(self, outgoing: Any) -> AbstractContextManager[object]:
                seen.append(f"{outgoing.kind}")
                outgoing.headers["trace"] = "1"
                return nullcontext()

            def delivering(self, port: Port, message: PortMessage) -> None:
                seen.append(f"delivering {message.headers['trace']}")

            def received(self, port: Port, message: PortMessage) -> None:
                seen.append("received")

        async def delegate(message: PortMessage) -> bytes:
            await anyio.lowlevel.checkpoint()
            return b"!"

        async def main() -> None:
            hook = Watch()
            with MachPort() as port:
                add_hook(hook)
                try:
                    async with served(port, delegate):
                        assert (await ask(port)).headers["trace"] == "1"
                    await send(port)
                    async for _ in receiving(port):
                        break
                finally:
                    remove_hook(hook)

        run(main)
        assert seen == ["request", "delivering 1", "answer", "send", "received"]


class TestOnARunLoop:
    """There nobody awaits: an asynchronous delegate is told where it belongs."""

    @pytest.mark.parametrize("one_way", [False, True])
    def test_an_asynchronous_delegate(self, one_way: bool, reports: Reports) -> None:
        async def delegate(message: PortMessage) -> bytes:
            raise AssertionError("never begun")

        with served_by_loop(delegate) as port:
            if one_way:
                port.send(b"?")
            else:
                with pytest.raises(ReplyDroppedError):
                    port.request(b"?", reply_timeout=PATIENCE)
            assert eventually(lambda: reports.records)
        (error,) = reports.take()
        assert isinstance(error, TypeError)
        assert "portkit.aio.serve" in str(error)

    @pytest.mark.own_thread
    def test_of_the_event_loops_own_thread(self, run: Run[None]) -> None:
        """A run loop that the thread has too, and does not run, changes nothing."""

        async def main() -> None:
            assert RunLoop.current() is not None
            gate = Gate()
            with MachPort() as port:
                async with served(port, gate):
                    with pytest.raises(ReceiveTimeoutError):
                        await request(port, b"?", reply_timeout=0.01)
                    await until(lambda: gate.cancelled)

        run(main)
