"""What a group waits for."""

from __future__ import annotations

from collections.abc import Callable


class Until:
    """What the group's loop waits for; its own callbacks bring it about.

    So waited for, and not by runs that end and begin again, because a stop that somebody asks for
    meanwhile is meant for the run around this wait, and reaches it.
    """

    __slots__ = ("_condition",)

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    @property
    def done(self) -> bool:
        """Whether it has come."""
        return self._condition()
