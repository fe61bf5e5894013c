"""A notification on its way to another process: plain JSON, and not much of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from portkit.errors import InvalidPayloadError
from portkit.notifications.notification import Notification, check_name
from portkit.notifications.port_endings import PORT_DID_BECOME_INVALID
from portkit.typed.codec import JSONCodec
from portkit.typed.explain import explain
from portkit.typed.payload import Payload

MSGID = 0x4E544659
"""Of the messages that carry notifications ("NTFY"): far from the small numbers of programs."""
LONGEST_NAME = 256
"""Characters."""
LARGEST = 65536
"""Bytes of the name and user_info together, as JSON."""


class Posted(Payload, msgid=MSGID, codec=JSONCodec(LARGEST), allow_inf_nan=False):
    """A notification's name and user_info. Its sender is an object of its process, and stays."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    user_info: dict[str, JsonValue] | None = None


def posted(notification: Notification) -> Posted:
    """The payload for a notification.

    Raises:
        InvalidPayloadError: its user_info is no plain JSON, or its name too long; says where.
    """
    user_info = notification.user_info
    fields: dict[str, Any] = {"name": notification.name}
    if user_info is not None:
        fields["user_info"] = dict(user_info)
    try:
        return Posted(**fields)
    except ValidationError as error:
        fault = explain(error)
    # Not in the except clause: the error that it would hold quotes the values.
    raise refusal(notification, fault)


def refusal(notification: Notification, fault: object) -> InvalidPayloadError:
    """The error that says why a notification stays."""
    return InvalidPayloadError(
        f"the notification {notification.name[:LONGEST_NAME]!r} cannot go to another process: that "
        f"takes plain JSON, up to {LARGEST} bytes ({fault})"
    )


def travelling(names: str | Iterable[str] | None) -> frozenset[str] | None:
    """The names that go from process to process: those given, or None for any.

    Raises:
        TypeError, ValueError: one is none, or there are none; or it only means something here.
    """
    if names is None:
        return None
    chosen = frozenset([names] if isinstance(names, str) else names)
    for name in chosen:
        check_name(name)
    if not chosen:
        raise ValueError("name at least one notification, or leave names out for all")
    if PORT_DID_BECOME_INVALID in chosen:
        raise ValueError(
            f"{PORT_DID_BECOME_INVALID!r} is about a port of one process: observe the ends of "
            "handles in the other"
        )
    return chosen


def is_travelling(name: str, names: frozenset[str] | None) -> bool:
    """Whether a notification of that name goes from process to process."""
    return name in names if names is not None else name != PORT_DID_BECOME_INVALID
