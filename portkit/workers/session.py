"""The worker's side of a group: its ports, its run loop, and its check-in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from portkit._arguments import check_timeout
from portkit.errors import (
    CheckInError,
    CheckInTimeoutError,
    InvalidPortError,
    PortError,
    ReceiveTimeoutError,
    ReplyDroppedError,
    SendTimeoutError,
)
from portkit.message import PortMessage
from portkit.port import Port
from portkit.registry import open_port
from portkit.runloop import COMMON_MODES, DEFAULT_MODE, InputSource, RunLoop
from portkit.workers.check_in import STOP, CheckIn, check_in
from portkit.workers.delivery import deliver_waiting
from portkit.workers.ending import farewell


class Session:
    """What a worker's target function gets. Belongs to the worker's thread.

    Args:
        door: the group's port for check-ins.
        record: who this worker is.
        name: its name in messages, until the group gives it one.
        over: the scheme of its ports.
        check_in_timeout: seconds to wait for the group's answer.

    Attributes:
        name: its name.
        over: the scheme of its ports.
        port: the worker's port; give it a delegate before :meth:`run`.
        loop: the worker's run loop.
        on_check_in: called with this session once the group has accepted it.
        check_in_failure: what the check-in raised.
    """

    def __init__(
        self,
        door: Port,
        record: CheckIn,
        *,
        name: str,
        over: str,
        check_in_timeout: float | None,
    ) -> None:
        self.name: str = name
        self.over: str = over
        self.loop: RunLoop = RunLoop.current()
        self.port: Port = open_port(f"{over}:")
        self._control = open_port(f"{over}:", self._obey)
        self._door = door
        self._record = record
        self._check_in_timeout = check_in_timeout
        self._main: Port | None = None
        self._farewell: Port | None = None
        self._inbox: deque[PortMessage] = deque()
        self._stopped = False
        self._was_told = False
        self.check_in_failure: PortError | None = None
        self.on_check_in: Callable[[Session], object] | None = None
        # Stays signalled once it was: a stop ends one run only, and a delegate may be in another.
        self._stop_source = InputSource(self._finish)
        self.loop.add_port(self.port, COMMON_MODES)
        self.loop.add_port(self._control, COMMON_MODES)
        self.loop.add_source(self._stop_source, COMMON_MODES)

    @property
    def has_checked_in(self) -> bool:
        """Whether the group has accepted this worker."""
        return self._main is not None

    @property
    def index(self) -> int:
        """The worker's number, from 0; checks in first where the group is to give it one."""
        if self._record.index is None:
            self.check_in()
        assert self._record.index is not None, "check_in sets it or raises"
        return self._record.index

    @property
    def token(self) -> str:
        """What this worker proves with that it is the one of its number."""
        return self._record.token

    @property
    def was_stopped(self) -> bool:
        """Whether the group has told this worker to end."""
        return self._was_told

    @property
    def main(self) -> Port:
        """The main side's port for this worker; checks in first, if need be."""
        if self._main is None:
            self.check_in()
        assert self._main is not None, "check_in sets it or raises"
        return self._main

    def check_in(self) -> None:
        """Tell the group that this worker is ready, and wait for its answer.

        :meth:`run` and :attr:`main` do it where it was not done. Do it earlier by hand in a target
        that does not run its loop.

        Raises:
            CheckInError: done before, refused, or the group is gone.
            CheckInTimeoutError: the group did not answer in time.
        """
        if self._main is not None:
            raise CheckInError(f"{self.name} has checked in already")
        try:
            self._ask_in()
        except PortError as error:
            self.check_in_failure = error
            raise

    def _ask_in(self) -> None:
        try:
            accepted = check_in(
                self._door, self._record, self.port, self._control, self._check_in_timeout
            )
        except (InvalidPortError, ReplyDroppedError) as error:
            raise CheckInError(
                f"{self.name} checks in too late: the group was stopped or gave up waiting"
            ) from error
        except (ReceiveTimeoutError, SendTimeoutError) as error:
            why = f": {error}" if isinstance(error, SendTimeoutError) else ""
            raise CheckInTimeoutError(
                f"the group did not answer {self.name}'s check-in within {self._check_in_timeout} s"
                f"{why}"
            ) from error
        self._main, self._farewell = accepted.main, accepted.farewell
        place = accepted.place
        if place is not None:
            self.name = place.name
            self._record = self._record.model_copy(
                update={"index": place.index, "token": place.token}
            )
        self._main.add_invalidation_handler(lambda _: self.stop())
        if self.on_check_in is not None:
            self.on_check_in(self)

    def run(self) -> None:
        """Check in, if need be, and run the loop until the group stops this worker or is gone.

        Messages that were sent before the group's stop are handled first.
        """
        if self._main is None:
            self.check_in()
        self.loop.run()

    def receive(self, timeout: float | None) -> PortMessage | None:
        """Check in, if need be, and wait for the next message; instead of :meth:`run`.

        The loop runs in its default mode meanwhile. A request is answered with the message's
        ``reply``.

        Args:
            timeout: seconds; 0 or less looks once, None waits for ever.

        Returns:
            The message; None once the group has stopped this worker or is gone, and all that was
            sent before has been received.

        Raises:
            ReceiveTimeoutError: nothing came in time.
            PortError: the worker's port has a delegate, which gets the messages.
        """
        check_timeout(timeout)
        if self.port.delegate is None:
            self.port.delegate = self._keep
        elif self.port.delegate != self._keep:
            raise PortError(f"{self.name}'s port has a delegate, which gets its messages: use run")
        if self._main is None:
            self.check_in()
        if not (self._inbox or self._stopped):
            self.loop._run_until(DEFAULT_MODE, timeout, _Received(self))
        if self._inbox:
            return self._inbox.popleft()
        if self._stopped:
            return None
        raise ReceiveTimeoutError(f"{self.name} received nothing within {timeout} s")

    def _keep(self, message: PortMessage) -> None:
        if message.is_request:
            message.defer()
        self._inbox.append(message)

    def stop(self) -> None:
        """End :meth:`run` once the messages that are here now are handled. Any thread."""
        self._stop_source.signal()

    def close(self, error: BaseException | None = None) -> None:
        """Invalidate the worker's ports, so that others see its end. The launcher does it.

        Args:
            error: what the target raised.
        """
        deliver_waiting(self._control)  # whether it was told to end
        if self._farewell is not None:
            try:
                self._farewell.send(farewell(error), timeout=0)
            except PortError:
                pass  # the group sees it go
        self._stop_source.invalidate()
        self._control.invalidate()
        self.port.invalidate()

    def _obey(self, message: PortMessage) -> None:
        if message.msgid == STOP:
            self._was_told = True
            self.stop()

    def _finish(self, source: InputSource) -> None:
        source.signal(wake=False)
        deliver_waiting(self._control)  # where the main side has gone since: whether it said so
        if self.loop.contains_port(self.port, COMMON_MODES):  # else the target takes them itself
            deliver_waiting(self.port)
        self._stopped = True
        self.loop.stop()


class _Received:
    """What :meth:`Session.receive` waits for."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def done(self) -> bool:
        """Whether there is a message, or will be no more."""
        return bool(self._session._inbox) or self._session._stopped
