"""Messages as an asynchronous iterator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from portkit import DEFAULT_MODE, InvalidPortError, MachPort, PortError
from portkit.aio import receiving
from tests.aio.conftest import Run
from tests.aio.helpers import until
from tests.ports.helpers import Background, in_child
from tests.support import PATIENCE, LoopThread
from tests.transports.test_behaviour import World


def test_all_arrive_in_order(run: Run[None], world: World) -> None:
    port = world.port()
    handle = world.handle(port)

    def send() -> None:
        for number in range(300):
            handle.send(b"%d" % number, msgid=number, timeout=PATIENCE)

    async def main() -> None:
        sender = Background(send)
        got: list[tuple[int, bytes | None]] = []
        async for message in receiving(port):
            got.append((message.msgid, message.data))
            if len(got) == 300:
                break
        assert got == [(number, b"%d" % number) for number in range(300)]
        sender.result()

    run(main)


def test_one_is_taken_when_it_is_asked_for(run: Run[None], world: World) -> None:
    """What bounds the senders is the queue's limit."""
    port = world.port(queue_limit=4)
    handle = world.handle(port)
    sent: list[int] = []

    def send() -> None:
        for number in range(60):
            handle.send(b"%d" % number, timeout=PATIENCE)
            sent.append(number)

    async def main() -> None:
        sender = Background(send)
        taken = 0
        async with receiving(port) as messages:
            async for _ in messages:
                taken += 1
                assert port.pending <= 4
                await anyio.sleep(0.001)
                # Of those credited and taken some may not be granted again yet, none is too many.
                assert len(sent) <= taken + 4
                if taken == 60:
                    break
        sender.result()

    run(main)


class TestEnd:
    def test_while_it_is_awaited(self, run: Run[None], world: World) -> None:
        port = world.port()
        world.handle(port).send(b"first", timeout=PATIENCE)

        async def main() -> None:
            got = []
            async for message in receiving(port):
                got.append(message.data)
                Background(port.invalidate)
            assert got == [b"first"]

        run(main)

    def test_by_the_consumer_itself(self, run: Run[None]) -> None:
        async def main() -> None:
            port = MachPort()
            port.send_many([b"1", b"2"])
            async for message in receiving(port):
                assert message.data == b"1"
                port.invalidate()

        run(main)

    def test_before_the_first(self, run: Run[None]) -> None:
        async def main() -> None:
            port = MachPort()
            port.invalidate()
            with pytest.raises(InvalidPortError):
                await anext(receiving(port))
            with pytest.raises(InvalidPortError):
                async with receiving(port):
                    pass

        run(main)

    def test_it_stays_at_its_end(self, run: Run[None]) -> None:
        async def main() -> None:
            port = MachPort()
            async with receiving(port) as messages:
                port.invalidate()
                with pytest.raises(StopAsyncIteration):
                    await anext(messages)
                with pytest.raises(InvalidPortError):
                    await anext(messages)

        run(main)


class TestLeaving:
    @pytest.mark.parametrize("how", ["break", "return", "raise", "cancel", "with"])
    def test_frees_the_port_at_once(self, run: Run[None], how: str) -> None:
        async def leave(port: MachPort) -> None:
            with anyio.CancelScope() as scope:
                if how == "with":
                    async with receiving(port) as messages:
                        await anext(messages)
                    assert messages is not None
                    return
                async for _ in receiving(port):
                    if how == "break":
                        break
                    if how == "return":
                        return
                    if how == "raise":
                        raise LookupError
                    scope.cancel()

        async def main() -> None:
            with MachPort(lambda message: None) as port, LoopThread() as thread:
                port.send_many([b"1", b"2", b"3", b"4"])
                try:
                    await leave(port)
                except LookupError:
                    pass
                assert port.receive(0).data == b"2"
                async for message in receiving(port):
                    assert message.data == b"3"
                    break
                thread.loop.add_port(port)
                thread.loop.remove_port(port)
                assert port.fileno() >= 0

        run(main)

    def test_what_is_unread_stays(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        for number in range(10):
            handle.send(b"%d" % number, timeout=PATIENCE)

        async def main() -> None:
            for number in range(10):
                async for message in receiving(port):
                    assert message.data == b"%d" % number
                    break

        run(main)


class TestConsumers:
    def test_there_is_one(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort(print) as port, LoopThread() as thread:
                port.send(b"1")
                others: list[Callable[[], Any]] = [
                    lambda: port.receive(0),
                    port.fileno,
                    port.process,
                    lambda: thread.loop.add_port(port, DEFAULT_MODE),
                ]
                async for _ in receiving(port):
                    for other in others:
                        with pytest.raises(PortError, match="consumer"):
                            other()
                    with pytest.raises(PortError, match="consumer"):
                        await anext(receiving(port))
                    break

        run(main)

    def test_another_was_first(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort(print) as port, LoopThread() as thread:
                thread.loop.add_port(port)
                with pytest.raises(PortError, match="served by the run loop"):
                    await anext(receiving(port))
            with MachPort(print) as port:
                port.fileno()
                with pytest.raises(PortError, match="one consumer"):
                    await anext(receiving(port))

        run(main)

    def test_one_task_at_a_time(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                async with receiving(port) as messages, anyio.create_task_group() as tasks:
                    tasks.start_soon(anext, messages)
                    await anyio.wait_all_tasks_blocked()
                    with pytest.raises(PortError, match="another task"):
                        await anext(messages)
                    tasks.cancel_scope.cancel()

        run(main)

    def test_only_a_port_that_receives(self, world: World) -> None:
        handle = world.handle(world.port())
        if handle.is_remote:
            with pytest.raises(PortError, match="only sends"):
                receiving(handle)

    def test_a_blocking_sender_on_the_event_loops_own_thread(self, run: Run[None]) -> None:
        """It could wait for ever, as only this thread makes room: it is told so at once."""

        async def main() -> None:
            with MachPort(queue_limit=1) as port:
                async with receiving(port):
                    port.send(b"full")
                    with pytest.raises(PortError, match="only this thread"):
                        port.send(b"too much", timeout=None)

        run(main)


class TestCancelling:
    def test_loses_no_message(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)

        def send() -> None:
            for number in range(200):
                handle.send(b"%d" % number, timeout=PATIENCE)

        async def main() -> None:
            got: list[bytes | None] = []
            cancelled = 0
            sender = Background(send)
            async with receiving(port) as messages:
                while len(got) < 200:
                    with anyio.CancelScope() as scope, anyio.move_on_after(0.0002 * cancelled):
                        got.append((await anext(messages)).data)
                        scope.cancel()
                        continue
                    cancelled = (cancelled + 1) % 10
            assert got == [b"%d" % number for number in range(200)]
            sender.result()

        run(main)

    def test_in_the_moment_of_a_message(self, run: Run[None]) -> None:
        async def main() -> None:
            with MachPort() as port:
                async with receiving(port) as messages:
                    for number in range(50):
                        with anyio.CancelScope() as scope:
                            async with anyio.create_task_group() as tasks:
                                tasks.start_soon(anext, messages)
                                await anyio.wait_all_tasks_blocked()
                                port.send(b"%d" % number)
                                scope.cancel()
                        # Either the task got it, before it was cancelled, or it is still there.
                        assert port.pending <= 1
                        while port.pending:
                            assert (await anext(messages)).data == b"%d" % number

        run(main)


def test_others_have_their_turn(run: Run[None]) -> None:
    """However many messages there are, and though nothing else is awaited."""

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        with MachPort() as port:
            port.send_many([b""] * 1000)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                async with receiving(port) as messages:
                    for _ in range(1000):
                        await anext(messages)
                    tasks.cancel_scope.cancel()
        assert turns > 5

    run(main)


def test_a_forked_child_does_not_disturb(run: Run[None]) -> None:
    async def main() -> None:
        with MachPort() as port:
            async with receiving(port) as messages, anyio.create_task_group() as tasks:
                got: list[bytes | None] = []

                async def take() -> None:
                    got.append((await anext(messages)).data)

                tasks.start_soon(take)
                await anyio.wait_all_tasks_blocked()

                def in_the_child() -> str:
                    assert not port.is_valid
                    messages.close()
                    port.invalidate()
                    return "closed"

                assert in_child(in_the_child) == "closed"
                port.send(b"the parent goes on")
            assert got == [b"the parent goes on"]

    run(main)


def test_the_event_loop_may_end_with_it_open(run: Run[None]) -> None:
    with MachPort() as port:
        kept = [receiving(port)]

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, kept[0])
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()

        run(main)
        Background(lambda: port.send(b"rings nobody")).result()
        kept.clear()
        assert port.receive(0).data == b"rings nobody"


def test_interleaved_with_waiting(run: Run[None]) -> None:
    """The wake-up of one message is not lost while the consumer works on another."""

    async def main() -> None:
        with MachPort() as port:

            def send() -> None:
                for number in range(500):
                    port.send(b"%d" % number, timeout=PATIENCE)

            sender = Background(send)
            count = 0
            async for message in receiving(port):
                assert message.data == b"%d" % count
                count += 1
                if count % 7 == 0:
                    await anyio.lowlevel.checkpoint()
                if count == 500:
                    break
            sender.result()
            await until(lambda: not port.pending)

    run(main)
