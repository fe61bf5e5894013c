"""Working for a group, from the check-in to the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portkit.address import Address
from portkit.port import Port
from portkit.registry import connect_port
from portkit.workers.check_in import CheckIn
from portkit.workers.launcher import scheme_of_ports
from portkit.workers.session import Session
from portkit.workers.target import Target, resolve


def join(
    target: Target,
    main: str,
    record: CheckIn,
    *,
    name: str,
    check_in_timeout: float | None,
    begun: Callable[[Session], object] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """As :func:`work`, for a group of another process.

    Args:
        target: what to run.
        main: the address of the group's door.
        record: who the worker is.
        name: its name in messages.
        check_in_timeout: seconds to wait for the group's answer.
        begun: called with the session before the target is.
        options: the transport's own, for the connection.
    """
    work(
        target,
        connect_port(main, **(options or {})),
        record,
        name=name,
        over=scheme_of_ports(Address.parse(main).scheme),
        check_in_timeout=check_in_timeout,
        begun=begun,
    )


def work(
    target: Target,
    door: Port,
    record: CheckIn,
    *,
    name: str,
    over: str,
    check_in_timeout: float | None,
    begun: Callable[[Session], object] | None = None,
) -> None:
    """Run a worker on this thread, from its check-in to its end.

    Args:
        target: what to run.
        door: the group's port for check-ins.
        record: who the worker is.
        name: its name in messages.
        over: the scheme of its ports.
        check_in_timeout: seconds to wait for the group's answer.
        begun: called with the session before the target is.

    Raises:
        CheckInError: the group refused the worker, or is gone.
        ImportError, AttributeError, TypeError: the target cannot be found.
        BaseException: what the target raises.
    """
    function = resolve(target)
    session = Session(door, record, name=name, over=over, check_in_timeout=check_in_timeout)
    try:
        if begun is not None:
            begun(session)
        function(session)
    except BaseException as error:
        session.close(error)
        raise
    session.close()
