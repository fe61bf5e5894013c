"""Running a mode: the activation (one call of a run method), and its passes.

The steps are those of semantics 1.3, in its order and with its numbers. Everything that decides
when callbacks run, when the loop sleeps and how a run ends is in this file.
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Protocol

from portkit import _fork, clock
from portkit.runloop.constants import Activity, RunResult
from portkit.runloop.mode import Mode

if TYPE_CHECKING:
    from portkit._wakeup import Waiter
    from portkit.runloop.loop import RunLoop

_ENTRY = int(Activity.ENTRY)
_BEFORE_TIMERS = int(Activity.BEFORE_TIMERS)
_BEFORE_SOURCES = int(Activity.BEFORE_SOURCES)
_BEFORE_WAITING = int(Activity.BEFORE_WAITING)
_AFTER_WAITING = int(Activity.AFTER_WAITING)
_EXIT = int(Activity.EXIT)

POLL_ONCE = -math.inf
"""The deadline of a run that makes one pass and does not sleep (R9)."""


class Awaited(Protocol):
    """Something whose coming ends a run; whoever completes it rings the loop's waiter."""

    @property
    def done(self) -> bool:
        """Whether it has come."""
        ...


class Activation:
    """One run of a mode, pushed while it lasts (R4).

    Attributes:
        mode: what it runs.
        deadline: when it times out, on the loop clock.
        return_after_source: end after a pass that handled a source.
        return_after_block: end after a pass that performed a block.
        awaited: run until this is done, whatever else happens; a stop passes on outwards.
        outer: the activation that this one is nested in.
        stopped: a stop waits to be seen.
        took_wake: it used up or ignored a wake-up, which may have been meant for the outer one.
    """

    __slots__ = (
        "awaited",
        "deadline",
        "mode",
        "outer",
        "return_after_block",
        "return_after_source",
        "stopped",
        "took_wake",
    )

    def __init__(
        self,
        mode: Mode,
        deadline: float,
        *,
        return_after_source: bool = False,
        return_after_block: bool = False,
        awaited: Awaited | None = None,
    ) -> None:
        self.mode: Mode = mode
        self.deadline: float = deadline
        self.return_after_source: bool = return_after_source
        self.return_after_block: bool = return_after_block
        self.awaited: Awaited | None = awaited
        self.outer: Activation | None = None
        self.stopped: bool = False
        self.took_wake: bool = False


def run(loop: RunLoop, activation: Activation) -> RunResult:
    """Run the activation's mode to its end: Entry observers, passes, Exit observers (R4, R5)."""
    loop._waiter.check_awake()
    outer = activation.outer = loop._activation
    outer_ignoring = loop._ignoring
    # A signal handler may raise at any call: all that is set here is undone in the finally.
    try:
        loop._activation = activation
        loop._ignoring = False
        try:
            if outer is None and loop._is_main and loop._stepped is None:
                catch_signals(loop)
            _observe(loop, activation.mode, _ENTRY)
            result = _run_passes(loop, activation)
            loop._check_fork()  # a callback may have forked, and returned in the child
            return result
        finally:
            loop._waiter.armed = None
            loop._is_waiting = False
            if loop._generation == _fork.generation:
                _observe(loop, activation.mode, _EXIT)
    finally:
        loop._activation = outer
        loop._ignoring = outer_ignoring
        if outer is not None:
            if activation.took_wake:
                loop._woken = True
            if activation.awaited is not None and activation.stopped:
                outer.stopped = True
        elif loop._catches_signals and loop._stepped is None:
            leave_signals(loop)
        if loop._stepped is not None:
            if activation.took_wake:
                loop._woken = True
            loop._stepped.rest()


def _run_passes(loop: RunLoop, activation: Activation) -> RunResult:  # noqa: C901 - one pass, one function
    mode = activation.mode
    blocks = loop._blocks
    inbox, queues = blocks.inbox, blocks.queues
    timers = mode.timers
    awaited = activation.awaited
    deadline = activation.deadline

    # 0. A stop by an Entry observer ends the run without a pass (R18).
    if activation.stopped and awaited is None:
        return RunResult.STOPPED

    while True:
        # 1. From here on wake-ups count again: what came before is examined below (R21).
        loop._ignoring = False

        # 2. and 3. Observers.
        if mode.observed & (_BEFORE_TIMERS | _BEFORE_SOURCES):
            _observe(loop, mode, _BEFORE_TIMERS)
            _observe(loop, mode, _BEFORE_SOURCES)

        # 4. Blocks.
        performed = bool(inbox or queues) and blocks.run(mode)

        # 5. Signalled sources, and blocks again if there were any.
        handled = bool(mode.fired) and _perform_sources(loop, activation)
        if handled and (inbox or queues) and blocks.run(mode):
            performed = True

        # 6. Whether to poll instead of sleeping. A mode without items polls: nothing would wake it
        # for the blocks it may still have, and without those it ends below (R13).
        emptied = mode.alive == 0 and awaited is None
        poll = (
            handled
            or emptied
            or deadline == POLL_ONCE
            or (performed and activation.return_after_block)
        )

        # 7. There is no main queue.

        # 8. Observers.
        if not poll and mode.observed & _BEFORE_WAITING:
            _observe(loop, mode, _BEFORE_WAITING)

        # 9. Wait.
        descriptors = _wait(loop, activation, poll=poll)

        # 10. Until step 1 wake-ups need not count.
        loop._ignoring = True
        if not poll and mode.observed & _AFTER_WAITING:
            _observe(loop, mode, _AFTER_WAITING)

        # 11. Due timers; then messages and ready descriptors, as many as a batch holds.
        if len(timers):
            _fire_timers(loop, mode)
        if descriptors:
            handled = _serve_in_turn(loop, activation, descriptors) or handled
        elif mode.ready:
            handled = _deliver_messages(loop, activation) or handled

        # 12. Blocks.
        if (inbox or queues) and blocks.run(mode):
            performed = True

        # 13. The result, in this precedence (R12).
        if awaited is not None:
            if awaited.done:
                return RunResult.HANDLED_SOURCE
            if deadline == POLL_ONCE or (deadline != math.inf and clock.now() >= deadline):
                return RunResult.TIMED_OUT
            continue
        if handled and activation.return_after_source:
            return RunResult.HANDLED_SOURCE
        if performed and activation.return_after_block:
            return RunResult.HANDLED_SOURCE
        empty = mode.alive == 0 and not blocks.has_any(mode)
        if emptied and empty and not activation.stopped:
            return RunResult.FINISHED
        if deadline == POLL_ONCE or (deadline != math.inf and clock.now() >= deadline):
            return RunResult.TIMED_OUT
        if activation.stopped:
            return RunResult.STOPPED
        if empty:
            return RunResult.FINISHED


def _wait(loop: RunLoop, activation: Activation, *, poll: bool) -> list[tuple[int, int]]:
    """Step 9: sleep until something is ready, the deadline, or a wake-up; what descriptors are.

    A ring of the waiter only means "look again": the loop sleeps on if nothing changed for it.
    """
    if loop._generation != _fork.generation:
        loop._check_fork()
    mode = activation.mode
    waiter = loop._waiter
    awaited = activation.awaited
    loop._is_waiting = not poll
    waiter.sends = 0
    if waiter.unflushed:
        waiter.flush()
    while True:
        poller = mode.poller
        waiter.armed = mode
        if (
            poll
            or loop._woken
            or mode.ready
            or (awaited is not None and awaited.done)
            or (awaited is None and mode.alive == 0)
        ):
            timeout: float | None = 0.0
        else:
            until = min(activation.deadline, mode.timers.wake_date)
            timeout = None if until == math.inf else clock.sleep_time(until)
        if timeout == 0.0:
            break
        if poller is None:
            waiter.sleep(timeout)
            continue
        waiter.asleep = True
        try:
            found = poller.poll(timeout)
        finally:
            waiter.asleep = False
        ready = _others(waiter, mode, found)
        if ready or mode.ready or (awaited is not None and awaited.done):
            return _rested(loop, activation, ready)
    if poller is None:
        return _rested(loop, activation, [])
    return _rested(loop, activation, _others(waiter, mode, poller.poll(0.0)))


def _rested(
    loop: RunLoop, activation: Activation, ready: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    loop._waiter.armed = None
    loop._is_waiting = False
    mode = activation.mode
    mode.rests += 1
    if mode.guard is not None and not mode.is_guarded:
        mode.is_guarded = True
        try:
            mode.guard(loop, mode)
        except BaseException:  # of a signal handler
            mode.is_guarded = False
            raise
    if loop._woken:
        loop._woken = False
        activation.took_wake = True
    return ready


def _others(waiter: Waiter, mode: Mode, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take the ring, and what pumps bring; the descriptors that callbacks are to be made for."""
    others: list[tuple[int, int]] = []
    for entry in ready:
        fd = entry[0]
        if fd == waiter.read_fd:
            waiter.drain()
            continue
        pump = mode.pumps.get(fd)
        if pump is None:
            others.append(entry)
        else:
            waiter.armed = None  # this thread is awake: what the pump brings need not ring it
            pump.pump()
    return others


def _observe(loop: RunLoop, mode: Mode, activity: int) -> None:
    """Tell the observers of one activity, as they are now (R38)."""
    if not mode.observed & activity:
        return
    named = Activity(activity)
    for observer in mode.observers:
        if observer._mask & activity:
            try:
                observer._fire(named)
            except Exception as error:
                loop._report("an observer raised", error, observer)


def _perform_sources(loop: RunLoop, activation: Activation) -> bool:
    """Perform the sources signalled until now, by their order (R29)."""
    mode = activation.mode
    fired = list(mode.fired)
    if len(fired) > 1:
        fired.sort(key=lambda source: source.order)
    urgent = loop._blocks.urgent
    performed = False
    for source in fired:
        mode.fired.pop(source, None)
        # It may have been removed meanwhile, also by another thread that was just signalling it.
        if source not in mode.items or not source._take_signal():
            continue
        performed = True
        try:
            source._perform(source)
        except Exception as error:
            loop._report("an input source raised", error, source)
        if urgent:
            loop._blocks.run_urgent(mode)
        if activation.return_after_source:
            break
    return performed


def _fire_timers(loop: RunLoop, mode: Mode) -> None:
    """Fire the timers that are due now; each is looked at again right before its call (R47)."""
    with loop._lock:
        due = mode.timers.due(clock.now())
    for timer in due:
        if timer._is_due(mode):
            try:
                timer._fire_on(loop)
            except Exception as error:
                loop._report("a timer raised", error, timer)
            if loop._blocks.urgent:
                loop._blocks.run_urgent(mode)


def _serve_in_turn(
    loop: RunLoop, activation: Activation, descriptors: list[tuple[int, int]]
) -> bool:
    """Serve ports and ready descriptors, taking turns in who goes first (R35)."""
    one = activation.return_after_source
    loop._turn += 1
    if loop._turn & 1:
        served = _deliver_messages(loop, activation)
        if not (one and served):
            served = _fire_descriptors(loop, activation, descriptors) or served
    else:
        served = _fire_descriptors(loop, activation, descriptors)
        if not (one and served):
            served = _deliver_messages(loop, activation) or served
    return served


def _deliver_messages(loop: RunLoop, activation: Activation) -> bool:
    """Deliver messages, one from each ready port in turn, until the batch is full.

    It ends early for a stop, the deadline, a due timer, or the one source that was asked for.
    """
    mode = activation.mode
    ready = mode.ready
    urgent = loop._blocks.urgent
    timers = mode.timers
    deadline = math.inf if activation.deadline == POLL_ONCE else activation.deadline
    budget = 1 if activation.return_after_source else loop._batch_limit
    delivered = False
    while budget > 0 and ready:
        slot = ready[0]
        port = None
        try:
            ready.popleft()
            slot.queued = False
            port = slot.port
            if port is None or not port.deliver():
                continue
        except Exception as error:
            loop._report("a port's delegate raised", error, port)
        except BaseException:
            # The port may not have been looked at yet, and is not told again by its mailbox.
            slot.queued = True
            ready.append(slot)
            raise
        delivered = True
        budget -= 1
        if urgent:
            loop._blocks.run_urgent(mode)
        if activation.stopped:
            break
        if (timers.wake_date != math.inf or deadline != math.inf) and (
            min(timers.wake_date, deadline) <= clock.now()
        ):
            break
    return delivered


def _fire_descriptors(
    loop: RunLoop, activation: Activation, descriptors: list[tuple[int, int]]
) -> bool:
    """Call back for ready descriptors: by order, or just one, a different one each time."""
    mode = activation.mode
    sources = [(mode.descriptors.get(fd), events) for fd, events in descriptors]
    if activation.return_after_source:
        start = loop._turn % len(sources)
        sources = sources[start:] + sources[:start]
    else:
        sources.sort(key=lambda entry: 0 if entry[0] is None else entry[0].order)
    urgent = loop._blocks.urgent
    fired = False
    for source, events in sources:
        # An earlier callback may have removed this source, or put another in its place.
        if source is None or mode.descriptors.get(source.fd) is not source:
            continue
        try:
            fired = source._fire(events) or fired
        except Exception as error:
            fired = True
            loop._report("a descriptor source raised", error, source)
        if urgent:
            loop._blocks.run_urgent(mode)
        if fired and activation.return_after_source:
            break
    return fired


def catch_signals(loop: RunLoop) -> None:
    """On the main thread, have signals ring the loop.

    Python runs signal handlers between bytecodes; one that arrives just before the loop blocks
    would wait for the next event. A descriptor that somebody else set stays.
    """
    loop._catches_signals = True
    ours = loop._waiter.write_fd
    before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
    if before not in {-1, ours}:  # ours is there if a signal handler kept it from being taken back
        loop._catches_signals = False
        signal.set_wakeup_fd(before)


def leave_signals(loop: RunLoop) -> None:
    """Have signals ring the loop no more. A descriptor that somebody set meanwhile stays."""
    if loop._catches_signals:
        loop._catches_signals = False
        present = signal.set_wakeup_fd(-1)
        if present != loop._waiter.write_fd:
            signal.set_wakeup_fd(present)
