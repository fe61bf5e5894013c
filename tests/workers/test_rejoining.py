"""``portkit worker`` over TCP: what it does where the group is not there, is gone, or cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from portkit.cli.app import app
from portkit.link.remote_port import RemotePort
from portkit.link.rights import Import
from portkit.workers import Worker, WorkerGroup
from portkit_transports.socket import PreSharedKey, Settings, TLSConfig
from tests.support import PATIENCE, eventually
from tests.workers.expected import OBEY, Starter, Way, ask, certs, start, way_by
from tests.workers.helpers import Events, beside, run_until

__all__ = ["certs", "start"]

pytestmark = [pytest.mark.own_thread, pytest.mark.usefixtures("folder")]


@pytest.fixture
def way(certs: Path) -> Way:
    """TCP with TLS."""
    return way_by("tls", certs)


@pytest.fixture
def nobody() -> Iterator[socket.socket]:
    """A place that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def place_of(listening: socket.socket) -> tuple[str, int]:
    host, number = listening.getsockname()
    return host, number


def unused() -> tuple[str, int]:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return place_of(listening)


def written(place: tuple[str, int]) -> str:
    return f"socket://{place[0]}:{place[1]}"


def cut(worker: Worker) -> None:
    """End the worker's connection, as a middlebox does: neither side has asked for it."""
    port = worker.port
    assert isinstance(port, RemotePort)
    assert isinstance(port._right, Import)
    channel: Any = port._right.link.channel
    with socket.socket(fileno=os.dup(channel.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def test_it_waits_for_its_group(start: Starter, way: Way) -> None:
    place = unused()
    command = start(written(place), *way.arguments)
    assert eventually(lambda: command.lines)
    with way.group(address=place) as group:
        assert ask(group.workers[0], b"echo x") == b"x"
    status, lines = command.ended()
    assert status == 0
    waiting, *others = lines
    assert waiting.startswith(f"waiting for {written(place)}: 127.0.0.1:{place[1]} cannot be")
    assert others == [
        f"{written(place)} took this worker as worker-0",
        f"{written(place)} needs this worker no more",
    ]


def test_a_connection_that_is_cut_is_made_anew(start: Starter, way: Way) -> None:
    """By the same process, which gets its place again, though another one was free too."""
    events = Events()
    back: list[Worker] = []
    group = way.group(2, on_worker_lost=events.worker_lost, on_worker_restarted=back.append)
    door = str(group.door)
    commands = [start(door, *way.arguments) for _ in range(2)]
    with group:
        first, second = group.workers
        before = [json.loads(ask(one, b"know"))["pid"] for one in group.workers]
        for one in (second, first):
            cut(one)
        run_until(lambda: len(back) == 2)
        assert sorted(one.index for one in back) == [0, 1]
        assert [json.loads(ask(one, b"know"))["pid"] for one in group.workers] == before
        assert [one.restarts for one in group.workers] == [1, 1]
        assert len(events.lost) == 2
    for command in commands:
        status, (took, lost, again, _) = command.ended()
        assert status == 0
        assert lost.startswith(f"lost {door}: its connection ended: ")
        assert took == again


MAIN = """
import sys
from portkit import TLSConfig, WorkerGroup

folder, number = sys.argv[1:]
tls = TLSConfig.from_folder(folder, "main")
address = ("127.0.0.1", int(number))
group = WorkerGroup(None, over="socket", count=1, address=address, tls=tls, check_in_timeout=60)
group.open()
with group:
    print(group.workers[0].port.request(b"echo joined", reply_timeout=60).data, flush=True)
    sys.stdin.read()
"""


@contextmanager
def main_side(certs: Path, place: tuple[str, int]) -> Iterator[subprocess.Popen[str]]:
    """A group in a process of its own; its worker has joined."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(certs), str(place[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "b'joined'\n"
            yield process
        finally:
            process.kill()


def test_a_group_whose_process_was_killed_is_waited_for(
    start: Starter, way: Way, certs: Path
) -> None:
    place = unused()
    command = start(written(place), *way.arguments)
    with main_side(certs, place) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    assert eventually(lambda: command.lines[-1].startswith("waiting for "))
    with main_side(certs, place) as process:
        process.communicate("", PATIENCE)
        assert process.returncode == 0
    status, lines = command.ended()
    assert status == 0
    words = [line.split()[0] for line in lines if not line.startswith("waiting")]
    assert words == [written(place), "lost", written(place), written(place)]


@pytest.mark.parametrize("retry", ["--retry", "--no-retry"])
def test_without_retry_it_ends_with_its_group(
    start: Starter, way: Way, certs: Path, retry: str
) -> None:
    place = unused()
    if retry == "--no-retry":
        early = start(written(place), *way.arguments, retry)
        status, (told,) = early.ended()
        assert status == 1
        assert "cannot be connected to: Connection refused" in told
    group = way.group(address=place)
    command = start(written(place), *way.arguments, retry)
    with group:
        assert ask(group.workers[0], b"echo x") == b"x"
        group.on_worker_lost = lambda _: None
        cut(group.workers[0])
        if retry == "--no-retry":
            assert command.ended() == (0, [])
        else:
            run_until(lambda: group.workers[0].restarts)
    if retry == "--retry":
        assert command.ended()[0] == 0


def test_half_open_connections_are_found(start: Starter, certs: Path) -> None:
    """A worker that is stopped answers no heartbeat; continued, it comes back."""
    events = Events()
    back: list[Worker] = []
    way = way_by("tls", certs)
    group = way.group(
        settings=Settings(heartbeat=1.0),
        on_worker_lost=events.worker_lost,
        on_worker_restarted=back.append,
    )
    command = start(str(group.door), *way.arguments)
    with group:
        assert ask(group.workers[0], b"echo x") == b"x"
        command.process.send_signal(signal.SIGSTOP)
        run_until(lambda: events.lost)
        assert group.workers[0].error is not None
        command.process.send_signal(signal.SIGCONT)
        run_until(lambda: back)
        assert ask(group.workers[0], b"echo x") == b"x"
    assert command.ended()[0] == 0


def test_a_wrong_key_is_told_at_once(start: Starter, certs: Path, tmp_path: Path) -> None:
    way = way_by("key", certs)
    group = way.group()
    for key_id in ("office", "other"):
        PreSharedKey.generate(key_id).write(tmp_path / f"{key_id}.key")
        wrong = start(str(group.door), "--psk", str(tmp_path / f"{key_id}.key"))
        status, (told,) = wrong.ended()
        assert status == 1
        assert "key" in told
    none = start(str(group.door))
    status, (told,) = none.ended()
    assert status == 1
    assert "key" in told
    group.stop()


def test_wrong_certificates_are_told_at_once(
    start: Starter, way: Way, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from portkit.cli.certs.folder import CertsFolder

    stranger = CertsFolder(tmp_path_factory.mktemp("stranger"))
    stranger.init("another CA", 1)
    stranger.issue("guest", [], 1)
    group = way.group()
    for arguments in (
        ("--tls", f"{stranger.path}:guest"),
        (),
        (*way.arguments, "--peer-name", "x"),
    ):
        status, lines = start(str(group.door), *arguments).ended()
        assert status == 1
        assert len(lines) == 1
    group.stop()


# Ctrl-C, and standard input.


@pytest.mark.parametrize("when", ["waiting", "in the handshake", "joined", "at work"])
@pytest.mark.parametrize("how", ["interrupt", "lifeline"])
def test_it_ends_at_once(
    start: Starter, way: Way, nobody: socket.socket, when: str, how: str
) -> None:
    options = (*way.arguments, *(["--lifeline"] if how == "lifeline" else []))
    group: WorkerGroup | None = None
    peers: list[socket.socket] = []
    if when == "waiting":
        command = start(written(unused()), *options)
        assert eventually(lambda: command.lines)
    elif when == "in the handshake":
        command = start(written(place_of(nobody)), *options)
        nobody.settimeout(PATIENCE)
        peers.append(nobody.accept()[0])
    else:
        group = way.group(on_worker_lost=lambda _: None)
        command = start(str(group.door), *options)
        group.start()
        assert ask(group.workers[0], b"echo x") == b"x"
        if when == "at work":
            group.on_message = lambda *_: None
            group.workers[0].port.send(b"hang")
    if how == "interrupt":
        command.process.send_signal(signal.SIGINT)
    else:
        assert command.process.stdin is not None
        command.process.stdin.close()
    status, lines = beside(command.ended) if group else command.ended()
    if how == "interrupt":
        assert status == 130
    else:
        assert status == (0 if when == "joined" else 70)
    assert len(lines) == (0 if when == "in the handshake" else 1)
    if group is not None:
        run_until(lambda: group.workers[0].is_restarting)
        group.stop()
    for peer in peers:
        peer.close()


# What is wrong with the arguments.

DOOR = "socket://127.0.0.1:7000"
WRONG = {
    "no number": (("socket://127.0.0.1",), "write 'socket://HOST:PORT'"),
    "no place": (("socket:",), "names no port of another process"),
    "no name": ((DOOR, "--tls", "certs"), "write FOLDER:NAME"),
    "no folder": ((DOOR, "--tls", "/nothing/here:guest"), "there is no /nothing/here/ca.pem"),
    "no file": ((DOOR, "--ca", "/nothing/here.pem"), "/nothing/here.pem"),
    "no authority": ((DOOR, "--certificate", "x.pem"), "give --tls or --ca"),
    "a name alone": ((DOOR, "--peer-name", "x"), "give --tls or --ca"),
    "twice": ((DOOR, "--tls", "a:b", "--ca", "x.pem"), "--tls names all three files"),
    "no key": ((DOOR, "--psk", "/nothing/here.key"), "cannot read the pre-shared key"),
    "another transport": (("message:x", "--psk", "x.key"), "are for socket://HOST:PORT"),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(
    arguments: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    done = CliRunner().invoke(app, ["worker", OBEY, "--main", *arguments])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("portkit worker: ")
    assert told in line


def test_files_one_by_one(start: Starter, certs: Path) -> None:
    tls = TLSConfig.from_folder(certs, "main")
    group = Way("socket", {"tls": tls}, ()).group()
    files = [
        *("--ca", str(certs / "ca.pem")),
        *("--certificate", str(certs / "guest.pem"), "--key-file", str(certs / "guest-key.pem")),
    ]
    command = start(str(group.door), *files, "--peer-name", "main", "--no-retry")
    with group:
        assert ask(group.workers[0], b"echo x") == b"x"
    assert command.ended() == (0, [])
