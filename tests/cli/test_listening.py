"""``portkit demo --listen``: workers join that people start elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from portkit.cli.app import app
from portkit.cli.certs.folder import CertsFolder
from portkit_transports.socket import PreSharedKey
from tests.cli.helpers import PORTKIT, environment, row, run
from tests.support import PATIENCE, eventually


class Shown:
    """A command, what it has shown on standard error, and its result."""

    def __init__(self, *command: str | Path) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            env=environment(),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def shows(self, pattern: str) -> bool:
        """Whether a line of that kind comes."""
        return eventually(lambda: any(re.search(pattern, line) for line in self.lines))

    def result(self) -> tuple[int, str]:
        """Its exit status, and its standard output; waits for its end."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        return self.process.wait(PATIENCE), output

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Start:
    """Starts commands, which are gone after the test."""

    def __init__(self) -> None:
        self.all: list[Shown] = []

    def __call__(self, *command: str | Path) -> Shown:
        self.all.append(Shown(*command))
        return self.all[-1]

    def demo(self, *arguments: str | Path) -> Shown:
        """``portkit demo`` that waits for workers."""
        demo = self(*PORTKIT, "demo", "--over", "socket", *arguments)
        assert demo.shows("portkit worker")
        return demo

    def worker(self, demo: Shown, *options: str) -> Shown:
        """Just what it says that one is to start."""
        (line,) = [line for line in demo.lines if "portkit worker" in line]
        _, *words = shlex.split(line)
        return self(*PORTKIT, *words, *options)


@pytest.fixture
def start(no_leftovers: None) -> Iterator[Start]:
    made = Start()
    yield made
    for shown in made.all:
        shown.close()


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = CertsFolder(tmp_path_factory.mktemp("certs"))
    made.init("test CA", 1)
    made.issue("main", ["127.0.0.1"], 1)
    made.issue("north", [], 1)
    return made.path


def test_workers_join_are_lost_and_come_back(start: Start, tree: Path, certs: Path) -> None:
    options = ("--listen", "127.0.0.1:0", "--tls", certs, "--workers", "2", "--verify")
    demo = start.demo(tree, *options)
    workers = [start.worker(demo) for _ in range(2)]
    assert all(worker.shows("took this worker as worker-[01]") for worker in workers)
    demo.process.send_signal(signal.SIGSTOP)
    workers[0].process.kill()
    workers.append(start.worker(demo))
    demo.process.send_signal(signal.SIGCONT)
    status, output = demo.result()
    assert status in {0, 3}, demo.lines  # it may have been through by then
    assert row(output, "files") == "10000 of 10000"
    assert row(output, "verified").startswith("10000 of 10000")
    assert workers[1].result()[0] == 0


def test_it_waits_where_no_worker_is_left(start: Start, tmp_path: Path, certs: Path) -> None:
    (tmp_path / "small").write_text("small")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 20 << 30)
    tls = f"{certs}:main"
    demo = start.demo(tmp_path, "--listen", "127.0.0.1:0", "--tls", tls, "--workers", "1")
    first = start.worker(demo)
    assert first.shows("took this worker")
    first.process.send_signal(signal.SIGKILL)
    assert demo.shows("no worker is left for [12] files: waiting for one to come")
    os.truncate(tmp_path / "large", 0)
    second = start.worker(demo)
    assert demo.shows("worker-0 is back")
    status, output = demo.result()
    assert status == 3
    assert row(output, "files") == "2 of 2"
    assert second.result() == (0, "")


def test_an_interrupt_while_it_waits_for_workers(start: Start, tree: Path, certs: Path) -> None:
    demo = start.demo(tree, "--listen", "127.0.0.1:0", "--tls", certs, "--workers", "2")
    worker = start.worker(demo)
    assert worker.shows("took this worker")
    demo.process.send_signal(signal.SIGINT)
    assert demo.result() == (130, "")
    assert demo.lines[-1] == "interrupted: 0 of 10000 files were through"
    assert worker.result() == (0, "")


def test_with_a_key(start: Start, tmp_path: Path, tree: Path) -> None:
    key = tmp_path / "office.key"
    PreSharedKey.generate("office").write(key)
    demo = start.demo(tree / "00", "--listen", "127.0.0.1:0", "--psk", key, "--workers", "1")
    worker = start.worker(demo)
    status, output = demo.result()
    assert (status, row(output, "files")) == (0, "100 of 100")
    assert worker.result() == (0, "")


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        (["127.0.0.1", "main.example", "10.0.0.1"], "main.example"),
        (["::1", "fd77::1"], "[fd77::1]"),
        (["127.0.0.1"], socket.gethostname()),
    ],
)
def test_it_calls_itself_as_its_certificate_does(
    start: Start, tmp_path: Path, tree: Path, hosts: list[str], shown: str
) -> None:
    """For it listens at all addresses, of which none is one to connect to."""
    made = CertsFolder(tmp_path)
    made.init("test CA", 1)
    made.issue("host", hosts, 1)
    demo = start.demo(tree / "00", "--listen", "0.0.0.0:0", "--tls", f"{tmp_path}:host")
    main = rf"'?socket://{re.escape(shown)}:\d+'?"
    assert demo.shows(rf"portkit worker \S+:hash_files --main {main} --tls {tmp_path}:NAME")


WRONG = {
    "no number": (("--listen", "127.0.0.1"), "write HOST:PORT, or [::]:PORT"),
    "no address": (("--listen", "192.0.2.1:0", "--tls", "?"), "cannot be listened at"),
    "no security": (("--listen", "0.0.0.0:0"), "'portkit certs' makes both"),
    "no folder": (("--listen", "127.0.0.1:0", "--tls", "/nothing"), "there is no /nothing/ca.pem"),
    "no key": (("--listen", "127.0.0.1:0", "--psk", "/nothing"), "cannot read the pre-shared key"),
    "no place": (("--tls", "?"), "add --listen HOST:PORT"),
    "a key": (("--psk", "x"), "add --listen HOST:PORT"),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be(arguments: tuple[str, ...], told: str, certs: Path, tree: Path) -> None:
    known = [str(certs) if argument == "?" else argument for argument in arguments]
    done = CliRunner().invoke(app, ["demo", str(tree / "00"), "--over", "socket", *known])
    assert done.exit_code in {1, 2}
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_for_sockets_alone(tree: Path) -> None:
    done = CliRunner().invoke(app, ["demo", str(tree / "00"), "--listen", "127.0.0.1:0"])
    assert done.exit_code == 2
    assert "add --over socket" in done.stderr


def test_without_cryptography_it_says_what_to_install() -> None:
    program = (
        "import runpy, sys\n"
        "sys.modules['cryptography'] = None\n"
        "sys.argv[1:] = ['demo', '--over', 'socket']\n"
        "runpy.run_module('portkit', run_name='__main__')\n"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == 1
    assert done.stderr == 'portkit demo: this needs cryptography: pip install "portkit[cli]"\n'
