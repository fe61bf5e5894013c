"""A second process for the tests of DNS-SD: announces a service until it is told to end.

    python announcer.py NAME TTL

It prints the service's id once others can find it, and ends, as programs do, without having said
that it will, when its standard input does.
"""

from __future__ import annotations

import os
import sys

from portkit_transports.socket.dns_sd import Responder
from portkit_transports.socket.service_record import Service

name, ttl = sys.argv[1:]
service = Service(name, os.urandom(16), ("127.0.0.1",), 7000)
responder = Responder(["127.0.0.1"], int(ttl))
responder.publish(service, print)
print(service.port_id.hex(), flush=True)
sys.stdin.read()
