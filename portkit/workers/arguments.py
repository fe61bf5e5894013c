"""Checking what a group is made with."""

from __future__ import annotations

import os
from collections.abc import Collection

from portkit.workers.restart import Restart


def number_of_workers(count: int | None) -> int:
    """How many workers; one for each processor where nobody said.

    Raises:
        TypeError, ValueError: it is no number of workers.
    """
    if count is None:
        return os.cpu_count() or 1
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"count must be an int, not {type(count).__name__}")
    if count < 1:
        raise ValueError(f"a group needs at least 1 worker, not {count}")
    return count


def check_starter(*, launches: bool, restart: Restart | None, door: Collection[str]) -> None:
    """Whether options suit those who start the workers: the group, or others.

    Args:
        launches: whether the group does.
        restart: when it is to start them again.
        door: names of options of the door.

    Raises:
        TypeError: one does not.
    """
    if restart is not None and not isinstance(restart, Restart):
        raise TypeError(f"restart is a portkit.Restart, not {type(restart).__name__}")
    if launches and door:
        raise TypeError(
            f"{', '.join(door)}: options of the door are for workers that others start; this "
            "group starts them itself, but with target=None over message or socket"
        )
    if restart is not None and not launches:
        raise TypeError("restart is for workers that the group starts; others just come back")


def check_callbacks(*callbacks: object) -> None:
    """Whether each can be called, or is None.

    Raises:
        TypeError: one can not.
    """
    for callback in callbacks:
        if callback is not None and not callable(callback):
            raise TypeError(f"a group's callbacks must be callable, not {callback!r}")
