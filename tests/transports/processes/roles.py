"""What the other processes of these tests do: functions that they are told to call."""

from __future__ import annotations

import fcntl
import gc
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

from portkit import MachPort, Port, PortMessage, RunLoop, SendTimeoutError, SocketPort
from portkit.link import service
from portkit.link.descriptor import Descriptor
from portkit.link.link import Link
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.processes.ways import ByName, Way


class Do(IntEnum):
    """The msgid of a message says what :class:`Server` does with it."""

    ECHO = 1
    NOTHING = 2
    WAIT = 3
    ANSWER_WAITING = 4
    DROP = 5
    RAISE = 6
    ASK = 7
    KEEP = 8
    HOLD = 9
    WHO = 10
    PORT = 11
    PASS_ON = 12
    REPLY = 13
    PASS_ON_TO_WAIT = 14
    READ = 15
    FORWARD = 16


class Server:
    """A delegate that does what each message's number says.

    Attributes:
        abandoned: whether nobody can send to the port any more.
        kept: the data of messages to be kept, in the order in which they came.
        waiting: requests that wait for their answer.
        ports: ports that came.
    """

    def __init__(self) -> None:
        self.abandoned = False
        self.kept: list[bytes | None] = []
        self.waiting: list[PortMessage] = []
        self.ports: list[Port] = []

    def __call__(self, message: PortMessage) -> Any:
        """Handle the message."""
        return getattr(self, Do(message.msgid).name.lower())(message)

    def no_senders(self, port: Port) -> None:
        """Nobody holds the port any more."""
        self.abandoned = True

    def echo(self, message: PortMessage) -> Any:
        """Answer with what came."""
        return message.components

    def nothing(self, message: PortMessage) -> None:
        """Answer with None."""

    def wait(self, message: PortMessage) -> None:
        """Do not answer yet."""
        message.defer()
        self.waiting.append(message)

    def answer_waiting(self, message: PortMessage) -> bytes:
        """Answer those that wait, then this."""
        while self.waiting:
            self.waiting.pop(0).reply(b"late")
        return b"now"

    def drop(self, message: PortMessage) -> None:
        """Give no answer."""
        message.drop()

    def raise_(self, message: PortMessage) -> None:
        """Fail."""
        raise LookupError("on purpose")

    def ask(self, message: PortMessage) -> Any:
        """Ask the port that came, and answer with its answer."""
        return message.ports[0].request(message.data or b"", reply_timeout=PATIENCE).components

    def keep(self, message: PortMessage) -> bytes:
        """Keep the data; answer with how many there are."""
        self.kept.append(message.data)
        return b"%d" % len(self.kept)

    def hold(self, message: PortMessage) -> bytes:
        """Stay in this callback for as long as others have locked the file that is named."""
        with Path(os.fsdecode(message.data or b"")).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        return b"held"

    def read(self, message: PortMessage) -> bytes:
        """Answer with what the pipe that came holds, to its end."""
        pipe = message.components[0]
        assert isinstance(pipe, Descriptor)
        with pipe, open(pipe.fileno(), "rb", closefd=False) as file:
            return file.read()

    def who(self, message: PortMessage) -> bytes:
        """Answer with this process's number."""
        return b"%d" % os.getpid()

    def port(self, message: PortMessage) -> Any:
        """Keep the ports that came, and answer with them."""
        self.ports += message.ports
        return message.ports

    def pass_on(self, message: PortMessage) -> None:
        """Hand the request on to the port that came: its owner is to answer."""
        (onward,) = message.ports
        onward.send(message.data or b"", msgid=Do.ECHO, reply_port=message.send_port)

    def forward(self, message: PortMessage) -> None:
        """Hand the request on to the port of the name that came: its owner is to answer."""
        name = (message.data or b"").decode()
        Here.way.remote(name).send(b"", msgid=Do.WHO, reply_port=message.send_port)

    def reply(self, message: PortMessage) -> None:
        """Answer a message that asks for no answer, by its reply port."""
        message.reply(message.components)

    def pass_on_to_wait(self, message: PortMessage) -> None:
        """As :meth:`pass_on`; nobody is to answer."""
        (onward,) = message.ports
        onward.send(message.data or b"", msgid=Do.WAIT, reply_port=message.send_port)


setattr(Server, "raise", Server.raise_)


class Here:
    """How this process reaches the others."""

    way: Way = ByName()


def use(way: Way) -> None:
    """Open ports, and find others, in that way from now on."""
    Here.way = way


servers: dict[str, Server] = {}
ports: dict[str, Port] = {}


def open_port(name: str, queue_limit: int = 1024) -> int:
    """Serve a port of that name on this run loop; this process's number."""
    server = servers[name] = Server()
    port = ports[name] = Here.way.open(name, server, queue_limit=queue_limit)
    RunLoop.current().add_port(port)
    return os.getpid()


def open_many(name: str, count: int) -> None:
    """Serve as many ports as that, each with a number after its name."""
    for number in range(count):
        open_port(f"{name} {number}")


def open_unserved(name: str, queue_limit: int = 1024) -> None:
    """Open a port that no run loop serves."""
    ports[name] = Here.way.open(name, queue_limit=queue_limit)


def serve_port(name: str) -> None:
    """Serve from now on what :func:`open_unserved` opened."""
    server = servers[name] = Server()
    ports[name].delegate = server
    RunLoop.current().add_port(ports[name])


def names() -> list[str]:
    """Of all ports here."""
    return list(ports)


def pending(name: str) -> int:
    """How many messages lie at a port."""
    return ports[name].pending


def connections(name: str) -> int:
    """How many peers are connected to a port over TCP."""
    port = ports[name]
    assert isinstance(port, SocketPort)
    return port.connections


def is_abandoned(name: str) -> bool:
    """Whether nobody else holds a port any more, of which others held one."""
    return servers[name].abandoned


def kept(name: str) -> list[bytes | None]:
    """What a port's messages to be kept held."""
    return servers[name].kept


def waiting(name: str) -> int:
    """How many requests wait for their answer."""
    return len(servers[name].waiting)


def given_up(name: str) -> int:
    """How many of them are waited for no more."""
    return sum(message.is_abandoned for message in servers[name].waiting)


def open_requests() -> int:
    """How many requests the links of this process remember, of either side."""
    links = [one for one in gc.get_objects() if type(one) is Link and not one.is_closed]
    return sum(len(link.table._once) + len(link.table.asked) for link in links)


def invalidate(name: str) -> None:
    """End a port."""
    ports.pop(name).invalidate()


def drop_ports(name: str) -> None:
    """Let go of the ports that came to a server."""
    servers[name].ports.clear()


def exit_abruptly() -> None:
    """End without any ceremony."""
    os._exit(3)


def become_another_program() -> None:
    """Have this process run another program, for a while."""
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])


def send_here(door: str, what: str) -> None:
    """Send a port of this process to another process's."""
    Here.way.remote(door).send([ports[what]], timeout=PATIENCE)


def offer_mach_port(door: str, msgid: int = 0, queue_limit: int = 1024) -> None:
    """Send a port that has no name, and is none of this transport's, to another process."""
    server = servers["mach"] = Server()
    port = ports["mach"] = MachPort(server, queue_limit=queue_limit)
    port.add_no_senders_handler(server.no_senders)
    RunLoop.current().add_port(port)
    Here.way.remote(door).send([port], msgid=msgid, timeout=PATIENCE)


def offer_many(door: str, count: int) -> None:
    """Send as many such ports at once, each of which answers with its number."""
    for number in range(count):
        port = ports[f"mach {number}"] = MachPort(partial(_number, number))
        RunLoop.current().add_port(port)
    many = [ports[f"mach {number}"] for number in range(count)]
    Here.way.remote(door).send(many, timeout=PATIENCE)


def _number(number: int, message: PortMessage) -> bytes:
    return b"%d" % number


def show_kept(name: str, door: str, msgid: int = 0) -> None:
    """Send on a port that came to a server."""
    while not servers[name].ports:
        RunLoop.current().run_mode("default", PATIENCE)
    Here.way.remote(door).send(servers[name].ports[:1], msgid=msgid, timeout=PATIENCE)


def ask_kept(name: str, data: bytes, msgid: int = Do.ECHO) -> bytes | None:
    """Ask a port that came to a server."""
    return servers[name].ports[0].request(data, msgid=msgid, reply_timeout=PATIENCE).data


def ask_kept_with_descriptor(name: str) -> bytes | None:
    """As :func:`ask_kept`, with a descriptor."""
    with Descriptor(0) as sent:
        port = servers[name].ports[0]
        return port.request([sent], msgid=Do.ECHO, reply_timeout=PATIENCE).data


def ask_kept_allocated(name: str, size: int) -> bytes | None:
    """As :func:`ask_kept`, with a buffer that the port allocated, full of the letter x."""
    port = servers[name].ports[0]
    buffer = port.allocate(size)
    buffer[:] = b"x" * size
    return port.request([buffer], msgid=Do.ECHO, reply_timeout=PATIENCE).data


def send_to_kept(name: str, count: int) -> None:
    """Send numbers to a port that came to a server."""
    for number in range(count):
        servers[name].ports[0].send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)


def fill(port: Port, size: int = 1) -> int:
    """Send until there is no room; how many were accepted."""
    number = 0
    while True:
        try:
            port.send(b"%d " % number + bytes(size), msgid=Do.KEEP, timeout=0.05)
        except SendTimeoutError:
            return number
        number += 1


def fill_kept(name: str) -> int:
    """As :func:`fill`, with a port that came to a server."""
    return fill(servers[name].ports[0])


def first_is_valid(name: str) -> bool:
    """Whether a port that came to a server is valid."""
    return servers[name].ports[0].is_valid


def first_is_own(name: str, port: str) -> bool:
    """Whether a port that came to a server is one of this process's own."""
    return servers[name].ports[0] is ports[port]


def descriptors() -> dict[int, str]:
    """What this process has open."""
    gc.collect()
    return open_descriptors()


def send_numbers(name: str, count: int, size: int = 0) -> int:
    """Send numbered messages to be kept; how many."""
    port = Here.way.remote(name)
    for number in range(count):
        port.send(b"%d" % number + bytes(size), msgid=Do.KEEP, timeout=PATIENCE)
    return count


def ask(name: str, data: bytes = b"?", msgid: int = Do.ECHO) -> bytes | None:
    """Ask a port by name."""
    return Here.way.remote(name).request(data, msgid=msgid, reply_timeout=PATIENCE).data


_apart: list[LoopThread] = []


def open_apart(name: str, queue_limit: int = 1024) -> int:
    """As :func:`open_port`, on the run loop of another thread."""
    thread = LoopThread()
    thread.__enter__()
    _apart.append(thread)
    return thread.call(open_port, name, queue_limit)


def fork_and_sleep() -> int:
    """Fork; the forked process only waits to be killed. Its number."""
    pid = os.fork()
    if pid == 0:
        for fd in list(open_descriptors()):
            if fd > 2 and stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.close(fd)  # the pipes of the tests; portkit's are closed already
        time.sleep(2 * PATIENCE)
        os._exit(0)
    return pid


def service_is_at_rest() -> bool:
    """Whether no timer of the service thread is set, or soon none is."""
    loop = service.loop()
    return loop is not None and eventually(lambda: loop.next_timer_fire_date("default") is None)


@contextmanager
def held(port: Port, lock: Path) -> Iterator[None]:
    """Inside the ``with``, the :class:`Server` of a port is in a callback, or will be soon."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        port.send(os.fsencode(lock), msgid=Do.HOLD, timeout=PATIENCE)
        yield
