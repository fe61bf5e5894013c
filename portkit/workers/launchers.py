"""Which launcher starts workers over which transport."""

from __future__ import annotations

from portkit.errors import TransportError
from portkit.registry import schemes
from portkit.workers.launcher import Launcher
from portkit.workers.threads import ThreadLauncher


def launcher_over(scheme: str) -> type[Launcher]:
    """The launcher for that scheme; those for processes are imported when they are wanted.

    Raises:
        TransportError: there is none.
    """
    if scheme == "mach":
        return ThreadLauncher
    if scheme == "message":
        from portkit.workers.processes import ProcessLauncher  # noqa: PLC0415

        return ProcessLauncher
    raise TransportError(
        f"workers cannot be started over {scheme!r}; they can over mach, message "
        f"(transports here: {', '.join(schemes())})"
    )
