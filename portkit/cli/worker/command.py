"""``portkit worker``: one worker, started by hand or by another program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from portkit import PortError, TransportError, connect_port
from portkit.address import Address
from portkit.cli.security import connection_options
from portkit.cli.worker.rejoining import Joining, Pauses, failed_to_join
from portkit.registry import transport
from portkit.workers import Session
from portkit.workers.check_in import CheckIn
from portkit.workers.joining import join
from portkit.workers.lifeline import Guard, take_standard_input
from portkit.workers.target import check, resolve

TOKEN = "PORTKIT_WORKER_TOKEN"  # noqa: S105 - where the token is, not the token
"""Environment variable: what the worker proves with that the group expects it."""

ENDED = 0
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 128 + signal.SIGINT


def run_worker(
    target: str,
    main: str,
    *,
    index: int | None = None,
    name: str | None = None,
    check_in_timeout: float,
    retry: bool | None = None,
    lifeline: bool = False,
    security: Mapping[str, Any] | None = None,
) -> int:
    """Work until the group stops this worker, or is gone.

    Args:
        target: ``module:function``; modules of the working directory are found, too.
        main: the address of the group's door.
        index: the worker's number; None where the group gives it one.
        name: its name in messages, until the group gives it one.
        check_in_timeout: seconds to wait for the group's answer.
        retry: whether to keep trying while the group is not there, or was lost; None where it is
            on another host.
        lifeline: whether to end when standard input does.
        security: as of :func:`~portkit.cli.security.connection_options`.

    Returns:
        The exit status.

    Raises:
        BaseException: what the target raises.
    """
    if (here := str(os.getcwd())) not in sys.path:  # noqa: PTH109 - only its name is wanted
        sys.path.insert(0, here)
    options: dict[str, Any] = {}
    token = os.environ.get(TOKEN, "")
    if token and index is None:
        index = 0
    record = CheckIn(index=index, token=token, target=target if index is None else "")
    worker = _Worker(
        record,
        partial(
            join,
            target,
            main,
            name=name or ("this worker" if index is None else f"worker-{index}"),
            check_in_timeout=check_in_timeout,
            options=options,
        ),
    )
    try:
        if lifeline:
            worker.guard = Guard(take_standard_input())
        problem = _problem(target, main, security or {}, options)
        if problem is not None:
            return _fail(problem, WRONG_USAGE)
        if retry or (retry is None and Address.parse(main).scheme != "message"):
            Joining(main, worker.join, _say, Pauses()).work()
        else:
            worker.join(lambda _: None)
    except PortError as error:
        if not failed_to_join(error, worker.session):
            raise
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return ENDED


class _Worker:
    """One that may join again and again.

    Args:
        record: who it is at first.
        join: joins a group with a record, calling ``begun`` with the session.

    Attributes:
        session: the last one.
        guard: watches over the sessions.
    """

    def __init__(self, record: CheckIn, join: Callable[..., object]) -> None:
        self.session: Session | None = None
        self.guard: Guard | None = None
        self._record = record
        self._join = join

    def join(self, begun: Callable[[Session], object]) -> None:
        """Join the group, and work for it until one of the two has enough.

        Raises:
            BaseException: what the target, or the check-in, raises.
        """
        if self.session is not None and self._record.index is None:
            self._record = self._record.model_copy(update={"token": self.session.token})
        self.session = None

        def begin(session: Session) -> None:
            self.session = session
            if self.guard is not None:
                self.guard.watch_over(session)
            begun(session)

        self._join(record=self._record, begun=begin)


def _problem(
    target: str, main: str, security: Mapping[str, Any], options: dict[str, Any]
) -> Exception | None:
    """What is wrong with the arguments, found out before anything is done; fills in ``options``."""
    try:
        address = Address.parse(main)
        transport(address.scheme)
        if address.scheme == "mach" or not address.target:
            raise ValueError(
                f"{main!r} names no port of another process: write message:NAME or "
                "socket://HOST:PORT"
            )
        check(target)
        options |= connection_options(address.scheme, **security)
        connect_port(main, **options).invalidate()
    except (TransportError, ValueError) as error:
        return error
    try:
        resolve(target)
    except (ImportError, AttributeError, TypeError) as error:
        return error
    return None


def _say(line: str) -> None:
    print("portkit worker:", line, file=sys.stderr, flush=True)


def _fail(error: Exception, status: int) -> int:
    _say(str(error))
    return status
