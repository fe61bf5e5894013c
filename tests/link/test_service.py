"""The service thread: there while a link or a listener needs it."""

from __future__ import annotations

import gc
import os
import threading
from threading import Thread

import pytest

from portkit import InvalidPortError, MachPort, RunLoop
from portkit.link import service
from portkit.link.patience import Patience
from tests.link.helpers import Pair
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, Reports, eventually, run_on_thread


def threads() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "portkit service"]


def test_none_without_links() -> None:
    assert service.loop() is None
    with MachPort() as port:
        port.send(b"x")
        assert not threads()


def test_one_for_all_links_and_none_after_them() -> None:
    with Pair(), Pair():
        assert len(threads()) == 1
    assert service.loop() is None
    assert eventually(lambda: not threads())


def test_it_comes_again() -> None:
    for _ in range(5):
        with Pair() as pair, MachPort() as port:
            pair.open(port).send(b"x")
            assert port.receive(PATIENCE).data == b"x"
    assert eventually(lambda: not threads())


def test_who_joins_while_it_ends_has_a_thread() -> None:
    """Links that come and go on several threads at once never find themselves unserved."""

    def body() -> None:
        for _ in range(10):
            with Pair() as pair, MachPort() as port:
                pair.open(port).send(b"x")
                assert eventually(lambda p=port: p.pending)  # type: ignore[misc]

    several = [Thread(target=run_on_thread, args=(body,)) for _ in range(3)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert eventually(lambda: not threads())


def test_nothing_is_called_where_there_is_none() -> None:
    service.call(lambda: pytest.fail("nobody is there to call it"))


def test_messages_are_read_while_nobody_waits() -> None:
    with Pair() as pair, MachPort() as port:
        pair.open(port).send(b"x")
        assert eventually(lambda: port.pending == 1)


def test_answers_of_a_loop_reach_who_asks_on_the_other_side() -> None:
    with Pair() as pair, LoopThread() as loop, MachPort(lambda message: message.data) as port:
        loop.call(loop.loop.add_port, port)
        door = pair.open(port)
        for number in range(50):
            body = str(number).encode()
            assert door.request(body, reply_timeout=PATIENCE).data == body
        loop.call(loop.loop.remove_port, port)


def test_a_loop_that_ends_hands_reading_over() -> None:
    """Its ports end with it; those of other threads go on over the same link."""
    with Pair() as pair, MachPort() as other:
        port = MachPort()
        with LoopThread() as loop:
            loop.call(loop.loop.add_port, port)
            door = pair.open(port)
            port.delegate = lambda message: None
            door.request(b"x", reply_timeout=PATIENCE)
        assert eventually(lambda: not door.is_valid), "the loop has ended, and its port with it"
        pair.open(other).send(b"still")
        assert eventually(lambda: other.pending == 1)


def test_waiting_threads_hand_reading_over_to_each_other() -> None:
    with Pair() as pair, LoopThread() as loop, MachPort() as port:
        kept: list[object] = []

        def defer(message: object) -> None:
            message.defer()  # type: ignore[attr-defined]
            kept.append(message)

        port.delegate = defer
        loop.call(loop.loop.add_port, port)
        door = pair.open(port)
        answers: list[bytes | None] = []
        askers = [
            Thread(target=lambda: answers.append(door.request(b"?", reply_timeout=PATIENCE).data))
            for _ in range(8)
        ]
        for thread in askers:
            thread.start()
        assert eventually(lambda: len(kept) == 8)
        for message in kept:  # in the order in which they came: the reader is the first to go
            message.reply(b"!")  # type: ignore[attr-defined]
        for thread in askers:
            thread.join(PATIENCE)
        assert answers == [b"!"] * 8
        kept.clear()
        loop.call(loop.loop.remove_port, port)


def test_a_forked_child_has_neither_thread_nor_links() -> None:
    with Pair() as pair, MachPort() as port:
        door = pair.open(port)
        door.send(b"x")
        assert port.receive(PATIENCE).data == b"x"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert service.loop() is None
                with pytest.raises(InvalidPortError, match="fork"):
                    door.send(b"from the child")
                with Pair() as own, MachPort() as fresh:
                    own.open(fresh).send(b"own")
                    assert fresh.receive(PATIENCE).data == b"own"
                del door, port, pair
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        door.send(b"parent")
        assert port.receive(PATIENCE).data == b"parent"


class Gathers:
    """Has something to write just after it was looked at."""

    def __init__(self) -> None:
        self.looked_at = 0

    def flush_gathered(self) -> bool:
        self.looked_at += 1
        if self.looked_at == 1:
            service.flush_soon(self)
        return False


def test_what_is_gathered_while_others_are_looked_at_is_not_forgotten() -> None:
    link = Gathers()
    service.join(link)
    try:
        service.flush_soon(link)
        assert eventually(lambda: link.looked_at == 2)
    finally:
        service.leave(link)


def test_a_thread_that_sends_now_and_then_and_never_waits() -> None:
    with Pair() as pair, MachPort() as port:
        door = pair.open(port)
        for number in range(1, 21):
            door.send(b"x")
            assert eventually(lambda n=number: port.pending == n, 5.0)  # type: ignore[misc]
            this = service._service
            assert this is not None
            assert eventually(lambda s=this: not s.gathering)  # type: ignore[misc]


def test_an_interrupted_call_is_made_again_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises there does not leave all links unwritten, and unread."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with Pair() as pair, MachPort() as port:
        handle = pair.open(port)
        running = service._service
        assert running is not None
        assert eventually(lambda: not (running._flushing or running._looking))
        with monkeypatch.context() as patch:
            patch.setattr(RunLoop, "perform", interrupted)
            with pytest.raises(KeyboardInterrupt):
                service.flush_soon(pair.left)
            with pytest.raises(KeyboardInterrupt):
                service.look_after(pair.left.reading)
        service.look_after(pair.left.reading)
        for _ in range(10):
            handle.send(b"x")
        assert eventually(lambda: port.pending == 10 and not running._looking)


def test_at_exit_all_peers_that_take_nothing_cost_one_wait() -> None:
    """And each has its turn."""

    class Stuck:
        def linger(self, patience: Patience) -> None:
            waits.append(patience.left)
            threading.Event().wait(patience.left)

        def finish(self) -> bool:
            return False

    waits: list[float] = []
    clients = [Stuck() for _ in range(5)]
    for client in clients:
        service.join(client)
    try:
        service._linger()
    finally:
        for client in clients:
            service.leave(client)
    assert len(waits) == 5
    assert all(waits)
    assert sum(waits) < 2.0


def test_at_exit_a_link_that_fails_takes_no_other_with_it(reports: Reports) -> None:
    class Failing:
        def linger(self, patience: Patience) -> None:
            pass

        def finish(self) -> bool:
            return True

        def await_end(self, patience: Patience) -> None:
            awaited.append(self)
            raise error

    error = ValueError("its descriptor was closed meanwhile")
    awaited: list[Failing] = []
    clients = [Failing(), Failing()]
    for client in clients:
        service.join(client)
    try:
        service._linger()
    finally:
        for client in clients:
            service.leave(client)
    assert set(awaited) == set(clients)
    assert reports.take() == [error, error]


def test_for_a_foreign_loop_it_reads_as_soon_as_no_other_thread_does() -> None:
    """It could not read the link itself, and its messages need not wait for a moment."""
    with Pair() as pair, MachPort(lambda message: None) as port, MachPort() as desk:
        away = pair.across(desk)  # on the right
        handle = pair.open(port)
        port.fileno()
        handle.send(b"settles it")
        assert eventually(lambda: port.pending)
        answering = Background(lambda: desk.receive(PATIENCE).reply(b"!"))
        assert away.request(b"?", reply_timeout=PATIENCE).data == b"!"
        answering.result()
        assert pair.right.reading._reader is pair.right.service_source
