"""Distributed objects: objects of another thread, process or host, called through an interface."""

from portkit.remote.calling import Call, current_call
from portkit.remote.connection import Connection, Options, Statistics
from portkit.remote.interface import oneway, raises
from portkit.remote.proxy import with_timeout
from portkit.remote.service import Service

__all__ = [
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
