"""Sending from tasks: what has no room is waited for, and the event loop goes on."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from portkit import (
    Backoff,
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    MessagePort,
    NameNotFoundError,
    Port,
    PortError,
    PortMessage,
    SendTimeoutError,
    SocketPort,
    connect_port,
)
from portkit.aio import receiving, request, send, send_many
from portkit.typed import Payload
from portkit_transports.message.named_right import NamedRight
from tests.aio.conftest import Run
from tests.aio.helpers import until
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually
from tests.transports.message.fresh_host import fresh_host
from tests.transports.test_behaviour import World, full


class Job(Payload, msgid=91):
    """A payload, which brings its number."""


def test_what_is_sent_arrives(run: Run[None], world: World) -> None:
    port, desk = world.port(), world.port()
    handle = world.handle(port)

    async def main() -> None:
        await send(handle, [b"1", bytearray(b"2"), desk], msgid=7, reply_port=desk)
        await send(handle)

    run(main)
    message = port.receive(PATIENCE)
    assert (message.msgid, message.components[:2]) == (7, (b"1", b"2"))
    assert len(message.ports) == 1
    message.reply(b"back")
    assert desk.receive(PATIENCE).data == b"back"
    assert port.receive(PATIENCE).components == ()


def test_arguments_are_refused_as_by_the_blocking_ones(run: Run[None]) -> None:
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("text",), {}),
        ((5,), {}),
        ((b"",), {"msgid": -1}),
        ((b"",), {"msgid": "1"}),
        ((b"",), {"timeout": "1"}),
        ((b"",), {"timeout": float("nan")}),
        ((b"",), {"reply_port": 5}),
    ]

    async def main() -> None:
        with MachPort() as port:
            for args, options in wrong:
                with pytest.raises((TypeError, ValueError)) as blocking:
                    port.send(*args, **options)
                with pytest.raises(type(blocking.value)) as caught:
                    await send(port, *args, **options)
                assert str(caught.value) == str(blocking.value)
            for messages in (b"", PortMessage(), Job(), [b"good", "text"]):
                with pytest.raises(TypeError):
                    await send_many(port, messages)  # type: ignore[arg-type]
            for timeouts in ({"send_timeout": "1"}, {"reply_timeout": "1"}):
                with pytest.raises(TypeError):
                    await request(port, b"", **timeouts)  # type: ignore[call-overload]
            with pytest.raises(TypeError, match="Payload class"):
                await request(port, b"", reply=bytes)  # type: ignore[type-var]
            with pytest.raises(ValueError, match="leave msgid= out"):
                await send(port, Job(), msgid=9)
            assert not port.pending

    run(main)


class TestRoom:
    def test_is_waited_for(self, run: Run[None], world: World) -> None:
        port, handle = full(world)

        async def main() -> None:
            waiting = Waiting()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiting, partial(send, handle, b"second", timeout=PATIENCE))
                await waiting.begun.wait()
                await anyio.sleep(0.02)
                assert not waiting.done  # while the event loop goes on
                assert port.receive(PATIENCE).data == b"first"
            assert waiting.done

        run(main)
        assert port.receive(PATIENCE).data == b"second"

    def test_is_not_there_in_time(self, run: Run[None], world: World) -> None:
        port, handle = full(world)

        async def main() -> None:
            for timeout in (0, -1, 0.02):
                with pytest.raises(SendTimeoutError, match="raise timeout=") as caught:
                    await send(handle, b"second", timeout=timeout)
                assert caught.value.code == -1
            with pytest.raises(SendTimeoutError):
                await request(handle, b"second", send_timeout=0.02, reply_timeout=None)

        run(main)
        assert port.receive(PATIENCE).data == b"first"
        handle.send(b"third", timeout=PATIENCE)
        assert port.receive(PATIENCE).data == b"third"

    def test_a_cancelled_task_has_sent_nothing_and_takes_no_room(
        self, run: Run[None], world: World
    ) -> None:
        port, handle = full(world)

        async def main() -> None:
            for first in (send, request):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(first, handle, b"cancelled")
                    tasks.start_soon(partial(send_many, handle, [b"cancelled"]))
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(send, handle, b"second", timeout=PATIENCE))
                await anyio.wait_all_tasks_blocked()
                assert port.receive(PATIENCE).data == b"first"

        run(main)
        assert port.receive(PATIENCE).data == b"second"
        assert not port.pending

    def test_first_come_first_served(self, run: Run[None], world: World) -> None:
        port, handle = full(world)

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    data = b"%d" % number
                    tasks.start_soon(partial(send, handle, data, timeout=PATIENCE))
                    await anyio.wait_all_tasks_blocked()
                got = []
                async for message in receiving(port):
                    got.append(message.data)
                    if len(got) == 31:
                        break
            assert got == [b"first", *[b"%d" % number for number in range(30)]]

        run(main)

    def test_is_shared_with_threads(self, run: Run[None], world: World) -> None:
        """Wake-ups that tasks get and do not need go on to blocked threads, and back."""
        port = world.port(queue_limit=2)
        handle = world.handle(port)

        def block(number: int) -> None:
            for _ in range(20):
                handle.send(b"%d" % number, timeout=PATIENCE)

        async def impatient(number: int) -> None:
            for turn in range(20):
                with anyio.move_on_after(0.001 if turn % 5 == 4 else PATIENCE) as scope:
                    await send(handle, b"%d" % number, timeout=PATIENCE)
                if scope.cancelled_caught:
                    await send(handle, b"%d" % number, timeout=PATIENCE)

        async def main() -> None:
            threads = [Background(partial(block, number)) for number in range(2)]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(impatient, 2)
                tasks.start_soon(impatient, 3)
                got: list[bytes | None] = []
                async for message in receiving(port):
                    got.append(message.data)
                    if len(got) == 80:
                        break
            assert all(got.count(b"%d" % number) == 20 for number in range(4))
            for thread in threads:
                thread.result()

        run(main)

    def test_for_a_thousand_tasks(self, run: Run[None], world: World) -> None:
        port = world.port(queue_limit=16)
        handle = world.handle(port)
        count = 1000

        async def main() -> None:
            got = set()
            async with anyio.create_task_group() as tasks:
                for number in range(count):
                    tasks.start_soon(partial(send, handle, b"%d" % number, timeout=PATIENCE))
                async for message in receiving(port):
                    got.add(message.data)
                    if len(got) == count:
                        break
            assert not port.pending

        run(main)


class TestEndings:
    def test_invalid_already(self, run: Run[None], world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        handle.send(b"1", timeout=PATIENCE)
        port.invalidate()
        assert eventually(lambda: not handle.is_valid)

        async def main() -> None:
            calls: list[Callable[[], Awaitable[Any]]] = [
                partial(send, handle, b"2"),
                partial(send_many, handle, [b"2"]),
                partial(request, handle, b"2"),
            ]
            for call in calls:
                with pytest.raises(InvalidPortError) as caught:
                    await call()
                assert caught.value.code == -3

        run(main)

    def test_while_room_is_waited_for(self, run: Run[None], world: World) -> None:
        port, handle = full(world)

        async def main() -> None:
            errors: list[BaseException] = []

            async def fails(call: Callable[[], Awaitable[Any]]) -> None:
                try:
                    await call()
                except PortError as error:
                    errors.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fails, partial(send, handle, b"2", timeout=None))
                tasks.start_soon(fails, partial(send_many, handle, [b"2"], timeout=None))
                tasks.start_soon(fails, partial(request, handle, b"2", send_timeout=None))
                await anyio.wait_all_tasks_blocked()
                Background(port.invalidate).result()
            assert [type(error) for error in errors] == [BecameInvalidError] * 3

        run(main)

    def test_the_event_loop_goes_while_room_is_waited_for(self, run: Run[None]) -> None:
        """Whoever makes room then rings nobody."""
        with MachPort(queue_limit=1) as port:
            port.send(b"first")

            async def main() -> None:
                with anyio.move_on_after(0.01):
                    await send(port, b"second", timeout=None)

            run(main)
            assert not port._mailbox.senders
            port.receive(0)


class TestMany:
    def test_more_than_there_is_room_for(self, run: Run[None], world: World) -> None:
        port = world.port(queue_limit=8)
        handle = world.handle(port)
        data = [b"%d" % number for number in range(500)]

        async def main() -> None:
            got = []
            async with anyio.create_task_group() as tasks:

                async def sender() -> None:
                    assert await send_many(handle, iter(data), timeout=PATIENCE) == 500

                tasks.start_soon(sender)
                async for message in receiving(port):
                    got.append(message.data)
                    if len(got) == 500:
                        break
            assert got == data

        run(main)

    def test_how_many_were_accepted(self, run: Run[None], world: World) -> None:
        port = world.port(queue_limit=4)
        handle = world.handle(port)
        handle.send(b"0", timeout=PATIENCE)
        assert eventually(lambda: port.pending)

        async def main() -> None:
            with pytest.raises(SendTimeoutError) as caught:
                await send_many(handle, [b""] * 10, timeout=0.05)
            assert caught.value.accepted == 3

        run(main)
        assert eventually(lambda: port.pending == 4)


def test_a_request_is_handed_on(run: Run[None], world: World) -> None:
    port, office = world.port(), world.port(queue_limit=1)
    handle = world.handle(office)
    handle.send(b"full", timeout=PATIENCE)
    assert eventually(lambda: office.pending)
    asker = Background(partial(world.handle(port).request, b"?", reply_timeout=PATIENCE))
    message = port.receive(PATIENCE)

    async def main() -> None:
        with pytest.raises(SendTimeoutError):
            await send(handle, b"yours", reply_port=message.send_port, timeout=0.01)
        office.receive(PATIENCE)
        await send(handle, b"yours", reply_port=message.send_port, timeout=PATIENCE)

    run(main)
    office.receive(PATIENCE).reply(b"from the office")
    assert asker.result().data == b"from the office"


class TestFirstUse:
    """Of ports that are known by name or address: finding them is waited for, too."""

    def test_a_name(self, run: Run[None]) -> None:
        with fresh_host():

            async def main() -> None:
                remote = connect_port("message:nobody")
                for call in (send, request):
                    with pytest.raises(NameNotFoundError):
                        await call(remote, b"?")

            run(main)

    def test_a_name_that_many_tasks_look_up(self, run: Run[None]) -> None:
        """One of them does, on one thread."""
        looked: list[int] = []
        resolve = NamedRight.resolve

        def counting(right: NamedRight) -> Any:
            if not right.is_resolved:
                looked.append(threading.get_ident())
            return resolve(right)

        with fresh_host(), MessagePort("known") as port, pytest.MonkeyPatch.context() as patch:
            patch.setattr(NamedRight, "resolve", counting)
            remote = MessagePort.remote("known")

            async def main() -> None:
                async with anyio.create_task_group() as tasks:
                    for _ in range(50):
                        tasks.start_soon(send, remote, b"1")

            run(main)
            assert port.pending == 50
        assert len(looked) == 1
        assert looked != [threading.get_ident()]

    def test_an_address(self, run: Run[None]) -> None:
        with SocketPort() as port:
            assert port.address is not None
            address = port.address

            async def main() -> None:
                await send(connect_port(address), b"1")
                await send_many(connect_port(address), [b"2", b"3"])

            run(main)
            assert [port.receive(PATIENCE).data for _ in range(3)] == [b"1", b"2", b"3"]

    def test_where_nobody_listens(self, run: Run[None]) -> None:
        with SocketPort() as port:
            address = port.address
            assert address is not None
        remote = connect_port(address)
        with pytest.raises(PortError) as blocking:
            connect_port(address).send(b"1")

        async def main() -> None:
            with pytest.raises(type(blocking.value)):
                await send(remote, b"1")

        run(main)

    def test_where_nobody_listens_yet(self, run: Run[None]) -> None:
        """With ``reconnect`` that is waited for, as long as there is time."""
        with SocketPort() as port:
            address = port.address
            number = port.number
        assert address is not None
        remote = connect_port(address, reconnect=Backoff(initial=0.01, maximum=0.05))

        async def main() -> None:
            with pytest.raises(SendTimeoutError, match="no connection"):
                await send(remote, b"too early", timeout=0.05)
            with pytest.raises(SendTimeoutError, match="no connection"):
                await request(remote, b"too early", send_timeout=0.05)
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(partial(send, remote, b"1", timeout=PATIENCE))
                await anyio.wait_all_tasks_blocked()
                with SocketPort(("127.0.0.1", number)) as port:
                    for _ in range(20):
                        await until(lambda: port.pending)
                        assert port.receive(0).data == b"1"
            remote.invalidate()

        run(main)

    def test_of_many_tasks_at_once(self, run: Run[None]) -> None:
        with SocketPort(queue_limit=1000) as port:
            assert port.address is not None
            remote: Port = connect_port(port.address)

            async def main() -> None:
                async with anyio.create_task_group() as tasks:
                    for _ in range(300):
                        tasks.start_soon(send, remote, b"1")

            run(main)
            assert eventually(lambda: port.pending == 300)


class Waiting:
    """A call in a task, and how far it is."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.done = False

    async def __call__(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Make it."""
        self.begun.set()
        await call()
        self.done = True


def test_what_is_gathered_is_written_soon(run: Run[None], world: World) -> None:
    """Many sends of one turn of the event loop go together, and at its end."""
    port = world.port()
    handle = world.handle(port)

    async def main() -> None:
        for _ in range(20):
            await send(handle, b"1")
        await until(lambda: port.pending == 20)

    run(main)
