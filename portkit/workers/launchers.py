"""Which launcher starts workers over which transport."""

from __future__ import annotations

from portkit.registry import transport
from portkit.workers.launcher import Launcher
from portkit.workers.target import Target
from portkit.workers.threads import ThreadLauncher


def launcher_over(scheme: str, target: Target | None) -> type[Launcher]:
    """The launcher for that scheme; others than threads' are imported when they are wanted.

    Args:
        scheme: of the group's door.
        target: what the workers run; None for those that others start.

    Raises:
        TransportError: there is no such transport.
    """
    if scheme == "mach":
        return ThreadLauncher
    if scheme == "message" and target is not None:
        from portkit.workers.processes import ProcessLauncher  # noqa: PLC0415

        return ProcessLauncher
    transport(scheme)
    from portkit.workers.expected import ExpectedLauncher  # noqa: PLC0415

    return ExpectedLauncher
