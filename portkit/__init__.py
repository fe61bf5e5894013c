"""One way to talk between threads, processes and hosts: ports, messages and run loops."""

from __future__ import annotations

import os as _os
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if _os.name != "posix":
    raise ImportError("portkit needs a POSIX system: Linux, or macOS; it does not run on Windows")

from portkit._report import ErrorContext
from portkit.errors import (
    AuthenticationError,
    BecameInvalidError,
    CheckInError,
    CheckInTimeoutError,
    InvalidPayloadError,
    InvalidPortError,
    LoopEndedError,
    MessageTooLargeError,
    NameInUseError,
    NameNotFoundError,
    PortError,
    ProtocolError,
    ReceiveTimeoutError,
    RemoteError,
    ReplyDroppedError,
    SendTimeoutError,
    TransportError,
    WorkerDiedError,
    WrongThreadError,
)
from portkit.hooks import Hook, add_hook, remove_hook
from portkit.message import PortMessage, Sender
from portkit.port import Port, ReplyPort
from portkit.registry import OFFERED as _OFFERED
from portkit.registry import connect_port, open_port
from portkit.registry import offered as _offered
from portkit.runloop import (
    COMMON_MODES,
    DEFAULT_MODE,
    Activity,
    DescriptorSource,
    InputSource,
    Observer,
    Ready,
    RunLoop,
    RunResult,
    ThreadData,
    Timer,
)

if TYPE_CHECKING:
    from portkit.address import Address
    from portkit.link.descriptor import Descriptor
    from portkit.notifications import (
        PORT_DID_BECOME_INVALID,
        Coalescing,
        Notification,
        NotificationCenter,
        NotificationQueue,
        PostingStyle,
    )
    from portkit.remote import Connection
    from portkit.statistics import stats
    from portkit.typed import Payload, Router
    from portkit.workers import Restart, Session, Worker, WorkerGroup
    from portkit_transports.mach import MachPort
    from portkit_transports.message import MessagePort
    from portkit_transports.socket import (
        Backoff,
        ConnectionEvent,
        PreSharedKey,
        SocketPort,
        TLSConfig,
    )

__version__ = "0.1.0"

__all__ = [
    "COMMON_MODES",
    "DEFAULT_MODE",
    "PORT_DID_BECOME_INVALID",
    "Activity",
    "Address",
    "AuthenticationError",
    "Backoff",
    "BecameInvalidError",
    "CheckInError",
    "CheckInTimeoutError",
    "Coalescing",
    "Connection",
    "ConnectionEvent",
    "Descriptor",
    "DescriptorSource",
    "ErrorContext",
    "Hook",
    "InputSource",
    "InvalidPayloadError",
    "InvalidPortError",
    "LoopEndedError",
    "MachPort",
    "MessagePort",
    "MessageTooLargeError",
    "NameInUseError",
    "NameNotFoundError",
    "Notification",
    "NotificationCenter",
    "NotificationQueue",
    "Observer",
    "Payload",
    "Port",
    "PortError",
    "PortMessage",
    "PostingStyle",
    "PreSharedKey",
    "ProtocolError",
    "Ready",
    "ReceiveTimeoutError",
    "RemoteError",
    "ReplyDroppedError",
    "ReplyPort",
    "Restart",
    "Router",
    "RunLoop",
    "RunResult",
    "SendTimeoutError",
    "Sender",
    "Session",
    "SocketPort",
    "TLSConfig",
    "ThreadData",
    "Timer",
    "TransportError",
    "Worker",
    "WorkerDiedError",
    "WorkerGroup",
    "WrongThreadError",
    "add_hook",
    "connect_port",
    "open_port",
    "remove_hook",
    "stats",
]


_LATE = {
    "Address": "portkit.address",
    "Coalescing": "portkit.notifications",
    "Connection": "portkit.remote",
    "Descriptor": "portkit.link.descriptor",
    "Notification": "portkit.notifications",
    "NotificationCenter": "portkit.notifications",
    "NotificationQueue": "portkit.notifications",
    "PORT_DID_BECOME_INVALID": "portkit.notifications",
    "Payload": "portkit.typed",
    "PostingStyle": "portkit.notifications",
    "Restart": "portkit.workers",
    "Router": "portkit.typed",
    "Session": "portkit.workers",
    "Worker": "portkit.workers",
    "WorkerGroup": "portkit.workers",
    "stats": "portkit.statistics",
}
"""What few programs need, and pydantic, which takes longer to import than all the rest."""


def __getattr__(name: str) -> Any:
    """Load what transports have, and what is late, when it is first asked for."""
    if name in _OFFERED:
        value: Any = _offered(name)
    elif name in _LATE:
        value = getattr(_import_module(_LATE[name]), name)
    else:
        raise AttributeError(f"module 'portkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
