"""What the tests of names on one host share: owners of names, here and in other processes."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from portkit_transports.message.directory import Directory
from portkit_transports.message.process import process_start_time
from portkit_transports.message.record import Record, decode


def make_record(name: str, socket_name: str) -> Record:
    """A record of this process's, for a new port."""
    pid = os.getpid()
    port_id, incarnation = secrets.token_bytes(16), secrets.token_bytes(16)
    return Record(name, socket_name, port_id, incarnation, pid, process_start_time(pid))


@contextmanager
def listening(directory: Directory, name: str = "name", *, backlog: int = 16) -> Iterator[Record]:
    """A record, not claimed yet, whose socket listens while the ``with`` lasts."""
    directory.prepare()
    path = directory.new_socket_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        yield make_record(name, path.name)


def entries(directory: Directory) -> set[str]:
    """The names of the files in a folder."""
    return {path.name for path in directory.path.iterdir()}


def dead_record(directory: Directory, name: str = "name") -> Record:
    """A record, not claimed yet, of a process that has ended and left its socket."""
    with listening(directory, name) as record:
        pass
    return record._replace(pid=ended_pid(), start_time=1)


def ended_pid() -> int:
    """A pid that no process has any more."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        pass
    return process.pid


_OWNER = """
import socket, sys, time
from pathlib import Path
from portkit import PortError
from portkit_transports.message.directory import Directory
from portkit_transports.message.record import encode
from tests.transports.message.directory_helpers import listening

directory = Directory(Path(sys.argv[1]))
with listening(directory, backlog=int(sys.argv[2])) as record:
    print(encode(record).decode(), flush=True)
    for line in sys.stdin:
        command, name, date = line.split()
        while time.monotonic() < float(date):
            pass
        try:
            result = getattr(directory, command)(record._replace(name=name))
        except PortError as error:
            result = type(error).__name__
        print(result, flush=True)
"""


class Owner:
    """Another process, which listens and does with names what it is told. Killed at the end.

    Attributes:
        process: the process; another one beside it where ``command`` starts one.
        record: its record, under the name "name"; not claimed yet.
    """

    record: Record

    def __init__(self, folder: Path, *, backlog: int = 16, command: tuple[str, ...] = ()) -> None:
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", _OWNER, str(folder), str(backlog)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )

    def __enter__(self) -> Self:
        record = decode(self._line().encode())
        assert record is not None, "the owner did not start"
        self.record = record
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def kill(self) -> None:
        """Kill the process and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def claim(self, name: str = "name") -> Record:
        """Have it claim a name; its record under that name."""
        self.begin("claim", name)
        assert self.result() == "None"
        return self.record._replace(name=name)

    def begin(self, command: str, name: str, date: float | None = None) -> None:
        """Have it call a method with its record under a name, not before a date."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command} {name} {time.monotonic() if date is None else date}\n")
        self.process.stdin.flush()

    def result(self) -> str:
        """What the call that was begun returned, or the name of the error it raised."""
        return self._line().strip()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()
