"""MessagePort: its name, what it is reached by, and its end; between real processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from portkit import (
    InvalidPortError,
    MessagePort,
    NameInUseError,
    NameNotFoundError,
    Port,
    connect_port,
    open_port,
)
from portkit.message import Sender
from portkit_transports.message.host import host
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.message import named
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.ended import AT_ONCE, Ended
from tests.transports.processes.roles import Do

pytestmark = pytest.mark.usefixtures("folder")


class TestNames:
    def test_a_port_is_found_by_its_name(self, child: Child) -> None:
        answer = MessagePort.remote("them").request(msgid=Do.WHO)
        assert answer.data == b"%d" % child.pid

    def test_a_port_is_found_by_its_address(self, child: Child) -> None:
        answer = connect_port("message:them").request(msgid=Do.WHO)
        assert answer.data == b"%d" % child.pid

    def test_a_child_finds_ours(self, child: Child, loop: LoopThread) -> None:
        with open_port("message:us", Recorder(b"here")) as port:
            assert str(port.address) == "message:us"
            loop.loop.add_port(port)
            assert child.call(roles.ask, "us") == b"here"

    def test_messages_say_whose_they_are(self, child: Child, loop: LoopThread) -> None:
        """As the kernel knows it: whoever connected, and whoever listens."""
        seen = Recorder(b"")
        with MessagePort("us", seen) as port:
            loop.loop.add_port(port)
            child.call(roles.ask, "us")
        expected = Sender(child.pid, os.getuid())
        assert seen.messages[0].sender == expected
        assert MessagePort.remote("them").request(msgid=Do.WHO).sender == expected

    def test_a_thousand_ports_of_one_process(self, child: Child, loop: LoopThread) -> None:
        """One link, and no descriptor for each."""
        child.call(roles.open_many, "many", 1000)
        remotes = [MessagePort.remote(f"many {number}") for number in range(1000)]
        for number, remote in enumerate(remotes):
            remote.send(b"%d" % number, msgid=Do.KEEP, timeout=PATIENCE)
        for number in (0, 499, 999):
            assert remotes[number].request(msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"2"
        assert len(host().node.links) == 1
        child.kill()
        assert eventually(lambda: not any(remote.is_valid for remote in remotes))

    @pytest.mark.parametrize(
        "name", [" ", "a b", "a/b", "..", "ÄÖ\u202e", "Nul", "x" * 1024, "ä" * 512, "A", "a"]
    )
    def test_odd_names(self, child: Child, name: str) -> None:
        child.call(roles.open_port, name)
        remote = MessagePort.remote(name)
        assert remote.request(b"odd", msgid=Do.ECHO).data == b"odd"
        with pytest.raises(NameInUseError):
            MessagePort(name)

    @pytest.mark.parametrize("name", ["", "x" * 1025, "a\0b", "\udc80"])
    def test_what_can_be_no_name(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            MessagePort(name)
        with pytest.raises(ValueError, match="name"):
            MessagePort.remote(name)

    def test_capital_letters_are_others(self, child: Child) -> None:
        with MessagePort("Them") as port:
            assert port.name == "Them"
            assert MessagePort.remote("them").request(msgid=Do.WHO).data == b"%d" % child.pid

    def test_an_unknown_name(self) -> None:
        remote = MessagePort.remote("nobody")
        with pytest.raises(NameNotFoundError, match="nobody"):
            remote.send(b"")
        with pytest.raises(NameNotFoundError, match="nobody"):
            remote.request(b"")

    def test_a_handle_works_once_there_is_an_owner(self, child: Child) -> None:
        early = MessagePort.remote("later")
        with pytest.raises(NameNotFoundError):
            early.send(b"")
        child.call(roles.open_port, "later")
        assert early.request(b"now", msgid=Do.ECHO).data == b"now"

    def test_a_handler_waits_for_an_owner_too(self, child: Child, loop: LoopThread) -> None:
        """Nobody was there yet, so nobody has ended."""
        early = MessagePort.remote("later")
        ended = Ended(early, loop)
        child.call(roles.open_port, "later")
        assert early.request(b"now", msgid=Do.ECHO).data == b"now"
        assert not ended.calls
        child.kill()
        assert ended.wait()
        assert ended.calls == [early]

    def test_a_name_in_use(self, child: Child) -> None:
        with pytest.raises(NameInUseError, match=str(child.pid)):
            MessagePort("them")
        with MessagePort("us"):
            with pytest.raises(NameInUseError, match="this process"):
                MessagePort("us")
            with pytest.raises(NameInUseError):
                child.call(roles.open_port, "us")

    def test_a_stopped_process_keeps_its_name(self, child: Child) -> None:
        child.stop()
        with pytest.raises(NameInUseError):
            MessagePort("them")

    def test_an_invalid_ports_name_is_free(self, child: Child) -> None:
        child.call(roles.invalidate, "them")
        with MessagePort("them"), pytest.raises(NameInUseError):
            child.call(roles.open_port, "them")
        child.call(roles.open_port, "them")

    def test_a_killed_processs_name_is_free(self, child: Child) -> None:
        child.kill()
        with MessagePort("them") as port:
            assert port.name == "them"

    def test_without_a_name(self, child: Child, loop: LoopThread) -> None:
        """It gets about in messages."""
        seen = Recorder()
        with MessagePort(delegate=seen) as port:
            assert (port.name, port.address) == (None, None)
            loop.loop.add_port(port)
            remote = MessagePort.remote("them")
            answer = remote.request([b"?", port], msgid=Do.ASK, reply_timeout=PATIENCE)
            assert answer.data == b""
            assert seen.data == [b"?"]


class TestRenaming:
    """M7."""

    def test_who_came_by_the_old_name_sees_the_end(self, child: Child, loop: LoopThread) -> None:
        old = MessagePort.remote("them")
        ended = Ended(old, loop)
        assert old.request(b"1", msgid=Do.ECHO).data == b"1"
        child.call(named.rename, "them", "they")
        assert ended.wait()
        with pytest.raises(InvalidPortError):
            old.send(b"", msgid=Do.KEEP)
        with pytest.raises(NameNotFoundError):
            MessagePort.remote("them").send(b"")
        assert MessagePort.remote("they").request(b"2", msgid=Do.ECHO).data == b"2"

    def test_rights_that_were_sent_stay(self, child: Child, loop: LoopThread) -> None:
        door = Recorder()
        with MessagePort("door", door) as port:
            loop.loop.add_port(port)
            child.call(roles.send_here, "door", "them")
            assert door.wait(1)
            (sent,) = door.messages[0].ports
            child.call(named.rename, "them", "they")
            assert sent.request(b"still", msgid=Do.ECHO).data == b"still"

    def test_a_taken_name_changes_nothing(self, child: Child) -> None:
        remote = MessagePort.remote("them")
        remote.send(b"1", msgid=Do.KEEP)
        with MessagePort("taken") as mine:
            for name in ("taken", "them"):
                with pytest.raises(NameInUseError):
                    child.call(named.rename, "them", name)
            with pytest.raises(NameInUseError):
                mine.set_name("taken")
            with pytest.raises(NameInUseError):
                mine.set_name("them")
            assert mine.name == "taken"
        assert remote.request(b"2", msgid=Do.KEEP).data == b"2"

    def test_in_the_owners_process(self, loop: LoopThread) -> None:
        with MessagePort("us") as port:
            remote = MessagePort.remote("us")
            ended = Ended(remote, loop)
            remote.send(b"")
            port.set_name("we")
            assert ended.wait()
            with pytest.raises(InvalidPortError, match="us"):
                remote.send(b"")
            MessagePort.remote("we").send(b"")

    def test_taking_the_name_away(self, child: Child, loop: LoopThread) -> None:
        remote = MessagePort.remote("them")
        ended = Ended(remote, loop)
        child.call(named.rename, "them", None)
        assert ended.wait()
        with MessagePort("them"):
            pass

    def test_an_invalid_port_takes_no_name(self) -> None:
        port = MessagePort()
        port.invalidate()
        with pytest.raises(InvalidPortError, match="new one"):
            port.set_name("name")


class TestHandles:
    def test_know_their_name(self, child: Child) -> None:
        """M8."""
        remote = MessagePort.remote("them")
        assert (remote.name, str(remote.address)) == ("them", "message:them")

    def test_of_one_process_share_a_link(self, child: Child) -> None:
        child.call(roles.open_port, "also")
        start = Barrier(8)

        def use(name: str) -> None:
            start.wait(PATIENCE)
            MessagePort.remote(name).request(msgid=Do.WHO, reply_timeout=PATIENCE)

        for thread in [Background(partial(use, name)) for name in ("them", "also") * 4]:
            thread.result()
        assert len(host().node.links) == 1

    def test_say_where_they_lead(self, child: Child) -> None:
        handle = MessagePort.remote("them")
        assert handle.name == "them"
        assert str(handle.address) == "message:them"
        assert "'them'" in repr(handle)
        with MessagePort("door") as door:
            child.call(roles.send_here, "door", "them")
            (came,) = door.receive(PATIENCE).ports
        assert came.name is None
        assert came.address is None
        assert f"of process {child.pid}" in repr(came)
        handle.invalidate()
        assert handle.name == "them"


ENDS: dict[str, Callable[[Child], object]] = {
    "killed": lambda child: child.kill(),
    "renamed": lambda child: child.call(named.rename, "them", "they"),
    "unnamed": lambda child: child.call(named.rename, "them", None),
}


class TestEnds:
    @pytest.mark.parametrize("how", ENDS.values(), ids=list(ENDS))
    @pytest.mark.parametrize("used", [True, False])
    def test_a_remote_learns_of_it_at_once(
        self, child: Child, loop: LoopThread, how: Callable[[Child], object], used: bool
    ) -> None:
        """The rest of these is in ``processes``; but who only waits for the end is told too."""
        remote = MessagePort.remote("them")
        ended = Ended(remote, loop)
        if used:
            assert remote.request(msgid=Do.WHO).data == b"%d" % child.pid
        how(child)
        assert ended.wait(AT_ONCE)
        assert ended.calls == [remote]
        assert not remote.is_valid
        with pytest.raises(InvalidPortError) as caught:
            remote.send(b"", msgid=Do.KEEP)
        assert caught.value.code == -3

    def test_the_name_is_free_when_the_handler_runs(self) -> None:
        """M15: invalid, then the name free, then the handlers."""
        port = MessagePort("us")
        seen: list[tuple[bool, str | None]] = []

        def handler(ended: Port) -> None:
            with MessagePort("us") as successor:
                seen.append((ended.is_valid, successor.name))

        port.add_invalidation_handler(handler)
        port.invalidate()
        port.invalidate()
        assert seen == [(False, "us")]

    def test_dropped_with_a_name(self, child: Child) -> None:
        """The name is free, and the owner is told to invalidate."""
        with pytest.warns(ResourceWarning, match="invalidate"):
            MessagePort("dropped")
        assert eventually(lambda: "dropped" not in host().directory.names())
        child.call(roles.open_port, "dropped")

    def test_a_process_that_ends_leaves_nothing(self, child: Child, folder: Path) -> None:
        assert child.end() == 0
        assert not [path.name for path in folder.iterdir() if path.name != "lock"]

    def test_many_names_one_socket(self, folder: Path) -> None:
        with ExitStack() as stack:
            for number in range(20):
                stack.enter_context(MessagePort(f"port {number}"))
            assert len(list(folder.glob("*.sock"))) == 1
        assert not list(folder.glob("*.sock"))
        assert not list(folder.glob("name.*"))
