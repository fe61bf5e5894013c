"""Distributed objects: objects of another thread, process or host, called through an interface."""

from portkit.remote.calling import Call, current_call
from portkit.remote.connection import (
    CONNECTION_DID_DIE,
    CONNECTION_DID_INITIALIZE,
    Connection,
)
from portkit.remote.interface import oneway, raises
from portkit.remote.options import Options, Statistics
from portkit.remote.proxy import with_timeout
from portkit.remote.service import Service

__all__ = [
    "CONNECTION_DID_DIE",
    "CONNECTION_DID_INITIALIZE",
    "Call",
    "Connection",
    "Options",
    "Service",
    "Statistics",
    "current_call",
    "oneway",
    "raises",
    "with_timeout",
]
