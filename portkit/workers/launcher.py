"""How workers are started: threads here, processes and hosts by the same interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from portkit.workers.worker import Worker

Ended: TypeAlias = Callable[[Worker, BaseException | None], None]
"""Called once when a worker has ended, on any thread, with what it raised."""


class Launcher(ABC):
    """Starts workers and waits for them to be gone."""

    @abstractmethod
    def start(self, worker: Worker, ended: Ended) -> None:
        """Start one worker, which will check in at the group's door.

        Raises:
            Exception: it cannot be started; ``ended`` will not be called.
        """

    @abstractmethod
    def join(self, timeout: float | None) -> None:
        """Wait up to ``timeout`` seconds in all for what ended workers leave behind to go."""
