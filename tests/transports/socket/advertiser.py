"""A second process for the tests of name servers: registers a SocketPort that it serves.

    python advertiser.py NAME TTL

It prints a line once others can find it, and ends, as programs do, without a word about its names,
when its standard input does.
"""

from __future__ import annotations

import os
import sys
from threading import Thread

from portkit import RunLoop, SocketPort
from portkit_transports.socket import SocketPortNameServer

name, ttl = sys.argv[1:]
loop = RunLoop.current()
port = SocketPort(delegate=lambda message: b"%d" % os.getpid())
loop.add_port(port)
server = SocketPortNameServer(interfaces=["127.0.0.1"], ttl=int(ttl))
server.register(name, port)
print(port.address, flush=True)


def wait() -> None:
    """End the loop when the test says so."""
    sys.stdin.read()
    loop.perform(loop.stop)


Thread(target=wait, daemon=True).start()
loop.run()
