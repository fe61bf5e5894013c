"""One thread, two loops: asyncio sleeps in the thread's run loop, and both are served.

Coroutines talk TCP while ports, timers and performed calls of the run loop are served on the same
thread, without locks between the two. A delegate starts a task and answers its request from there;
a coroutine awaits a call on another thread's run loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from threading import Event, Thread, get_ident

from portkit import InputSource, MachPort, Port, PortMessage, RunLoop
from portkit.loops import new_event_loop


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that is written for asyncio."""
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


class Gateway:
    """Makes that service available at a port."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.tasks: set[asyncio.Task[None]] = set()

    def handle_port_message(self, message: PortMessage) -> None:
        message.defer()
        self.start(self.ask(message))

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def ask(self, message: PortMessage) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write((message.data or b"") + b"\n")
        message.reply((await reader.readline()).strip())
        writer.close()
        await writer.wait_closed()


def ask(port: Port) -> str:
    answer = port.request(b"hello")
    return (answer.data or b"").decode()


class Helper:
    """Another thread with a run loop."""

    def __init__(self) -> None:
        self._ready = Event()
        self.thread = Thread(target=self._body, daemon=True)  # Ctrl-C ends it too
        self.thread.start()
        self._ready.wait(10)

    def _body(self) -> None:
        self.loop = RunLoop.current()
        self.work = InputSource(lambda _: None)
        self.loop.add_source(self.work)
        self._ready.set()
        self.loop.run()

    def end(self) -> None:
        self.work.invalidate()  # a run loop without anything to do ends
        self.thread.join()


async def main() -> None:
    run_loop = RunLoop.current()
    helper = Helper()
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server:
        with MachPort(Gateway(server.sockets[0].getsockname()[:2])) as port:
            run_loop.add_port(port)
            print("a thread asks:", await asyncio.to_thread(ask, port))

    fired = asyncio.Event()
    run_loop.call_later(0.01, fired.set)
    await fired.wait()
    print("a timer of the run loop fired")

    loop = asyncio.get_running_loop()
    ident = await loop.run_in_executor(helper.loop.executor(), get_ident)
    print("called on the helper's run loop:", ident == helper.thread.ident)
    helper.end()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
