"""Peers that overdo it, and a system that refuses: one link suffers, the others go on."""

from __future__ import annotations

import logging
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portkit import BecameInvalidError, InvalidPortError, MachPort, MessagePort, PortMessage
from portkit.link import frames
from portkit.link.frames import Entry, Kind, Part
from portkit.link.node import Node, Settings
from portkit.link.remote_port import RemotePort
from portkit.message import Sender
from portkit_transports.message import host as host_module
from portkit_transports.message.channel import UnixChannel
from portkit_transports.message.host import ALLOWED_UIDS, Host, host
from tests.link.raw import DOOR, RawPeer, Victim
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.message.fresh_host import fresh_host


@pytest.fixture
def folder(no_leftovers: None) -> Iterator[Path]:
    with fresh_host() as path:
        yield path


def reasons(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


# Peers that are slow.


@pytest.mark.parametrize("dialled", [False, True])
def test_silence_ends_at_the_time_limit(dialled: bool, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        Victim(Settings(greeting_timeout=0.2)) as victim,
        RawPeer(victim.right_node, dialled=dialled) as peer,
    ):
        assert peer.is_dropped()
        victim.check_unharmed()
    assert "did not greet within 0.2 s" in reasons(caplog)


def test_a_greeting_byte_by_byte_does_not_put_the_limit_off() -> None:
    with (
        Victim(Settings(greeting_timeout=0.2)) as victim,
        RawPeer(victim.right_node) as peer,
    ):
        peer.socket.settimeout(0.02)
        hello = frames.record(Kind.HELLO, b" " * 4000)
        try:
            for index in range(len(hello) - 1):
                peer.socket.send(hello[index : index + 1])
                try:
                    peer.socket.recv(1, socket.MSG_PEEK)
                    break  # the refusal has come
                except TimeoutError:
                    pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        peer.socket.settimeout(PATIENCE)
        assert peer.rest()[-1].kind == Kind.REFUSED
        victim.check_unharmed()


def test_who_greeted_may_be_as_slow_as_it_likes() -> None:
    with (
        Victim(Settings(greeting_timeout=0.05)) as victim,
        RawPeer(victim.right_node) as peer,
    ):
        peer.greet().open_door()
        frame = frames.simple_message(Kind.MESSAGE, DOOR, 0, 0, b"slow")
        peer.send(frame[:20])
        assert not eventually(lambda: peer.link.is_closed, 0.2)
        peer.send(frame[20:])
        assert victim.door.receive(PATIENCE).data == b"slow"


# Peers that never read.


def never_read(victim: Victim, peer: RawPeer, size: int) -> None:
    """Requests without end, whose answers nobody reads; until the victim has had enough."""
    asked: list[PortMessage] = []

    def answer(message: PortMessage) -> bytes:
        asked.append(message)
        return bytes(size)

    with MachPort(answer, queue_limit=256) as wide, LoopThread() as loop:
        victim.ports[b"W" * 16] = wide
        loop.call(loop.loop.add_port, wide)
        peer.send(frames.open_right(DOOR + 1, b"W" * 16, victim.right_node.incarnation))
        for once in range(1, 100_000):
            request = frames.simple_message(Kind.MESSAGE, DOOR + 1, 0, once, b"?")
            peer.send_until_refused(request)
            # Room is granted, but not heard of: what was taken may be sent again.
            if once % 64 == 0:
                assert eventually(lambda n=once: len(asked) >= n or peer.link.is_closed)  # type: ignore[misc]
            if peer.link.is_closed:
                return


@pytest.mark.parametrize("size", [1000, 100_000])
def test_answers_that_nobody_reads(size: int, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        Victim(Settings(unread_limit=2_000_000)) as victim,
        RawPeer(victim.right_node) as peer,
    ):
        peer.greet().open_door()
        never_read(victim, peer, size)
        assert eventually(lambda: peer.link.is_closed)
        assert peer.link.outbox.size == 0
        victim.check_unharmed()
    assert "leaves over 2000000 bytes unread" in reasons(caplog)


def test_pings_that_nobody_reads_the_answers_of() -> None:
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet()
        for _ in range(100):
            peer.send(frames.ping() * 10_000)
        assert eventually(lambda: peer.link.incoming.bytes_read > 8_000_000)
        assert peer.link.outbox.size <= 8
        victim.check_unharmed()


# Very many connections.


def connect(this: Host) -> socket.socket:
    assert this._listener is not None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(this._listener.path)
    return connection


class Dialled(RawPeer):
    """A raw peer that dials this process's listener."""

    def __init__(self, this: Host, connection: socket.socket | None = None) -> None:
        self.node = this.node
        self._bytes = b""
        self.descriptors = []
        self.socket = connection or connect(this)

    def close(self) -> None:
        """Go."""
        self.socket.close()


def test_a_thousand_connections_from_one_process(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(open_descriptors())
    with MessagePort("victim"):
        this = host()
        most = this.node.settings.max_links_per_process
        with Dialled(this) as first:
            first.greet()
            kept: list[Dialled] = []
            refused = 0
            for _ in range(1000):
                peer = Dialled(this)
                peer.send_until_refused(peer.hello())
                came = peer.next()
                if came.kind == Kind.WELCOME:
                    kept.append(peer)
                    continue
                refused += 1
                assert f"has {most} connections already".encode() in came.body
                peer.close()
            assert len(kept) == most - 1
            assert len(this.node.links) <= most + 1
            assert eventually(lambda: len(open_descriptors()) < before + 2 * most + 20)
            first.send(frames.ping())
            assert first.next().kind == Kind.PONG
            for peer in kept:
                peer.close()
            assert eventually(lambda: len(this.node.links) == 1)
            with Dialled(this) as again:
                again.greet()
        assert eventually(lambda: not this.node.links)


def test_those_who_do_not_greet_count(folder: Path) -> None:
    with MessagePort("victim"):
        this = host()
        most = this.node.settings.max_links_per_process
        silent = [Dialled(this) for _ in range(most)]
        assert eventually(lambda: len(this.node.links) == most)
        with Dialled(this) as late:
            assert late.next().kind == Kind.REFUSED
        for peer in silent:
            peer.close()
        assert eventually(lambda: not this.node.links)


# A system without descriptors.


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    highest = max(open_descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))
    try:
        while True:  # the gaps below, so that only the spare ones are left
            fd = os.open(os.devnull, os.O_RDONLY)
            if fd > highest:
                os.close(fd)
                break
            fillers.append(fd)
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


def test_no_descriptor_for_a_connection(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), MessagePort("victim"):
        this = host()
        with Dialled(this) as first:
            first.greet()
            sockets = [socket.socket(socket.AF_UNIX) for _ in range(10)]
            assert this._listener is not None
            path = this._listener.path
            with few_descriptors(3):
                for one in sockets:
                    one.settimeout(PATIENCE)
                    one.connect(path)  # they wait in the backlog
                assert eventually(lambda: "cannot be accepted" in reasons(caplog))
                first.send(frames.ping())
                assert first.next().kind == Kind.PONG
                assert len(this.node.links) < 10
            for one in sockets:
                with Dialled(this, one) as peer:
                    peer.greet()
        assert eventually(lambda: not this.node.links)


def test_no_descriptor_for_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        null = os.open(os.devnull, os.O_RDONLY)
        with few_descriptors(1):
            entries = [Entry(Part.DESCRIPTOR, 0, 0, 0)] * 5
            peer.send(frames.message(Kind.MESSAGE, DOOR, 0, 0, entries, []), [null] * 5)
            assert eventually(lambda: peer.link.is_closed)
            assert "cut off" in peer.link.ending
            victim.check_unharmed()
        os.close(null)


# Refusals.


def test_the_reason_of_a_refusal_reaches_who_dialled(caplog: pytest.LogCaptureFixture) -> None:
    with Victim() as victim:
        node = Node(Settings(), admits=lambda sender: "it is Sunday")
        near, far = socket.socketpair()
        link = victim.left_node.dial(UnixChannel(near))
        port = RemotePort(link.table.open(b"D" * 16, node.incarnation))
        with caplog.at_level(logging.WARNING):
            node.accept(UnixChannel(far))
            with pytest.raises((BecameInvalidError, InvalidPortError), match="it is Sunday"):
                port.request(b"?", reply_timeout=PATIENCE)
            assert eventually(lambda: not port.is_valid)
            with pytest.raises(InvalidPortError, match="it is Sunday"):
                port.send(b"?")
            with pytest.raises(InvalidPortError, match="it is Sunday"):
                port.send_many([b"?"])
        assert "it is Sunday" in reasons(caplog)
        victim.check_unharmed()


def test_a_list_of_users_that_is_none_admits_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_UIDS, "4242, staff")
    assert "not '4242, staff'" in host_module._refusal(Sender(99, 4242))
    assert host_module._refusal(Sender(99, os.geteuid())) == ""


@pytest.mark.parametrize(("allowed", "kind"), [("", Kind.REFUSED), ("7, 4242", Kind.WELCOME)])
def test_other_users(allowed: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED_UIDS, allowed)
    with Victim() as victim:
        node = Node(Settings(), admits=host_module._refusal)
        near, far = socket.socketpair()
        channel = UnixChannel(far)
        channel.sender = Sender(99, 4242)
        link = node.accept(channel)
        with near:
            near.settimeout(PATIENCE)
            try:
                near.sendall(RawPeer.hello(None))  # type: ignore[arg-type]
            except BrokenPipeError:
                pass
            assert near.recv(5)[4] == kind
        assert eventually(lambda: link.is_closed)
        victim.check_unharmed()


DIAL = """
import os, socket, sys
os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect(sys.argv[1])
print(s.recv(4096)[8:].decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_in_another_process(folder: Path) -> None:
    with MessagePort("victim"):
        listener = host()._listener
        assert listener is not None
        folder.chmod(0o711)  # as if somebody had opened it
        Path(listener.path).chmod(0o666)
        done = subprocess.run(
            [sys.executable, "-I", "-c", DIAL, listener.path],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            cwd="/",
        )
        folder.chmod(0o700)
        assert "user 65534 may not connect to user 0: add the number to" in done.stdout
        assert ALLOWED_UIDS in done.stdout


def test_what_waits_at_a_port_outlives_the_link_that_broke() -> None:
    with Victim() as victim, RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(frames.simple_message(Kind.MESSAGE, DOOR, 7, 1, b"kept") + b"\xff" * 8)
        assert peer.is_dropped()
        message = victim.door.receive(PATIENCE)
        assert isinstance(message, PortMessage)
        assert (message.data, message.msgid) == (b"kept", 7)
        message.reply(b"to nobody")
        with MachPort() as other:
            victim.open(other).send(b"x")
            assert other.receive(PATIENCE).data == b"x"
