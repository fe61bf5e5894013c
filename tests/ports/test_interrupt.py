"""Ctrl-C anywhere: what was taken but not delivered is put back, and the port stays usable."""

from __future__ import annotations

import gc
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import FrameType

import pytest

from portkit import DEFAULT_MODE, MachPort, RunLoop, _thread
from portkit._wakeup import Waiter
from tests.ports.helpers import Background, Recorder, handling, hooked, in_finalizer, interrupt
from tests.support import PATIENCE, eventually

Receive = Callable[[MachPort], None]


def run_loop(port: MachPort) -> None:
    """Passes of this thread's loop, until nothing is left."""
    while port.pending:
        RunLoop.current().run(0)


def process(port: MachPort) -> None:
    """What a foreign event loop does."""
    while select.select([port.fileno()], [], [], 0)[0]:
        port.process()


@pytest.fixture(params=[run_loop, process], ids=["run loop", "foreign loop"])
def receive(request: pytest.FixtureRequest) -> Receive:
    """How the port is served."""
    chosen: Receive = request.param
    return chosen


def serve(port: MachPort, receive: Receive) -> None:
    if receive is run_loop:
        RunLoop.current().add_port(port)
    else:
        port.fileno()


@pytest.fixture
def untraced() -> Iterator[None]:
    """Coverage off: an interrupt in the wrong place would leave its own lock locked for ever."""
    here, elsewhere = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    threading.settrace(elsewhere)
    sys.settrace(here)


def main_waiter() -> Waiter:
    return _thread.main().waiter


def strike_main_when(asleep: Callable[[], bool]) -> None:
    """Send the main thread a signal once it waits."""
    assert eventually(asleep)
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)


@pytest.mark.own_thread
@pytest.mark.parametrize("step", ["getitem", "popleft"])
def test_before_the_delegate_begins_puts_the_message_back(receive: Receive, step: str) -> None:
    delegate = Recorder()
    with MachPort(delegate) as port:
        serve(port, receive)
        port.send_many([b"1", b"2"])
        port._mailbox.queue = hooked(port._mailbox.queue, **{step: interrupt})
        with pytest.raises(KeyboardInterrupt):
            receive(port)
        assert delegate.data == []
        assert port.pending == 2
        receive(port)
        assert delegate.data == [b"1", b"2"]


@pytest.mark.own_thread
def test_before_the_loop_gets_to_the_port_keeps_it_ready() -> None:
    """The loop has taken the port from its ready queue, but not yet looked at it."""
    loop = RunLoop.current()
    delegate = Recorder()
    with MachPort(delegate) as port:
        loop.add_port(port)
        port.send(b"1")
        mode = loop._table.modes[DEFAULT_MODE]
        mode.ready = hooked(mode.ready, popleft=interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run(0)
        loop.run(0)
        assert delegate.data == [b"1"]


@pytest.mark.own_thread
def test_in_the_delegate_takes_the_message_only(receive: Receive) -> None:
    seen: list[bytes | None] = []

    def delegate(message: object) -> None:
        seen.append(getattr(message, "data", None))
        if len(seen) == 1:
            interrupt()

    with MachPort(delegate) as port:
        serve(port, receive)
        port.send_many([b"1", b"2"])
        with pytest.raises(KeyboardInterrupt):
            receive(port)
        receive(port)
    assert seen == [b"1", b"2"]


@pytest.mark.parametrize("step", ["getitem", "popleft"])
def test_in_receive_puts_the_message_back(step: str) -> None:
    with MachPort() as port:
        port.send_many([b"1", b"2"])
        port._mailbox.queue = hooked(port._mailbox.queue, **{step: interrupt})
        with pytest.raises(KeyboardInterrupt):
            port.receive(0)
        assert [port.receive(0).data, port.receive(0).data] == [b"1", b"2"]


def test_receive_can_be_interrupted_while_it_waits() -> None:
    with MachPort() as port, handling(signal.SIGUSR1, interrupt):
        Background(lambda: strike_main_when(lambda: main_waiter().armed is port._mailbox))
        with pytest.raises(KeyboardInterrupt):
            port.receive(PATIENCE)
        port.send(b"later")
        assert port.receive(0).data == b"later"  # nothing of the first call is left


@pytest.mark.parametrize("blocked", [False, True])
def test_a_request_that_is_interrupted_leaves_nothing_behind(blocked: bool) -> None:
    with MachPort(queue_limit=1) as port, handling(signal.SIGUSR1, interrupt):
        if blocked:
            port.send(b"first")
        Background(lambda: strike_main_when(lambda: main_waiter().armed is not None))
        with pytest.raises(KeyboardInterrupt):
            port.request(b"", send_timeout=PATIENCE, reply_timeout=PATIENCE)
        message = port.receive(0)
        if not blocked:
            assert message.send_port is not None
            assert not message.send_port.is_valid  # nobody waits any more
            message.reply(b"late")  # discarded, M10


@pytest.mark.usefixtures("untraced")
def test_a_storm_of_interrupts_loses_and_doubles_nothing() -> None:
    """On the main thread, where signals strike, at whatever instruction it happens to be."""
    count = 3000
    loop = RunLoop.current()
    seen: list[bytes] = []

    def delegate(port: MachPort, msgid: int, components: tuple[bytes, ...], reply: None) -> None:
        seen.append(components[0])

    class Raw:
        handle_raw_message = staticmethod(delegate)

    struck: list[str] = []
    armed = [False]

    def strike(signum: int, frame: FrameType | None) -> None:
        # Once its delegate has begun a message is delivered, whatever happens in there.
        if in_finalizer(frame):
            return
        if armed[0] and frame is not None and frame.f_code is not delegate.__code__:
            armed[0] = False
            struck.append(frame.f_code.co_qualname)
            interrupt()

    def send_all() -> None:
        for number in range(count):
            port.send(b"%d" % number, timeout=None)  # a wake-up that is lost is lost for good

    before = signal.signal(signal.SIGALRM, strike)
    with MachPort(Raw()) as port:
        loop.add_port(port)
        sender = Background(send_all)
        gc.disable()  # what raises in the finalizer of garbage of others is shown as this test's
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        deadline = monotonic() + PATIENCE
        try:
            while len(seen) < count and monotonic() < deadline:
                try:
                    armed[0] = True
                    loop.accept_input(DEFAULT_MODE, 0.05)
                    armed[0] = False
                except KeyboardInterrupt:
                    pass
        finally:
            armed[0] = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.enable()
        loop.run_in_mode(DEFAULT_MODE, 0)  # the last interrupt may have left a run undone
        port.invalidate()
        sender.result()
    assert len(struck) > 10
    assert [int(data) for data in seen] == list(range(count))
