"""The run loop: one per thread, the place where everything that thread is told arrives."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Coroutine
from threading import Lock, Thread, get_ident
from typing import Any, ClassVar, TypeAlias, TypeVar

from portkit import _fork, _report, _tally, _thread, clock
from portkit._arguments import check_callable, check_kind, check_limit, check_timeout
from portkit._context import bound
from portkit.errors import LoopEndedError, PortError, WrongThreadError
from portkit.runloop import activation as engine
from portkit.runloop.activation import Activation, Awaited
from portkit.runloop.blocks import Block, BlockQueue, WaitedBlock
from portkit.runloop.constants import COMMON_MODES, DEFAULT_MODE, LONGEST_TIMEOUT, RunResult
from portkit.runloop.delayed import DelayedCall
from portkit.runloop.describe import describe
from portkit.runloop.descriptor import DescriptorSource
from portkit.runloop.executor import LoopExecutor
from portkit.runloop.guest import GuestRun
from portkit.runloop.item import Item
from portkit.runloop.mode import Mode, ReadySlot
from portkit.runloop.mode_table import Modes, ModeTable, check_mode_name, check_mode_names
from portkit.runloop.observer import Observer
from portkit.runloop.poller import READ, Poller, new_poller
from portkit.runloop.port_item import PortItem, Schedulable
from portkit.runloop.source import InputSource
from portkit.runloop.stepping import SteppedRun
from portkit.runloop.timer import Timer

T = TypeVar("T")
TaskStarter: TypeAlias = "Callable[[Any, Coroutine[Any, Any, None]], object]"
"""Has an event loop of the thread await what answers a message: :func:`portkit.aio.hosting`'s, or
one of :func:`portkit.loops.new_event_loop`."""
ExceptionHandler: TypeAlias = "Callable[[RunLoop, _report.ErrorContext], object]"


class RunLoop:
    """A thread's loop: input sources, ports, timers and observers, in modes.

    Get it with :meth:`current` or :meth:`main`; it is made at first use and ends with its thread.
    From any thread: adding, removing and asking for items, ``perform*``, ``call_later``,
    ``cancel_calls``, ``stop``, ``wake_up``, ``describe``. On the loop's own thread only: the run
    methods, ``accept_input``, ``limit_date`` and ``start_guest_run``.

    Attributes:
        ident: ``threading.get_ident()`` of its thread.
        exception_handler: called as ``handler(loop, context)`` when a callback raises an
            ``Exception``; context has "message", "exception" and "source". None logs at ERROR.
    """

    _creation_lock: ClassVar[Lock] = Lock()

    def __init__(self, state: _thread.ThreadState | None = None) -> None:
        """For :meth:`current` and :meth:`main`; not for users."""
        if state is None:
            raise TypeError("each thread has one run loop: get it with RunLoop.current()")
        self.ident: int = state.ident
        self.exception_handler: ExceptionHandler | None = None
        self._batch_limit = 64
        self._waiter = state.waiter
        self._is_main = state is _thread.main()
        self._generation = _fork.generation
        self._table = ModeTable(self)
        self._lock = self._table.lock
        self._ports: dict[Schedulable, PortItem] = {}
        self._blocks = BlockQueue()
        self._delayed: dict[DelayedCall, None] = {}
        self._activation: Activation | None = None
        self._stepped: SteppedRun | None = None
        self._task_starter: TaskStarter | None = None
        self._is_waiting = False
        self._catches_signals = False
        self._woken = False
        self._ignoring = False
        self._ended = False
        self._turn = 0

    @classmethod
    def current(cls) -> RunLoop:
        """The calling thread's run loop."""
        return _thread.current().loop or cls._of(_thread.current())

    @classmethod
    def main(cls) -> RunLoop:
        """The main thread's run loop, from any thread."""
        return cls._of(_thread.main())

    @classmethod
    def _of(cls, state: _thread.ThreadState) -> RunLoop:
        with cls._creation_lock:
            if state.loop is None:
                state.loop = cls(state)
            return state.loop

    # What it is.

    @property
    def current_mode(self) -> str | None:
        """The name of the mode that runs, of the innermost run; None while none does (R64)."""
        activation = self._activation
        return None if activation is None else activation.mode.name

    @property
    def modes(self) -> list[str]:
        """The names of all modes that this loop ever had."""
        return list(self._table.modes)

    @property
    def is_waiting(self) -> bool:
        """Whether the loop sleeps, with nothing to do."""
        return self._is_waiting

    @property
    def thread(self) -> Thread:
        """The thread whose loop this is.

        Raises:
            LoopEndedError: it has ended.
            LookupError: ``threading`` does not know it: something else started it.
        """
        self._check_alive()
        thread = _thread.find(self.ident)
        if thread is None:
            raise LookupError(f"thread {self.ident} was not started by the threading module")
        return thread

    @property
    def batch_limit(self) -> int:
        """How many messages one pass delivers at most, all ports together.

        1 is CoreFoundation's rule (R34).

        Raises:
            TypeError, ValueError: it is set to something other than an int of at least 1.
        """
        return self._batch_limit

    @batch_limit.setter
    def batch_limit(self, limit: int) -> None:
        self._batch_limit = check_limit("batch_limit", limit)

    def describe(self) -> str:
        """A dump of modes and items, for people (CFCopyDescription)."""
        self._check_fork()
        return describe(self)

    def __repr__(self) -> str:
        state = "ended" if self._ended else self.current_mode or "idle"
        return f"<RunLoop of thread {_thread.thread_name(self.ident)}: {state}>"

    # Items.

    def add_port(self, port: Schedulable, mode: str = DEFAULT_MODE) -> None:
        """Have this loop deliver the port's messages in ``mode`` (R63). The loop holds the port.

        Raises:
            TypeError: it is no port.
            ValueError: the port is invalid.
            PortError: another consumer serves the port, or it only sends.
        """
        if not hasattr(port, "schedule"):
            raise TypeError(f"expected a Port, not {type(port).__name__}")
        self._check_alive()
        with self._lock:
            item = self._ports.get(port)
            if item is None:
                item = self._ports[port] = PortItem(port)
            item.adding += 1
        try:
            self._add(item, mode)
        finally:
            with self._lock:
                item.adding -= 1
            self._forget_unused(item)

    def remove_port(self, port: Schedulable, mode: str = DEFAULT_MODE) -> None:
        """Stop delivering in ``mode``. The port stays valid and keeps its messages."""
        item = self._ports.get(port)
        if item is not None:
            self._table.remove(item, check_mode_name(mode))
            self._forget_unused(item)

    def contains_port(self, port: Schedulable, mode: str = DEFAULT_MODE) -> bool:
        """Whether the port is in ``mode``."""
        item = self._ports.get(port)
        return item is not None and self._table.contains(item, check_mode_name(mode))

    def add_source(self, source: InputSource | DescriptorSource, mode: str = DEFAULT_MODE) -> None:
        """Add a source to ``mode``; its schedule callout is made once for each concrete mode.

        Raises:
            TypeError: it is no source.
            ValueError: it is invalid; or a descriptor source of another loop.
        """
        self._add(check_kind(source, InputSource, DescriptorSource), mode)

    def remove_source(
        self, source: InputSource | DescriptorSource, mode: str = DEFAULT_MODE
    ) -> None:
        """Remove a source from ``mode``; its cancel callout is made."""
        self._table.remove(source, check_mode_name(mode))

    def contains_source(
        self, source: InputSource | DescriptorSource, mode: str = DEFAULT_MODE
    ) -> bool:
        """Whether the source is in ``mode`` (R43 for the common modes)."""
        return self._table.contains(source, check_mode_name(mode))

    def add_timer(self, timer: Timer, mode: str = DEFAULT_MODE) -> None:
        """Add a timer to ``mode``; a sleeping loop takes it into account at once (R54).

        Raises:
            TypeError: it is no timer.
            ValueError: it is invalid, or belongs to another loop.
        """
        self._add(check_kind(timer, Timer), mode)

    def remove_timer(self, timer: Timer, mode: str = DEFAULT_MODE) -> None:
        """Remove a timer from ``mode``."""
        self._table.remove(timer, check_mode_name(mode))

    def contains_timer(self, timer: Timer, mode: str = DEFAULT_MODE) -> bool:
        """Whether the timer is in ``mode``."""
        return self._table.contains(timer, check_mode_name(mode))

    def add_observer(self, observer: Observer, mode: str = DEFAULT_MODE) -> None:
        """Add an observer to ``mode``.

        Raises:
            TypeError: it is no observer.
            ValueError: it is invalid, or belongs to another loop.
        """
        self._add(check_kind(observer, Observer), mode)

    def remove_observer(self, observer: Observer, mode: str = DEFAULT_MODE) -> None:
        """Remove an observer from ``mode``."""
        self._table.remove(observer, check_mode_name(mode))

    def contains_observer(self, observer: Observer, mode: str = DEFAULT_MODE) -> bool:
        """Whether the observer is in ``mode``."""
        return self._table.contains(observer, check_mode_name(mode))

    def add_common_mode(self, mode: str) -> None:
        """Make ``mode`` one of the common modes, for good (R42)."""
        self._check_alive()
        if check_mode_name(mode) == COMMON_MODES:
            raise ValueError("COMMON_MODES stands for the common modes; name the mode to add")
        self._table.add_common(mode)

    def next_timer_fire_date(self, mode: str) -> float | None:
        """When the mode's next timer is due, on the loop clock; None without timers (R52)."""
        self._check_fork()
        with self._lock:
            found = self._table.modes.get(check_mode_name(mode))
            return None if found is None else found.next_fire_date

    # Running.

    def run(self, timeout: float | None = None) -> RunResult:
        """Run the default mode until it is stopped, finished, or ``timeout`` seconds are over."""
        return self.run_in_mode(DEFAULT_MODE, timeout)

    def run_in_mode(
        self, mode: str, timeout: float | None, *, return_after_source_handled: bool = False
    ) -> RunResult:
        """Run one mode (CFRunLoopRunInMode, R1-R18).

        Args:
            mode: which; an empty or unknown one is FINISHED at once (R1).
            timeout: seconds; 0 or less makes one pass without sleeping (R9); None, or more than
                16 years, means for ever (R10).
            return_after_source_handled: end after a pass that handled a source or a message;
                such a pass handles one. Timers and performed calls do not count (R8).

        Raises:
            WrongThreadError: this is not the loop's thread.
            LoopEndedError: the loop's thread has ended.
            TypeError, ValueError: an argument is wrong; COMMON_MODES cannot be run (R3).
        """
        deadline = self._deadline(timeout)
        found = self._runnable(mode)
        if found is None:
            return RunResult.FINISHED
        return engine.run(
            self, Activation(found, deadline, return_after_source=return_after_source_handled)
        )

    def run_mode(self, mode: str, timeout: float | None) -> bool:
        """Run ``mode`` until a source is handled, a call performed, or the time is over (R59).

        For loops of the form ``while not done: loop.run_mode(mode, timeout)``.

        Returns:
            False if there was nothing in the mode to run for, else True.
        """
        deadline = self._deadline(timeout)
        found = self._runnable(mode)
        if found is None:
            return False
        engine.run(
            self, Activation(found, deadline, return_after_source=True, return_after_block=True)
        )
        return True

    def accept_input(self, mode: str, timeout: float | None) -> RunResult:
        """Run ``mode`` until one source is handled or the time is over; timers may fire (R62)."""
        return self.run_in_mode(mode, timeout, return_after_source_handled=True)

    def limit_date(self, mode: str) -> float | None:
        """Make one pass without sleeping, then say when the next timer is due (R61).

        Returns:
            None if the mode is empty, infinity if it has no timers, else the next fire date.
        """
        self.accept_input(mode, 0)
        found = self._runnable(mode)
        if found is None:
            return None
        with self._lock:
            date = found.next_fire_date
        return math.inf if date is None else date

    def start_guest_run(
        self, mode: str = DEFAULT_MODE, *, stopped: Callable[[], object] | None = None
    ) -> GuestRun:
        """Have another event loop of this thread run ``mode``: Qt's, Tk's, trio, uvloop.

        Args:
            mode: which; it may be empty.
            stopped: called when :meth:`stop` has ended the run, to end that event loop too.

        Returns:
            What that loop watches and calls; end it before the thread ends.

        Raises:
            WrongThreadError: this is not the loop's thread.
            LoopEndedError: the loop's thread has ended.
            PortError: the mode has a guest run already.
            TypeError, ValueError: an argument is wrong.
        """
        self._check_thread("start_guest_run()")
        self._check_mode(mode)
        if stopped is not None:
            check_callable(stopped)
        found = self._table.ensure(mode)
        if found.bell is not None:
            raise PortError(f"mode {mode!r} has a guest run already: end that one first")
        run = GuestRun(self, found, bound(stopped))
        run.begin()
        return run

    def stop(self) -> None:
        """End the innermost run after its present pass (R16-R18).

        From any thread, a signal handler or a finalizer. A loop that does not run is not
        affected: to stop a thread that may not run yet, ``loop.perform(loop.stop)``.
        """
        activation = self._activation
        if activation is None and self._stepped is not None:
            activation = self._stepped.activation
        if activation is not None:
            activation.stopped = True
            self.wake_up()

    def wake_up(self) -> None:
        """Have a sleeping loop make a pass; retained if none sleeps (R20).

        From any thread, a signal handler or a finalizer: takes no lock.
        """
        self._check_fork()
        if self._ignoring:
            activation = self._activation
            if activation is not None:
                activation.took_wake = True
            return
        self._woken = True
        self._waiter.ring()
        if self._stepped is not None:
            self._stepped.ring()

    # Calls on this loop's thread.

    def perform(
        self, fn: Callable[..., Any], *args: Any, modes: Modes = COMMON_MODES, wake: bool = True
    ) -> None:
        """Have the loop call ``fn(*args)``, in the order of asking (R24-R27).

        From any thread, a signal handler or a finalizer: takes no lock.

        Args:
            fn: what to call.
            args: its arguments.
            modes: the mode, or modes, in which the call may be made.
            wake: also wake the loop; otherwise the call waits for its next pass.

        Raises:
            LoopEndedError: the loop's thread has ended.
            TypeError, ValueError: an argument is wrong.
        """
        self._put(Block(bound(check_callable(fn)), args, check_mode_names(modes)), wake=wake)

    def perform_and_wait(
        self,
        fn: Callable[..., T],
        *args: Any,
        modes: Modes = COMMON_MODES,
        timeout: float | None = 5.0,
    ) -> T:
        """Have the loop call ``fn(*args)``, and return its result or raise its exception (T1, T2).

        On the loop's own thread the call is made at once.

        Raises:
            ReceiveTimeoutError: no result within ``timeout`` seconds. If the call had not begun
                it never will.
            LoopEndedError: the loop's thread has ended, before the call or during the wait.
        """
        names = check_mode_names(modes)
        check_timeout(timeout)
        check_callable(fn)
        if get_ident() == self.ident:
            self._check_alive()
            return fn(*args)
        block = WaitedBlock(bound(fn), args, names, _thread.current().waiter)
        self._put(block, wake=True)
        result: T = block.wait(timeout)
        return result

    def call_later(
        self, delay: float, fn: Callable[..., Any], *args: Any, mode: str = DEFAULT_MODE
    ) -> Timer:
        """Have the loop call ``fn(*args)`` once, ``delay`` seconds from now (T4).

        Returns:
            The timer; invalidate it to withdraw the call.
        """
        timer = DelayedCall(delay, check_callable(fn), args)
        self.add_timer(timer, mode)
        return timer

    def cancel_calls(self, fn: Callable[..., Any] | None = None) -> None:
        """Withdraw the calls asked for with :meth:`call_later`: those of ``fn``, or all."""
        for timer in list(self._delayed):
            if fn is None or timer.fn == fn:
                timer.invalidate()

    def executor(self) -> LoopExecutor:
        """A new ``concurrent.futures`` executor that makes its calls on this loop."""
        return LoopExecutor(self)

    # For the modules of this package, and for ports.

    def _add(self, item: Item, mode: str) -> None:
        self._check_alive()
        self._table.add(item, check_mode_name(mode))
        if self._ended:
            # The thread ended meanwhile, perhaps before this item was there to be cancelled.
            self._table.remove_everywhere(item)
            raise self._ended_error()

    def _forget(self, item: Item) -> None:
        """Take an invalid item out of every mode. Nothing in a fork: these are the parent's."""
        if self._generation == _fork.generation:
            self._table.remove_everywhere(item)

    def _forget_port(self, port: Schedulable) -> None:
        item = self._ports.pop(port, None)
        if item is not None:
            item.invalidate()

    def _forget_unused(self, item: PortItem) -> None:
        with self._lock:
            if not (item._loops or item.adding) and self._ports.get(item.port) is item:
                del self._ports[item.port]

    def _ready_slot(self, port: Schedulable, mode: str) -> ReadySlot:
        """A place for the port in the ready queue of a mode it is being scheduled in."""
        return ReadySlot(port, self._table.ensure(mode), self._waiter)

    def _poller(self, mode: Mode) -> Poller:
        """The mode's poller, made with its first descriptor; a sleeping loop changes over to it."""
        if mode.poller is None:
            poller = new_poller()
            poller.register(self._waiter.read_fd, READ)
            mode.poller = poller
            self._look_again(mode)
        return mode.poller

    def _has_items(self, mode: str) -> bool:
        """Whether there is something in the mode to run for."""
        found = self._table.modes.get(mode)
        return found is not None and found.alive > 0

    def _look_again(self, mode: Mode) -> None:
        """What the loop sleeps for in ``mode`` changed: have it look, without making a pass."""
        if self._waiter.armed is mode:
            self._waiter.ring()
        if mode.bell is not None:
            mode.bell.ring()

    def _move_timer(self, timer: Timer, date: float) -> None:
        self._check_fork()
        with self._lock:
            timer._set_fire_date(date)
            modes = timer._requeue()
        for mode in modes:
            self._look_again(mode)

    def _run_until(self, mode: str, timeout: float | None, awaited: Awaited) -> None:
        """Run ``mode`` until ``awaited`` is done or the time is over, even if it is empty."""
        self._check_thread("request(reply_mode=…)")
        deadline = self._deadline(timeout)
        engine.run(self, Activation(self._table.ensure(mode), deadline, awaited=awaited))

    def _put(self, block: Block, *, wake: bool) -> None:
        self._check_fork()
        self._blocks.put(block)
        if self._ended and block.claim():
            # Whoever ended the loop either saw this block, and claimed it, or left it to us.
            raise self._ended_error()
        if wake:
            self.wake_up()

    def _report(self, message: str, exception: BaseException | None, source: Any) -> None:
        context: _report.ErrorContext = {
            "message": message,
            "exception": exception,
            "source": source,
        }
        _tally.errors_reported.add()
        handler = self.exception_handler
        if handler is None:
            _report.log(context)
            return
        try:
            handler(self, context)
        except Exception as error:
            _report.log(
                {
                    "message": "the exception handler itself raised; what it was given follows",
                    "exception": error,
                    "source": handler,
                }
            )
            _report.log(context)

    def _end(self, *, callouts: bool) -> None:
        """The thread ends (R57): fail what waits, cancel what is scheduled, close.

        Args:
            callouts: whether this is the loop's own thread, on which callbacks may run.
        """
        if self._ended or self._generation != _fork.generation:
            return
        self._ended = True
        if callouts:
            error = self._ended_error()
            for block in self._blocks.take_all():
                block.abandon(error)
            for item in self._table.all_items():
                try:
                    item._loop_ended(self)
                except BaseException as failure:  # there is no run that it could leave
                    self._report("a cancel callout raised", failure, item)
        self._ports.clear()
        self._delayed.clear()
        for mode in list(self._table.modes.values()):
            mode.close()

    def _forked(self) -> None:
        """This is a forked child: the pipe that signals ring, if they do, is closed here."""
        if self._catches_signals:
            signal.set_wakeup_fd(-1)

    def _ended_error(self) -> LoopEndedError:
        return LoopEndedError(
            f"the run loop of thread {_thread.thread_name(self.ident)} has ended with its thread"
        )

    def _check_fork(self) -> None:
        if self._generation != _fork.generation:
            raise LoopEndedError(
                "this run loop was made before the process was forked: use RunLoop.current() in "
                "the child"
            )

    def _check_alive(self) -> None:
        self._check_fork()
        if self._ended:
            raise self._ended_error()

    def _check_thread(self, what: str) -> None:
        self._check_alive()
        if get_ident() != self.ident:
            raise WrongThreadError(
                f"{what} was called on thread {_thread.thread_name(get_ident())}, but this is the "
                f"run loop of thread {_thread.thread_name(self.ident)}; only that thread runs it. "
                "From here use perform() or perform_and_wait()"
            )

    def _check_mode(self, name: str) -> None:
        if check_mode_name(name) == COMMON_MODES:
            raise ValueError(
                "COMMON_MODES stands for a set of modes and cannot be run; run DEFAULT_MODE, or "
                "another mode made common with add_common_mode()"
            )

    def _runnable(self, name: str) -> Mode | None:
        """The mode, if it is there and not empty (R1, R2)."""
        self._check_thread("running a mode")
        self._check_mode(name)
        mode = self._table.ensure(name)
        return mode if mode.alive or self._blocks.has_any(mode) else None

    def _deadline(self, timeout: float | None) -> float:
        check_timeout(timeout)
        if timeout is None:
            return math.inf
        if timeout <= 0:
            return engine.POLL_ONCE
        return math.inf if timeout > LONGEST_TIMEOUT else clock.now() + timeout


def _after_fork_in_child() -> None:
    RunLoop._creation_lock = Lock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)
