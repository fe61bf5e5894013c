"""The main job, and a group of workers, on two hosts whose network is slow, lossy and gets cut."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from portkit.cli.certs.folder import CertsFolder
from portkit.cli.demo.files import find_files, standard_library
from tests.cli.helpers import PORTKIT, environment, row
from tests.hosts.network import Network
from tests.support import PATIENCE

OBEY = "tests.workers.targets:obey"


@pytest.fixture
def certs(network: Network, tmp_path: Path) -> Path:
    """Of the main side on the left, and of its workers."""
    made = CertsFolder(tmp_path)
    made.init("test CA", 1)
    made.issue("main", [network.left.address], 1)
    made.issue("north", [], 1)
    return tmp_path


def test_the_main_job_with_workers_of_another_host(network: Network, certs: Path) -> None:
    network.impair(delay=0.02, loss=0.01)
    demo = network.left.run(
        [*PORTKIT, "demo", "--over", "socket", "--listen", f"{network.left.address}:0", "--tls",
         str(certs), "--workers", "2", "--verify"],
        env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    told: Any = demo.stderr
    told.readline()
    _, *command = shlex.split(told.readline())
    workers = [
        network.right.run(
            [*PORTKIT, *command], env=environment(), stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    output, rest = demo.communicate(timeout=2 * PATIENCE)
    assert (demo.returncode, rest) == (0, "")
    count = len(find_files(standard_library(), print))
    assert row(output, "files") == f"{count} of {count}"
    assert row(output, "verified").startswith(f"{count} of {count} digests agree")
    assert [worker.wait(PATIENCE) for worker in workers] == [0, 0]


MAIN = """
import sys
from portkit import RunLoop, TLSConfig, WorkerGroup
from portkit_transports.socket import Settings

def say(word):
    print(word, flush=True)

loop = RunLoop.current()

def lost(worker):
    say(f"lost: {worker.error}")

def back(worker):
    loop.stop()

folder, host = sys.argv[1:]
group = WorkerGroup(
    None, over="socket", count=1, address=(host, 0), tls=TLSConfig.from_folder(folder, "main"),
    settings=Settings(heartbeat=1.0), check_in_timeout=30.0,
    on_worker_lost=lost, on_worker_restarted=back,
)
say(group.open())
with group:
    worker = group.workers[0]
    say(worker.port.request(b"echo joined", reply_timeout=30.0).data)
    loop.run(30.0)
    say(worker.port.request(b"echo back", reply_timeout=30.0).data)
"""


def test_a_group_goes_on_when_a_host_vanishes_and_takes_it_back(
    network: Network, certs: Path
) -> None:
    main = network.left.run(
        [sys.executable, "-c", MAIN, str(certs), network.left.address],
        env=environment(), text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    said: Any = main.stdout
    door = said.readline().strip()
    worker = network.right.run(
        [*PORTKIT, "worker", OBEY, "--main", door, "--tls", f"{certs}:north"],
        env=environment(), text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert said.readline() == "b'joined'\n"
    network.cut()
    assert said.readline().startswith("lost: worker-0 died after its check-in: ")
    network.mend()
    assert said.readline() == "b'back'\n"
    assert main.wait(PATIENCE) == 0
    _, told = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    words = [line.removeprefix("portkit worker: ").split()[0] for line in told.splitlines()]
    assert [word for word in words if word != "waiting"] == [door, "lost", door, door]
