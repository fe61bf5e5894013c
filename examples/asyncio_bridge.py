"""A port served by asyncio: one descriptor to watch, one call when it is readable.

``fileno()`` gives the port's descriptor and ``process()`` delivers what is waiting, without
blocking. The delegate runs inside asyncio's loop; it defers a request and answers it from a task,
while other threads use the port as any other.
"""

from __future__ import annotations

import asyncio
from threading import Thread

from portkit import MachPort, Port, PortMessage


class Service:
    """Answers requests from a coroutine."""

    def __init__(self) -> None:
        self.port = MachPort(self)
        self.served = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle_port_message(self, message: PortMessage) -> None:
        message.defer()
        task = asyncio.create_task(self.answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def answer(self, message: PortMessage) -> None:
        name = (message.data or b"").decode()
        print(f"asyncio: {name} asks")
        await asyncio.sleep(0.01)  # a database, another service
        message.reply(f"hello, {name}".encode())
        if name == "Bob":
            self.served.set()


def ask(port: Port) -> None:
    for name in (b"Alice", b"Bob"):
        answer = port.request(name)
        print(f"thread: {(answer.data or b'').decode()}")


async def serve() -> None:
    service = Service()
    loop = asyncio.get_running_loop()
    thread = Thread(target=ask, args=(service.port,), name="clients")
    with service.port:
        loop.add_reader(service.port.fileno(), service.port.process)
        thread.start()
        await service.served.wait()
        await asyncio.to_thread(thread.join)
        loop.remove_reader(service.port.fileno())  # before the port closes its descriptor
    print(f"asyncio: the port is {'valid' if service.port.is_valid else 'invalid'}")


if __name__ == "__main__":
    asyncio.run(serve())
