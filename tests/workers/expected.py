"""What the tests of groups share whose workers others start."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from portkit.cli.certs.folder import CertsFolder
from portkit.workers import Worker, WorkerGroup
from portkit_transports.socket import PreSharedKey, TLSConfig
from tests.cli.helpers import PORTKIT, environment
from tests.support import PATIENCE
from tests.workers.helpers import beside

OBEY = "tests.workers.targets:obey"


class Way(NamedTuple):
    """A transport, and what makes both sides trust each other."""

    over: str
    options: dict[str, Any]
    arguments: tuple[str, ...]

    def group(self, count: int = 1, target: str | None = None, **options: Any) -> WorkerGroup:
        """A group whose door is open."""
        options.setdefault("check_in_timeout", PATIENCE)
        group = WorkerGroup(target, count=count, over=self.over, **self.options, **options)
        group.open()
        return group


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, certificates for two peers, and a key."""
    made = CertsFolder(tmp_path_factory.mktemp("certs"))
    made.init("test CA", 1)
    made.issue("main", ["127.0.0.1"], 1)
    made.issue("guest", [], 1)
    PreSharedKey.generate("office").write(made.path / "office.key")
    return made.path


WAYS = ["message", "socket", "tls", "key"]


def way_by(name: str, certs: Path) -> Way:
    match name:
        case "tls":
            options = {"tls": TLSConfig.from_folder(certs, "main")}
            return Way("socket", options, ("--tls", f"{certs}:guest"))
        case "key":
            key = certs / "office.key"
            return Way("socket", {"key": PreSharedKey.read(key)}, ("--psk", str(key)))
        case _:
            return Way(name, {}, ())


class Command:
    """A ``portkit worker`` process.

    Attributes:
        lines: what it has said so far.
    """

    def __init__(self, main: str, *arguments: str, target: str = OBEY) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*PORTKIT, "worker", target, "--main", main, *arguments],
            env=environment(),
            text=True,
            stdin=subprocess.PIPE if "--lifeline" in arguments else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n").removeprefix("portkit worker: "))

    def ended(self) -> tuple[int, list[str]]:
        """Its exit status, and what it said; waits for its end."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status, self.lines

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.stderr.close()


class Starter:
    """Starts ``portkit worker`` processes, which are gone after the test."""

    def __init__(self) -> None:
        self.all: list[Command] = []

    def __call__(self, main: str, *arguments: str, target: str = OBEY) -> Command:
        self.all.append(Command(main, *arguments, target=target))
        return self.all[-1]


@pytest.fixture
def start(no_leftovers: None) -> Iterator[Starter]:
    """Start a worker: ``start(main, *arguments)``."""
    starter = Starter()
    yield starter
    for command in starter.all:
        command.close()


def ask(worker: Worker, words: bytes) -> bytes:
    """Its answer, while this thread's loop runs."""
    answer = beside(lambda: worker.port.request(words, reply_timeout=PATIENCE).data)
    assert answer is not None
    return answer
