"""Ports that are handed on from one transport to another: of hosts, to processes of this one."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from portkit import (
    InvalidPortError,
    MachPort,
    MessageTooLargeError,
    Port,
    ReplyDroppedError,
)
from portkit.link.descriptor import Descriptor
from portkit.link.relay import RELAY_WINDOW
from portkit_transports.socket import Limits, TLSConfig
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.message.fresh_host import fresh_host
from tests.transports.processes import bazaar, roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.ended import Ended
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import ByName, Either, OverTCP, Way


@pytest.fixture(params=["socket", "tls"])
def way(
    request: pytest.FixtureRequest, tmp_path: Path, certificates: TLSConfig, no_leftovers: None
) -> Iterator[Way]:
    """Names begin with "tcp" or "unix"."""
    with fresh_host():
        tcp = OverTCP(tmp_path, certificates if request.param == "tls" else None)
        yield Either(tcp=tcp, unix=ByName())


@pytest.fixture(params=["tcp to unix", "unix to tcp"])
def ends(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How the owner of a port is reached, and how the one who is given it."""
    first, _, second = request.param.split()
    return f"{first} door", f"{second} user"


@pytest.fixture
def owner(start: Start) -> Iterator[Child]:
    """Who has a port called "mach"."""
    with start() as child:
        yield child


@pytest.fixture
def user(start: Start, ends: tuple[str, str]) -> Iterator[Child]:
    """Who is given it."""
    with start() as child:
        child.call(roles.open_port, ends[1])
        yield child


@pytest.fixture
def port(way: Way, ends: tuple[str, str], owner: Child, loop: LoopThread) -> Iterator[Port]:
    """The owner's port, as it has come to us."""
    door = Recorder()
    with way.open(ends[0], door) as opened:
        loop.loop.add_port(opened)
        owner.call(roles.offer_mach_port, ends[0], 0, 16)
        assert door.wait(1)
        (port,) = door.messages.pop().ports
        yield port


@pytest.fixture
def given(way: Way, ends: tuple[str, str], port: Port, user: Child) -> Port:
    """The same, once the user has it; a handle to the user's port."""
    remote = way.remote(ends[1])
    (back,) = remote.request([port], msgid=Do.PORT).ports
    assert back == port
    return remote


@pytest.mark.usefixtures("given")
class TestPorts:
    def test_lead_to_their_owner(self, owner: Child, user: Child, ends: tuple[str, str]) -> None:
        assert user.call(roles.ask_kept, ends[1], b"", Do.WHO) == b"%d" % owner.pid
        large = bytes(range(256)) * 20_000
        assert user.call(roles.ask_kept, ends[1], large) == large

    def test_keep_the_order(self, owner: Child, user: Child, ends: tuple[str, str]) -> None:
        user.call(roles.send_to_kept, ends[1], 2000)
        assert user.call(roles.ask_kept, ends[1], b"", Do.KEEP) == b"2001"
        assert owner.call(roles.kept, "mach") == [b"%d" % number for number in range(2000)] + [b""]

    @pytest.mark.parametrize("who", ["port", "owner"])
    def test_end_with_them(self, owner: Child, user: Child, port: Port, who: str) -> None:
        if who == "port":
            owner.call(roles.invalidate, "mach")
        else:
            owner.kill()
        assert eventually(lambda: not port.is_valid)
        (name,) = user.call(roles.names)
        assert eventually(lambda: not user.call(roles.first_is_valid, name))
        with pytest.raises(InvalidPortError):
            user.call(roles.ask_kept, name, b"")

    def test_are_left_when_all_have_let_go(
        self, owner: Child, user: Child, ends: tuple[str, str], port: Port
    ) -> None:
        user.call(roles.drop_ports, ends[1])
        assert port.request(msgid=Do.WHO).data == b"%d" % owner.pid
        assert not owner.call(roles.is_abandoned, "mach")
        port.invalidate()
        assert eventually(lambda: owner.call(roles.is_abandoned, "mach"))

    def test_are_left_when_who_had_them_is_killed(
        self, owner: Child, user: Child, port: Port, ends: tuple[str, str]
    ) -> None:
        port.invalidate()  # our handle: the user's stays
        assert user.call(roles.ask_kept, ends[1], b"on") == b"on"
        assert not owner.call(roles.is_abandoned, "mach")
        user.kill()
        assert eventually(lambda: owner.call(roles.is_abandoned, "mach"))

    def test_answers_that_never_come_fail(
        self, owner: Child, user: Child, ends: tuple[str, str]
    ) -> None:
        user.begin(roles.ask_kept, ends[1], b"", Do.WAIT)
        assert eventually(lambda: owner.call(roles.waiting, "mach"))
        owner.kill()
        with pytest.raises((InvalidPortError, ReplyDroppedError)):
            user.result()


@pytest.mark.parametrize("ends", ["tcp to unix", "unix to tcp"], indirect=True)
def test_the_middle_is_killed(start: Start, way: Way, ends: tuple[str, str], owner: Child) -> None:
    """The owner's port goes to a second process, and from there to us."""
    seen = Recorder()
    with start() as middle, LoopThread() as thread, way.open(ends[1], seen) as desk:
        thread.loop.add_port(desk)
        middle.call(roles.open_port, ends[0])
        owner.call(roles.offer_mach_port, ends[0], Do.PORT)
        middle.call(roles.show_kept, ends[0], ends[1])
        assert seen.wait(1)
        (port,) = seen.messages[0].ports
        assert port.request(msgid=Do.WHO).data == b"%d" % owner.pid
        ended = Ended(port, thread)
        asker = Background(partial(port.request, msgid=Do.WAIT, reply_timeout=None))
        assert eventually(lambda: owner.call(roles.waiting, "mach"))
        middle.kill()
        assert ended.wait()
        with pytest.raises(InvalidPortError):
            asker.result()
        assert eventually(lambda: owner.call(roles.is_abandoned, "mach"))


def test_a_port_that_went_round_in_a_circle(way: Way, start: Start, loop: LoopThread) -> None:
    """Ours, by way of two others back to us: it leads here through both, and ends as one."""
    door, seen, gone = Recorder(), Recorder(b"here"), Recorder()
    with way.open("tcp door", door) as desk, MachPort(seen) as port, start() as one, start() as two:
        loop.loop.add_port(desk)
        loop.loop.add_port(port)
        loop.call(port.add_no_senders_handler, gone)
        one.call(roles.open_port, "tcp one")
        two.call(roles.open_port, "unix two")
        way.remote("tcp one").request([port], msgid=Do.PORT)
        one.call(roles.show_kept, "tcp one", "unix two", Do.PORT)
        two.call(roles.show_kept, "unix two", "tcp door")
        assert door.wait(1)
        (round_trip,) = door.messages.pop().ports
        assert round_trip.request(b"?", reply_timeout=PATIENCE).data == b"here"
        assert seen.data == [b"?"]
        for child, name in ((one, "tcp one"), (two, "unix two")):
            child.call(roles.drop_ports, name)
        assert round_trip.request(b"!", reply_timeout=PATIENCE).data == b"here"
        assert not gone.messages
        del round_trip
        gc.collect()
        assert gone.wait(1)


@pytest.mark.usefixtures("given")
def test_room_is_what_the_owner_gives(owner: Child, user: Child, ends: tuple[str, str]) -> None:
    """Some messages wait at the owner's, some here, and no more; none is lost."""
    user.call(roles.send_to_kept, ends[1], 1)
    owner.stop()
    accepted = user.call(roles.fill_kept, ends[1])
    assert 16 <= accepted <= 16 + RELAY_WINDOW
    owner.signal(signal.SIGCONT)
    assert user.call(roles.ask_kept, ends[1], b"", Do.KEEP) == b"%d" % (accepted + 2)
    kept = owner.call(roles.kept, "mach")[1:-1]
    assert [(data or b"").split()[0] for data in kept] == [b"%d" % n for n in range(accepted)]


class TestRequests:
    @pytest.mark.parametrize("first", ["tcp", "unix"])
    def test_are_answered_by_who_they_were_handed_on_to(
        self, way: Way, start: Start, first: str
    ) -> None:
        """The answer takes the way back through who handed it on."""
        second = {"tcp": "unix", "unix": "tcp"}[first]
        with start() as asked, start() as answering:
            asked.call(roles.open_port, f"{first} asked")
            answering.call(roles.open_port, f"{second} answering")
            answer = way.remote(f"{first} asked").request(
                f"{second} answering".encode(), msgid=Do.FORWARD, reply_timeout=PATIENCE
            )
            assert answer.data == b"%d" % answering.pid

    def test_are_answered_by_way_of_who_asks(
        self, way: Way, ends: tuple[str, str], port: Port, user: Child
    ) -> None:
        """The user hands our request on to the port that we gave, which is reached through us."""
        remote = way.remote(ends[1])
        answer = remote.request([b"round", port], msgid=Do.PASS_ON, reply_timeout=PATIENCE)
        assert answer.data == b"round"


class TestBetweenHosts:
    """What travels on one host only."""

    def test_a_descriptor_is_refused(self, way: Way, start: Start) -> None:
        with start() as child:
            child.call(roles.open_port, "tcp them")
            remote = way.remote("tcp them")
            port = MachPort()
            kept = weakref.ref(port)
            for connected in (False, True):
                with (
                    Descriptor(0) as descriptor,
                    pytest.raises(TypeError, match="another host: a Descriptor cannot"),
                ):
                    remote.send([b"", port, descriptor])
                assert remote.request(msgid=Do.WHO).data == b"%d" % child.pid, connected
            del port
            gc.collect()
            assert kept() is None

    @pytest.mark.parametrize(
        ("ask", "expected"),
        [
            (roles.ask_kept_with_descriptor, TypeError),
            # Of data there may be more where memory is lent.
            (partial(roles.ask_kept_allocated, size=Limits().message + 1), MessageTooLargeError),
        ],
        ids=["descriptor", "large data"],
    )
    def test_what_cannot_be_relayed_is_reported(
        self,
        way: Way,
        start: Start,
        reports: Reports,
        caplog: pytest.LogCaptureFixture,
        *,
        ask: Callable[[str], object],
        expected: type[Exception],
    ) -> None:
        """Who sent it could; who relays it cannot, and says so. The requester is told."""
        with start() as far, start() as near:
            far.call(roles.open_port, "tcp far")
            near.call(roles.open_port, "unix near")
            far_port = way.remote("tcp far")
            far_port.request(msgid=Do.WHO)
            way.remote("unix near").request([far_port], msgid=Do.PORT)
            with pytest.raises(ReplyDroppedError):
                near.call(ask, "unix near")
            (error,) = reports.take()
            assert isinstance(error, expected)
            del error
            caplog.clear()  # what is in the frames of a traceback stays as long as that
            assert near.call(roles.ask_kept, "unix near", b"on") == b"on"

    @pytest.mark.parametrize("size", [1000, 10 << 20])
    def test_lent_memory_arrives_as_a_copy(
        self, given: Port, user: Child, ends: tuple[str, str], size: int
    ) -> None:
        """By one of the two it is lent, by the other one it cannot be."""
        assert user.call(roles.ask_kept_allocated, ends[1], size) == size * b"x"


@pytest.mark.parametrize("seed", range(max(1, int(os.environ.get("PORTKIT_STRESS", "0")) // 40000)))
def test_ports_given_away_at_random(start: Start, seed: int) -> None:
    """Each leads to its owner for as long as it is held, and to nobody afterwards."""
    size, steps = 4, 40
    with ExitStack() as stack:
        traders = [stack.enter_context(start()) for _ in range(size)]
        for index, trader in enumerate(traders):
            trader.call(bazaar.join, index, size, ("tcp", "unix"))
        for index, trader in enumerate(traders):
            trader.call(bazaar.begin, 100 * seed + index, steps)
        for trader in traders:
            assert eventually(partial(trader.call, bazaar.is_over))
            assert not trader.call(bazaar.wrong)
        assert eventually(
            lambda: size == sum(trader.call(bazaar.is_forgotten) for trader in traders)
        )
