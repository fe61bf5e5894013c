"""Ports between hosts: TCP, with TLS or pre-shared keys."""

from portkit.link.decoder import Limits
from portkit.link.node import Settings
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.name_server import SocketPortNameServer
from portkit_transports.socket.port import SocketPort
from portkit_transports.socket.reaching import ConnectionEvent
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from portkit_transports.socket.security import InsecureWarning
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.static_names import StaticNameServer
from portkit_transports.socket.tls import TLSConfig
from portkit_transports.socket.transport import transport

__all__ = [
    "Backoff",
    "ConnectionEvent",
    "InsecureWarning",
    "Limits",
    "PreSharedKey",
    "RemoteSocketPort",
    "Settings",
    "SocketPort",
    "SocketPortNameServer",
    "StaticNameServer",
    "TLSConfig",
    "transport",
]
