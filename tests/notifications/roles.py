"""What the other processes of these tests do: functions that they are told to call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from portkit import NotificationCenter, Port, RunLoop
from portkit.message import Sender
from portkit.notifications import Forwarding, NotificationReceiver, RemoteNotification, forward
from tests.notifications.helpers import Observer
from tests.ports.helpers import Background
from tests.transports.processes.roles import Here

center = NotificationCenter()
observer = Observer()
receivers: dict[str, NotificationReceiver] = {}
ports: dict[str, Port] = {}
forwardings: list[Forwarding] = []


def receive(name: str, names: list[str] | None = None, queue_limit: int = 1024) -> None:
    """Post here what comes to a port of that name."""
    if not receivers:
        center.add_observer(observer)
    receiver = receivers[name] = NotificationReceiver(center, names=names)
    ports[name] = Here.way.open(name, receiver, queue_limit=queue_limit)
    RunLoop.current().add_port(ports[name])


def received() -> list[tuple[str, dict[str, Any] | None]]:
    """The names and user_infos that came."""
    return [
        (
            notification.name,
            None if notification.user_info is None else dict(notification.user_info),
        )
        for notification in observer.notifications
    ]


def peers() -> list[Sender | None]:
    """Whose notifications they were."""
    return [n.peer for n in observer.notifications if isinstance(n, RemoteNotification)]


def invalid(name: str) -> int:
    """How many messages were refused."""
    return receivers[name].invalid


def forward_to(name: str, names: list[str] | None = None) -> None:
    """Send what is posted here to the port of that name."""
    forwardings.append(forward(Here.way.remote(name), names, center=center))


def post(name: str, user_info: Mapping[str, Any] | None = None) -> None:
    """Post one."""
    center.post(name, None, user_info)


def post_numbers(posters: int, each: int) -> None:
    """Post numbers on as many threads."""

    def numbers(poster: int) -> None:
        for number in range(each):
            center.post("number", user_info={"poster": poster, "number": number})

    for background in [Background(partial(numbers, poster)) for poster in range(posters)]:
        background.result()
