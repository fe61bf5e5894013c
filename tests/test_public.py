"""The public surface: its names, and what every public signature keeps to."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import portkit

PORTKIT = [
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
NOTIFICATIONS = [
    "PORT_DID_BECOME_INVALID",
    "Coalescing",
    "Forwarding",
    "Notification",
    "NotificationCenter",
    "NotificationHandler",
    "NotificationQueue",
    "NotificationReceiver",
    "Observation",
    "PostingStyle",
    "RemoteNotification",
    "forward",
]
REMOTE = [
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
RUNLOOP = [
    "COMMON_MODES",
    "DEFAULT_MODE",
    "Activity",
    "DescriptorSource",
    "GuestRun",
    "InputSource",
    "Observer",
    "Ready",
    "RunLoop",
    "RunResult",
    "ThreadData",
    "Timer",
]
TYPED = ["JSON", "Codec", "Data", "JSONCodec", "Payload", "Route", "Router", "View"]
AIO = ["Receiving", "hosting", "receiving", "request", "send", "send_many", "serve"]
NAMES = {
    "portkit": PORTKIT,
    "portkit.aio": AIO,
    "portkit.cli": ["main"],
    "portkit.hooks": [
        "HEADERS_LIMIT",
        "Around",
        "Hook",
        "Kind",
        "Outgoing",
        "add_hook",
        "remove_hook",
        "size_of",
    ],
    "portkit.loops": ["QtHost", "TkHost", "new_event_loop"],
    "portkit.names": ["MAX_NAME_BYTES", "NameServer", "check_name"],
    "portkit.notifications": NOTIFICATIONS,
    "portkit.otel": ["instrument", "uninstrument"],
    "portkit.prometheus": ["BUCKETS", "MOST_NAMES", "register", "unregister"],
    "portkit.remote": REMOTE,
    "portkit.runloop": RUNLOOP,
    "portkit.statistics": [
        "LinkStats",
        "LoopStats",
        "PortStats",
        "Stats",
        "Totals",
        "TrafficStats",
        "stats",
    ],
    "portkit.typed": TYPED,
    "portkit.workers": ["CHECK_IN", "Restart", "Session", "Worker", "WorkerGroup"],
}

WAITS_FOR_EVER = {"RunLoop.run"}
"""What may wait without end by default: a loop's run is meant to."""


def packages() -> list[Any]:
    """portkit and its named subpackages and modules: whatever lists its names."""
    found = [portkit]
    for info in pkgutil.iter_modules(portkit.__path__, "portkit."):
        if not info.name.startswith("portkit._"):
            package = importlib.import_module(info.name)
            if hasattr(package, "__all__"):
                found.append(package)
    return found


def public_objects() -> Iterator[tuple[str, Any]]:
    for package in packages():
        for name in package.__all__:
            yield f"{package.__name__}.{name}", getattr(package, name)


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, constructor and method, inherited ones too."""
    for _, value in public_objects():
        if inspect.isclass(value):
            if not issubclass(value, BaseException):
                yield value.__qualname__, value
            for name, member in inspect.getmembers(value, callable):
                if not name.startswith("_") and str(getattr(member, "__module__", "")).startswith(
                    "portkit"
                ):
                    yield f"{value.__qualname__}.{name}", member
        elif inspect.isfunction(value):
            yield value.__qualname__, value


CALLABLES = dict(public_callables())


def timeouts(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except ValueError:  # an enum's base, written in C
        return []
    return [parameter for parameter in parameters if parameter.name.endswith("timeout")]


def test_names() -> None:
    assert {package.__name__: package.__all__ for package in packages()} == NAMES
    assert dir(portkit) == sorted(PORTKIT)


@pytest.mark.parametrize("name", [name for name, _ in public_objects()])
def test_each_resolves_and_says_what_it_is(name: str) -> None:
    value = dict(public_objects())[name]
    if not isinstance(value, str):
        doc = inspect.getdoc(value)
        assert doc
        assert len(doc.splitlines()[0]) > 10


def test_star_import_and_unknown_names() -> None:
    code = (
        "from portkit import *\n"
        f"assert set({PORTKIT}) <= set(globals())\n"
        "import portkit\n"
        "try: portkit.NoSuchName\n"
        "except AttributeError as error: assert 'NoSuchName' in str(error)\n"
        "else: raise SystemExit('found')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_walk_sees_what_it_should() -> None:
    """Else the next tests would pass for nothing."""
    for name in ("Port.send", "MachPort.request", "MachPort", "RunLoop.run", "PortMessage.send",
                 "RunLoop.perform_and_wait", "open_port", "Timer.scheduled"):  # fmt: skip
        assert name in CALLABLES
    assert sum(len(timeouts(fn)) for fn in CALLABLES.values()) > 15


@pytest.mark.parametrize("name", [name for name, fn in CALLABLES.items() if timeouts(fn)])
def test_no_wait_is_endless_by_default(name: str) -> None:
    """``timeout=None`` waits for ever and must be written out."""
    for parameter in timeouts(CALLABLES[name]):
        if parameter.default is inspect.Parameter.empty:
            continue
        if name in WAITS_FOR_EVER:
            assert parameter.default is None
        else:
            assert isinstance(parameter.default, int | float), parameter
            assert 0 <= parameter.default < math.inf, parameter
            assert parameter.default <= 60, parameter


@pytest.mark.parametrize("name", CALLABLES)
def test_is_documented_and_annotated(name: str) -> None:
    fn = CALLABLES[name]
    assert inspect.getdoc(fn)
    if not inspect.isclass(fn):
        signature = inspect.signature(fn)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.name == "self" or parameter.annotation is not parameter.empty


def test_windows_is_told_so() -> None:
    code = (
        "import os\nos.name = 'nt'\n"
        "try: import portkit\n"
        "except ImportError as error: assert 'Windows' in str(error)\n"
        "else: raise SystemExit('imported')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
