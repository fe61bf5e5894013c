"""A worker whose network goes away in the midst of its work, and comes back with another address.

``reconnect=Backoff(…)`` makes a handle that outlives its connections. What else was on the lost
connection ends with it: the worker's request fails, since nobody knows whether it was handled; the
port that it gave to the main side is gone there. When there is a connection again the worker is
told. It checks in anew, and brings the result that it got no answer for: the main side takes each
result once, by its number. Nothing is sent again behind the program's back.

The network between the two is played by a relay in the main process, which is cut and moved. All
that is printed is what the main side sees.
"""

from __future__ import annotations

import socket
import subprocess
import sys

from portkit import (
    Backoff,
    BecameInvalidError,
    ConnectionEvent,
    DescriptorSource,
    Port,
    PortMessage,
    RunLoop,
    SocketPort,
)

CHECK_IN = 1
JOB = 2
RESULT = 3
QUIT = 4


class Network:
    """Carries connections to a port, as if they came from this or that address."""

    def __init__(self, host: str, port: int) -> None:
        self.target = host, port
        self.source = "127.0.0.1"
        self.sockets: dict[DescriptorSource, socket.socket] = {}
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.accepting = DescriptorSource(self.listening, lambda *_: self.accept())
        RunLoop.current().add_source(self.accepting)

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    def accept(self) -> None:
        near = self.listening.accept()[0]
        far = socket.create_connection(self.target, 5.0, (self.source, 0))
        self.carry(near, far)
        self.carry(far, near)

    def carry(self, one: socket.socket, other: socket.socket) -> None:
        def forward(*_: object) -> None:
            data = one.recv(65536)
            if data:
                other.sendall(data)
            else:
                self.cut()

        source = DescriptorSource(one, forward)
        self.sockets[source] = one
        RunLoop.current().add_source(source)

    def cut(self) -> None:
        """End what is connected, and let nobody connect."""
        self.accepting.watch(read=False, write=False)
        while self.sockets:
            source, connection = self.sockets.popitem()
            source.invalidate()
            connection.close()

    def come_back(self, source: str) -> None:
        """Let connect who wants to, from another address."""
        self.source = source
        self.accepting.watch(read=True, write=False)

    def close(self) -> None:
        self.cut()
        self.accepting.invalidate()
        self.listening.close()


class MainSide:
    """Deals out numbers to be squared. When the second result comes, the network goes away."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.worker: Port | None = None
        self.results: dict[int, int] = {}

    def handle_port_message(self, message: PortMessage) -> None:
        assert message.sender is not None, "it came over a link"
        assert self.network is not None, "it is there before the worker"
        words = (message.data or b"").decode().split()
        if message.msgid == CHECK_IN:
            print(f"a worker checks in from {message.sender.host}; messages in doubt: {words[0]}")
            (self.worker,) = message.ports
            self.worker.add_invalidation_handler(lambda _: self.worker_gone())
            self.give_work()
            return
        number, square = map(int, words)
        if number in self.results:
            print(f"the square of {number} came before; it is not counted twice")
            return
        self.results[number] = square
        print(f"the square of {number} is {square}")
        if number == 2:
            print("now the network goes away, and with it the answer to that")
            self.network.cut()
        else:
            self.give_work()

    def give_work(self) -> None:
        assert self.worker is not None, "it has checked in"
        number = len(self.results) + 1
        if number <= 4:
            self.worker.send(str(number).encode(), msgid=JOB)
        else:
            self.worker.send(msgid=QUIT)

    def worker_gone(self) -> None:
        assert self.network is not None, "as above"
        print("the worker's port is gone")
        if len(self.results) < 4:
            self.network.come_back("127.0.0.2")
        else:
            RunLoop.current().stop()


class Worker:
    """Works for whoever is at the other end of a connection."""

    def __init__(self, port: int) -> None:
        self.port = SocketPort(None, self)
        self.in_doubt = 0
        self.unanswered: bytes = b""
        RunLoop.current().add_port(self.port)
        backoff = Backoff(initial=0.05, maximum=1.0)
        self.main = SocketPort.remote("127.0.0.1", port, reconnect=backoff)
        self.main.add_connection_handler(self.connection_changed)  # called by this run loop

    def check_in(self) -> None:
        self.main.request([str(self.in_doubt).encode(), self.port], msgid=CHECK_IN)
        if self.unanswered:
            self.main.request(self.unanswered, msgid=RESULT)
            self.unanswered = b""

    def connection_changed(self, _: Port, event: ConnectionEvent) -> None:
        if event.is_connected:
            self.check_in()
        else:
            self.in_doubt = event.unacknowledged

    def handle_port_message(self, message: PortMessage) -> None:
        if message.msgid == QUIT:
            RunLoop.current().stop()
            return
        number = int(message.data or b"")
        result = f"{number} {number**2}".encode()
        try:
            self.main.request(result, msgid=RESULT)
        except BecameInvalidError:
            self.unanswered = result  # whether it arrived, who knows


def worker(port: str) -> None:
    """The other process."""
    someone = Worker(int(port))
    with someone.port:
        someone.check_in()
        RunLoop.current().run(timeout=20.0)


def main() -> None:
    side = MainSide()
    with SocketPort(("127.0.0.1", 0), side) as port:
        RunLoop.current().add_port(port)
        number = port.number
        side.network = Network("127.0.0.1", number)
        command = [sys.executable, __file__, str(side.network.port)]
        with subprocess.Popen(command) as process:
            RunLoop.current().run(timeout=20.0)
            side.network.close()
            process.wait(timeout=20.0)


if __name__ == "__main__":
    if sys.argv[1:]:
        worker(sys.argv[1])
    else:
        main()
