"""A chat room of ports that are handed around: who joins gets the ports of those who are there.

Members are processes of their own, and could be on other hosts. A member sends its port to the
room, gets the ports of the others, and hands each of them its own. From then on members talk to
each other, and the room's program hears nothing of it: a member listens at no address, and has one
connection, to the room, by which all of that goes. A member leaves by ending its port. Nobody has
to say so: everybody who holds that port is told.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

from portkit import InvalidPortError, Port, PortMessage, RunLoop, SocketPort, connect_port

JOIN = 1  # a name and a port, to the room; it answers with names and ports
HERE = 2  # to the room: the newcomer has greeted all
MISSED = 3  # to the room: a neighbour's port has ended
GREET = 4  # a name and a port, from member to member
DIARY = 5  # the room asks a member what it has seen
LEAVE = 6  # the room asks a member to leave


class Room:
    """Introduces its members to each other."""

    def __init__(self) -> None:
        self.members: dict[str, Port] = {}
        self.missed: set[str] = set()

    def handle_port_message(self, message: PortMessage) -> list[bytes | Port] | None:
        name = (message.data or b"").decode()
        if message.msgid == JOIN:
            others = list(self.members.items())
            self.members[name] = message.ports[0]
            return [part for other, port in others for part in (other.encode(), port)]
        if message.msgid == HERE:
            print(f"room: {name} is here, of {len(self.members)}")
            RunLoop.current().stop()
        elif message.msgid == MISSED:
            self.missed.add(name)
            if len(self.missed) == 2:
                print(f"room: {' and '.join(sorted(self.missed))} know of it")
                RunLoop.current().stop()
        return None


class Member:
    """Knows those whose ports it was given."""

    def __init__(self, name: str, room: Port) -> None:
        self.name = name
        self.room = room
        self.neighbours: dict[str, Port] = {}
        self.diary: list[str] = []

    def join(self, own: Port) -> None:
        """Get to know everybody who is there."""
        answer = self.room.request([self.name.encode(), own], msgid=JOIN)
        names = [part.decode() for part in answer.components if isinstance(part, bytes)]
        for other, port in zip(names, answer.ports, strict=True):
            self.meet(other, port)
            reply = port.request([self.name.encode(), own], msgid=GREET)
            self.diary.append(f"{other} says {(reply.data or b'').decode()!r}")
        self.room.send(self.name.encode(), msgid=HERE)

    def meet(self, other: str, port: Port) -> None:
        def gone(_: Port) -> None:
            del self.neighbours[other]
            self.diary.append(f"{other} is gone")
            with suppress(InvalidPortError):  # the room has closed
                self.room.send(self.name.encode(), msgid=MISSED)

        port.add_invalidation_handler(gone)
        self.neighbours[other] = port

    def handle_port_message(self, message: PortMessage) -> bytes | None:
        if message.msgid == GREET:
            other = (message.data or b"").decode()
            self.meet(other, message.ports[0])
            self.diary.append(f"{other} comes by")
            return f"welcome, {other}".encode()
        if message.msgid == DIARY:
            return ", ".join(self.diary).encode()
        RunLoop.current().stop()
        return None


def member(address: str, name: str) -> None:
    """A process that is in the room until it is asked to leave, or the room closes."""
    loop = RunLoop.current()
    room = connect_port(address)
    room.add_invalidation_handler(lambda _: loop.stop())
    someone = Member(name, room)
    with SocketPort(None, someone) as port:
        loop.add_port(port)
        someone.join(port)
        loop.run(timeout=20.0)


def main() -> None:
    loop = RunLoop.current()
    room = Room()
    processes = []
    with SocketPort(("127.0.0.1", 0), room) as port:
        loop.add_port(port)
        for name in ("ann", "ben", "cy"):
            command = [sys.executable, __file__, str(port.address), name]
            processes.append(subprocess.Popen(command))
            loop.run(timeout=20.0)  # until the member is here
        print("room: ben is asked to leave")
        room.members.pop("ben").send(msgid=LEAVE)
        loop.run(timeout=20.0)
        for name, someone in room.members.items():
            diary = someone.request(msgid=DIARY).data or b""
            print(f"{name}: {diary.decode()}")
    for process in processes:
        process.wait(timeout=20.0)
    print("room: closed, and everybody went home")


if __name__ == "__main__":
    if sys.argv[1:]:
        member(*sys.argv[1:])
    else:
        main()
