"""The processes that benchmarks spawn: they end, fail and hang without harm to who started them."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from bench.ipc import spawn
from bench.ipc.address import Address
from bench.ipc.crowd import gather
from bench.ipc.server import Control
from bench.ipc.spawn import spawned
from tests.support import eventually

NOWHERE = Address("ipc")


def serve_nothing(address: Address, control: Control) -> None:
    control.ready()
    time.sleep(60)


def serve_pid(address: Address, control: Control) -> None:
    Path(address.path).write_text(str(os.getpid()))
    serve_nothing(address, control)


def fail(address: Address, control: Control) -> None:
    raise OSError("no such luck")


def be_silent(address: Address, control: Control) -> None:
    time.sleep(60)


def count_two(address: Address, control: Control) -> None:
    control.ready()
    assert eventually(lambda: control.left == 2)
    control.handled(b"")
    control.handled(b"")
    time.sleep(60)


def work(address: Address, control: Control) -> None:
    control.ready()
    while True:
        sum(range(1000))


def crowd_of_pids(address: Address, control: Control) -> None:
    def join() -> None:
        with Path(address.path).open("a") as file:
            file.write(f"{os.getpid()}\n")

    gather(address, control, 3, join)


def crowd_that_fails(address: Address, control: Control) -> None:
    gather(address, control, 3, partial(_refuse, address))


def _refuse(address: Address) -> NoReturn:
    raise ConnectionRefusedError(str(address))


def _is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_it_is_gone_after_the_with(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with spawned(serve_pid, Address("ipc", str(file))):
        pid = int(file.read_text())
        assert _is_there(pid)
    assert not _is_there(pid)


def test_a_crowd_is_gone_after_the_with(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    with spawned(crowd_of_pids, Address("ipc", str(file))):
        pids = [int(line) for line in file.read_text().splitlines()]
        assert len(set(pids)) == 3
        assert all(map(_is_there, pids))
    assert eventually(lambda: not any(map(_is_there, pids)))


@pytest.mark.parametrize("serve", [fail, crowd_that_fails])
def test_one_that_fails_says_so_at_once(serve: spawn.Serve) -> None:
    with pytest.raises(RuntimeError, match="ended too early"), spawned(serve, NOWHERE):
        pass


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "PATIENCE", 0.2)
    monkeypatch.setattr(spawn, "_GRACE", 0.1)
    with pytest.raises(RuntimeError, match="said nothing"), spawned(be_silent, NOWHERE):
        pass


def test_it_says_when_it_has_counted_enough() -> None:
    with spawned(count_two, NOWHERE) as server:
        server.expect(2)
        server.wait_for("done")


def test_it_tells_its_cpu_time_and_its_memory() -> None:
    with spawned(work, NOWHERE) as server:
        before = server.cpu_ns()
        assert eventually(lambda: server.cpu_ns() > before + 10_000_000)
        if not spawn.missing_memory:
            assert server.memory() > 100_000
