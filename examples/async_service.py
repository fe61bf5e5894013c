"""An asynchronous service: its handlers are awaited, many at a time, in one thread.

Clients are tasks and threads; the port could as well be a MessagePort or a SocketPort. One client
loses its patience: the handler that works for it is cancelled. With trio in place of asyncio the
program is the same.
"""

from __future__ import annotations

from functools import partial
from threading import Thread

import anyio

from portkit import MachPort, Port, PortMessage, ReceiveTimeoutError
from portkit.aio import receiving, request, send, serve
from portkit.typed import Payload, Router

service = Router()


class Greet(Payload, msgid=1):
    name: str


class Greeting(Payload, msgid=2):
    text: str


@service.on(Greet)
async def greet(question: Greet) -> Greeting:
    await anyio.sleep(0.01)  # a database, another service
    return Greeting(text=f"hello, {question.name}")


@service.on(msgid=3)
async def ponder(_: PortMessage) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        print("service: nobody waits for this any more")


def ask_from_a_thread(port: Port) -> None:
    answer = port.request(Greet(name="Alice"), reply=Greeting)
    print(f"thread: {answer.text}")


async def ask_from_tasks(port: Port) -> None:
    found: list[str] = []

    async def ask(name: str) -> None:
        found.append((await request(port, Greet(name=name), reply=Greeting)).text)

    async with anyio.create_task_group() as tasks:
        for name in ("Bob", "Carol", "Dave"):
            tasks.start_soon(ask, name)
    print(f"tasks: {', '.join(sorted(found))}")


async def lose_patience(port: Port) -> None:
    try:
        await request(port, msgid=3, reply_timeout=0.05)
    except ReceiveTimeoutError:
        print("task: no answer in time")


async def listen(port: Port) -> None:
    async for message in receiving(port):
        print(f"news: {(message.data or b'').decode()}")
        if message.data == b"the end":
            break


async def main() -> None:
    with MachPort() as port, MachPort() as news:
        async with anyio.create_task_group() as servers:
            servers.start_soon(partial(serve, port, service, limit=100))
            thread = Thread(target=ask_from_a_thread, args=(port,), name="client")
            thread.start()
            await anyio.to_thread.run_sync(thread.join)
            await ask_from_tasks(port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen, news)
                for text in (b"something happened", b"the end"):
                    await send(news, text)
            await lose_patience(port)
            servers.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)  # or backend="trio"
