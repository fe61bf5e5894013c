"""The payloads of a program that is one release ahead of ``models``."""

from __future__ import annotations

from portkit.typed import Payload


class Job(Payload, msgid=7):
    """As ``models.Job``; it has forgotten ``retries``, and knows more."""

    path: str
    notes: tuple[str, ...] = ("none",)
    priority: float = 0.5


class Result(Payload, msgid=8):
    """As ``models.Result``, which does not know how long it took."""

    path: str
    size: int
    seconds: float = 0
