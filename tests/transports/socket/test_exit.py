"""The end of a process: what it had accepted arrives, and nothing holds it up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import PATIENCE
from tests.transports.socket.ends import Ends, Server, ends, place
from tests.transports.socket.proxy import Proxy
from tests.transports.socket.test_remote import full, mute, nobody

__all__ = ["ends"]

ROOT = Path(__file__).parents[3]
BEGIN = """
import sys, threading
from portkit import SocketPort
from portkit_transports.socket import Backoff
host, number = sys.argv[1], int(sys.argv[2])
"""


def run(host: str, number: int, script: str) -> subprocess.CompletedProcess[str]:
    """Have another process do this, and end."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", BEGIN + script, host, f"{number}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def ends_well(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")


MANY = """
handle = SocketPort.remote(host, number, reconnect={reconnect})
for one in range(3000):
    handle.send(b"%d" % one)
"""


@pytest.mark.parametrize("reconnect", ["None", "Backoff()"])
def test_all_that_was_accepted_arrives(ends: Ends, reconnect: str) -> None:
    server = Server()
    port = ends.serve(server)
    ends_well(run(*place(port), MANY.format(reconnect=reconnect)))
    assert server.wait(3000)
    assert server.kept == [b"%d" % number for number in range(3000)]


def test_on_a_slow_line_too(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    proxy.slow(600 << 10)  # so that it takes longer than a peer is waited for that takes nothing
    script = """
handle = SocketPort.remote(host, number)
for one in range(24):
    handle.send(b"%d" % (one % 10) * 65536)
"""
    ends_well(run(proxy.host, proxy.port, script))
    assert server.wait(24)


def test_the_one_message_that_waits_for_a_connection_arrives(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    script = """
SocketPort.remote(host, number).send(b"x", timeout=0)
"""
    ends_well(run(*place(port), script))
    assert server.wait(1)


def test_or_is_reported() -> None:
    with full() as number:
        script = """
import logging
logging.basicConfig(format="%(message)s")
SocketPort.remote(host, number).send(b"x", timeout=0)
"""
        done = run("127.0.0.1", number, script)
    assert done.returncode == 0
    assert done.stderr == (
        f"a message to 127.0.0.1:{number} could not be sent: the process ended before\n"
    )


WAITING = """
import time
handle = SocketPort.remote(host, number, reconnect=Backoff(initial={pause}, maximum={pause}))
{before}
def wait():
    try:
        handle.send(b"x", timeout=None)
    except BaseException as error:
        print(type(error).__name__)
waiting = threading.Thread(target=wait, daemon=True)
waiting.start()
while not handle._right._waiting:
    time.sleep(0.001)
"""


def test_it_ends_while_connecting() -> None:
    with full() as number:
        ends_well(run("127.0.0.1", number, WAITING.format(pause=1, before="")))


def test_it_ends_during_the_handshake() -> None:
    with mute() as number:
        ends_well(run("127.0.0.1", number, WAITING.format(pause=1, before="")))


def test_it_ends_during_a_pause() -> None:
    script = (
        WAITING.format(pause=60, before="")
        + """
while not handle._right._failed:
    time.sleep(0.001)
"""
    )
    with nobody() as number:
        begun = time.monotonic()
        done = run("127.0.0.1", number, script)
        assert done.returncode == 0
        assert "trying again" in done.stderr
        assert time.monotonic() - begun < PATIENCE / 2


def test_it_ends_while_a_name_is_looked_up() -> None:
    script = """
import time, socket
asked = threading.Event()
def never(*args, **options):
    if options.get("flags"):
        raise socket.gaierror(-2, "no address")
    asked.set()
    time.sleep(3600)
socket.getaddrinfo = never
handle = SocketPort.remote("some.host", 1)
try:
    handle.connect(0)
except TimeoutError:
    pass
asked.wait(30)
"""
    ends_well(run("", 1, script))


def test_it_ends_with_the_connection_cut(ends: Ends) -> None:
    server = Server()
    with Proxy(place(ends.serve(server))) as proxy:
        proxy.forget()
        script = """
handle = SocketPort.remote(host, number)
try:
    handle.connect(0)
except TimeoutError:
    pass
"""
        ends_well(run(proxy.host, proxy.port, script))
