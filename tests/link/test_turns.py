"""A thread that waits for an answer while another reads the link."""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from portkit import MachPort, ReceiveTimeoutError
from tests.link.helpers import Pair
from tests.support import PATIENCE, LoopThread

HELD = 0.5


def test_a_caller_sleeps_while_another_thread_reads_what_it_waits_for() -> None:
    with LoopThread() as server, Pair() as pair, MachPort(lambda message: message.data) as port:
        server.call(server.loop.add_port, port)
        handle = pair.open(port)
        assert handle.request(b"greeted").data == b"greeted"
        reading = pair.left.incoming._busy
        held = Event()

        def read_slowly() -> None:
            with reading:
                held.set()
                time.sleep(HELD)

        other = Thread(target=read_slowly)
        other.start()
        assert held.wait(PATIENCE)
        used = time.thread_time()
        assert handle.request(b"waited for").data == b"waited for"
        used = time.thread_time() - used
        other.join()
        assert used < HELD / 2


def test_it_gives_up_at_its_time_nevertheless() -> None:
    with LoopThread() as server, Pair() as pair, MachPort(lambda message: message.data) as port:
        server.call(server.loop.add_port, port)
        handle = pair.open(port)
        assert handle.request(b"greeted").data == b"greeted"
        with pair.left.incoming._busy:
            begun = time.monotonic()
            with pytest.raises(ReceiveTimeoutError):
                handle.request(b"not read", reply_timeout=0.1)
            assert 0.1 <= time.monotonic() - begun < PATIENCE
