"""Ports between the processes of one host: Unix stream sockets, found by name."""

from portkit.link.decoder import Limits
from portkit.link.node import Settings
from portkit_transports.message.host import configure
from portkit_transports.message.name_server import MessagePortNameServer
from portkit_transports.message.port import MessagePort
from portkit_transports.message.transport import transport

__all__ = [
    "Limits",
    "MessagePort",
    "MessagePortNameServer",
    "Settings",
    "configure",
    "transport",
]
