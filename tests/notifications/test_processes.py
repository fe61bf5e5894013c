"""Notifications that go from process to process, over every transport."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from portkit import (
    PORT_DID_BECOME_INVALID,
    InvalidPayloadError,
    MachPort,
    Notification,
    NotificationCenter,
    PortError,
    PortMessage,
    RunLoop,
    SendTimeoutError,
)
from portkit.local_port import LocalPort
from portkit.message import Sender as ProvenSender
from portkit.notifications import NotificationReceiver, RemoteNotification, forward
from portkit.notifications.posted import LARGEST, LONGEST_NAME
from portkit.typed import Payload, Router
from tests.notifications import roles
from tests.notifications.helpers import Observer, Sender
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.processes.child import Child
from tests.transports.processes.ways import OverTCP, Way


class Inbound:
    """A port of this process at which notifications arrive."""

    def __init__(self, loop: LoopThread, port: LocalPort, names: list[str] | None = None) -> None:
        self.center = NotificationCenter()
        self.observer = Observer()
        self.center.add_observer(self.observer)
        self.receiver = NotificationReceiver(self.center, names=names)
        self.port = port
        port.delegate = self.receiver
        loop.loop.add_port(port)


@pytest.fixture
def here(loop: LoopThread, way: Way) -> Iterator[Inbound]:
    """One that others reach as "here"."""
    with way.open("here") as port:
        yield Inbound(loop, port)


class TestWhatArrives:
    def test_name_and_user_info(self, child: Child, here: Inbound) -> None:
        info = {
            "text": "häßlich \0 \u2028",
            "number": -1.5,
            "big": 2**70,
            "nothing": None,
            "yes": True,
            "list": [1, [2, {"deep": []}]],
            "": {"": ""},
        }
        child.call(roles.forward_to, "here")
        for user_info in (info, {}, None):
            child.call(roles.post, "Ünïcode", user_info)
        assert here.observer.wait(3)
        got = [notification.user_info for notification in here.observer.notifications]
        assert got == [info, {}, None]
        assert set(here.observer.names) == {"Ünïcode"}

    def test_whose_it_is(self, child: Child, here: Inbound, way: Way) -> None:
        """The sender stands in for that of the other process; the peer is what is proven."""
        theirs = Observer()
        here.center.add_observer(theirs, "a", here.receiver)
        child.call(roles.forward_to, "here")
        child.call(roles.post, "a")
        assert here.observer.wait(1)
        (notification,) = here.observer.notifications
        assert isinstance(notification, RemoteNotification)
        assert notification.sender is here.receiver
        assert theirs.wait(1)
        peer = notification.peer
        assert peer is not None
        if isinstance(way, OverTCP):
            assert peer.host == "127.0.0.1"
            assert bool(peer.names) == (way.tls is not None)
        else:
            assert peer == ProvenSender(child.pid, os.getuid())

    def test_10000_from_four_threads_in_order(self, child: Child, here: Inbound) -> None:
        """None is lost, and those of each poster come in the order of posting."""
        child.call(roles.forward_to, "here")
        child.call(roles.post_numbers, 4, 2500)
        assert here.observer.wait(10000)
        for poster in range(4):
            infos = [notification.user_info or {} for notification in here.observer.notifications]
            numbers = [info["number"] for info in infos if info["poster"] == poster]
            assert numbers == list(range(2500))

    def test_several_processes_to_one(self, child: Child, third: Child, here: Inbound) -> None:
        for other in (child, third):
            other.call(roles.forward_to, "here")
            other.begin(roles.post_numbers, 2, 500)
        for other in (child, third):
            other.result()
        assert here.observer.wait(2000)

    def test_one_to_several(self, child: Child, third: Child, way: Way) -> None:
        center = NotificationCenter()
        with ExitStack() as stack:
            for other, name in ((child, "one"), (third, "two")):
                other.call(roles.receive, name)
                stack.enter_context(forward(way.remote(name), center=center))
            for number in range(100):
                center.post("a", user_info={"number": number})
            for other in (child, third):
                assert eventually(lambda other=other: len(other.call(roles.received)) == 100)  # type: ignore[misc]
        center.post("a")
        assert len(child.call(roles.received)) == 100

    def test_what_came_is_not_sent_back(self, child: Child, here: Inbound, way: Way) -> None:
        """Both forward everything to each other."""
        child.call(roles.receive, "there")
        child.call(roles.forward_to, "here")
        with forward(way.remote("there"), center=here.center):
            here.center.post("ping")
            child.call(roles.post, "pong")
            assert here.observer.wait(2)
            assert eventually(lambda: len(child.call(roles.received)) == 2)
            child.call(roles.post, "last")
            assert here.observer.wait(3)
        assert sorted(here.observer.names) == ["last", "ping", "pong"]


class TestWhichAreSent:
    def test_by_name(self, child: Child, way: Way) -> None:
        center = NotificationCenter()
        child.call(roles.receive, "there")
        with (
            forward(way.remote("there"), "a", center=center),
            forward(way.remote("there"), ["b", "c"], center=center),
        ):
            for name in "abcdabcd":
                center.post(name)
            assert eventually(lambda: len(child.call(roles.received)) == 6)
        assert [name for name, _ in child.call(roles.received)] == list("abcabc")

    def test_by_sender(self, child: Child, way: Way) -> None:
        center, one, two = NotificationCenter(), Sender(), Sender()
        child.call(roles.receive, "there")
        with forward(way.remote("there"), center=center, sender=one):
            center.post("a", one)
            center.post("b", two)
            center.post("c", one)
            assert eventually(lambda: len(child.call(roles.received)) == 2)
        assert [name for name, _ in child.call(roles.received)] == ["a", "c"]

    def test_not_the_ends_of_ports(self, child: Child, way: Way) -> None:
        """They mean something in this process only."""
        child.call(roles.receive, "there")
        with forward(way.remote("there")):
            MachPort().invalidate()
            NotificationCenter.default().post("a")
            assert eventually(lambda: child.call(roles.received))
        assert child.call(roles.received) == [("a", None)]


class TestWhatCannotBeSent:
    @pytest.mark.parametrize(
        ("user_info", "says"),
        [
            ({"secret": {1, 2}}, "user_info.secret: "),
            ({"secret": b"hidden"}, "user_info.secret"),
            ({"secret": ("hidden",)}, "user_info.secret"),
            ({"a": [{"secret": object()}]}, "user_info.a.list.0"),
            ({1: "hidden"}, "a valid string"),
            ({"secret": math.nan}, "finite number"),
            ({"secret": "hidden" * LARGEST}, f"up to {LARGEST} bytes"),
        ],
        ids=["set", "bytes", "tuple", "object", "key", "nan", "large"],
    )
    def test_is_reported_where_it_was_posted(
        self, child: Child, way: Way, reports: Reports, user_info: Any, says: str
    ) -> None:
        center = NotificationCenter()
        other = Observer()
        child.call(roles.receive, "there")
        with forward(way.remote("there"), center=center) as forwarding:
            center.add_observer(other)
            center.post("bad", user_info=user_info)
            center.post("good")
            assert forwarding.is_valid
            assert eventually(lambda: child.call(roles.received))
        (error,) = reports.take()
        assert isinstance(error, InvalidPayloadError)
        assert says in str(error)
        assert "hidden" not in str(error)
        assert other.names == ["bad", "good"]
        assert child.call(roles.received) == [("good", None)]
        assert child.call(roles.invalid, "there") == 0

    def test_a_name_that_is_too_long(self, way: Way, child: Child, reports: Reports) -> None:
        center = NotificationCenter()
        child.call(roles.receive, "there")
        with forward(way.remote("there"), center=center):
            center.post("x" * (LONGEST_NAME + 1))
        (error,) = reports.take()
        assert isinstance(error, InvalidPayloadError)

    def test_for_want_of_room(self, way: Way, loop: LoopThread, reports: Reports) -> None:
        """It is reported, and the next ones are sent when there is room."""
        center = NotificationCenter()
        with way.open("here", queue_limit=2) as port:
            with forward(way.remote("here"), center=center, timeout=0.05):
                posted = 0
                while not reports.records:
                    center.post("a", user_info={"number": posted})
                    posted += 1
                assert [type(error) for error in reports.take()] == [SendTimeoutError]
                inbound = Inbound(loop, port)
                assert inbound.observer.wait(posted - 1)
                center.post("b")
                assert inbound.observer.wait(posted)
            assert inbound.observer.infos("number") == [*range(posted - 1), None]

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"names": ""}, ValueError),
            ({"names": []}, ValueError),
            ({"names": [1]}, TypeError),
            ({"names": PORT_DID_BECOME_INVALID}, ValueError),
            ({"timeout": "1"}, TypeError),
            ({"sender": 5}, TypeError),
        ],
    )
    def test_wrong_arguments(self, options: Any, error: type[Exception]) -> None:
        center = NotificationCenter()
        with pytest.raises(error):
            forward(MachPort(), center=center, **options)
        with pytest.raises(TypeError):
            forward(5, center=center)  # type: ignore[arg-type]
        assert "of 0 observers" in repr(center)

    def test_to_the_sender_of_a_request(self, loop: LoopThread) -> None:
        """Its port takes one answer, and no notifications."""
        center = NotificationCenter()
        errors: list[BaseException] = []

        def subscribe(message: PortMessage) -> None:
            assert message.send_port is not None
            try:
                forward(message.send_port, center=center)
            except PortError as error:
                errors.append(error)

        with MachPort(subscribe) as port:
            loop.loop.add_port(port)
            port.request(reply_timeout=PATIENCE)
        assert len(errors) == 1
        assert "of 0 observers" in repr(center)


class TestWhatIsRefused:
    BAD = (
        b"",
        b"\xff\xfe",
        b"[]",
        b'"a"',
        b"{}",
        b'{"name": ""}',
        b'{"name": 5}',
        b'{"name": "a", "user_info": [1]}',
        b'{"name": "%s"}' % (b"x" * (LONGEST_NAME + 1)),
        b'{"name": "a", "user_info": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{"name": "a", "user_info": {"a": "%s"}}' % (b"x" * LARGEST),
        b'{"name": "a", "user_info": {"a": %s}}' % (b"9" * 5000),
        b'{"name": "PortDidBecomeInvalid"}',
        b'{"name": "unwanted"}',
    )

    def test_does_not_stop_the_receiver(self, child: Child, way: Way) -> None:
        child.call(roles.receive, "there", ["a", "b"])
        remote = way.remote("there")
        for number, data in enumerate(self.BAD):
            with pytest.raises(InvalidPayloadError) as caught:  # on the side that erred
                remote.request(data, msgid=NotificationReceiver.msgid, reply_timeout=PATIENCE)
            assert "xxx" not in str(caught.value)
            remote.send(data, msgid=NotificationReceiver.msgid)
            assert eventually(
                lambda number=number: child.call(roles.invalid, "there") == 2 * number + 2  # type: ignore[misc]
            )
        with pytest.raises(InvalidPayloadError, match="no handler takes message 7"):
            remote.request(b"{}", msgid=7, reply_timeout=PATIENCE)
        with pytest.raises(InvalidPayloadError):
            remote.request((), msgid=NotificationReceiver.msgid, reply_timeout=PATIENCE)
        answer = remote.request(
            b'{"name": "b"}', msgid=NotificationReceiver.msgid, reply_timeout=PATIENCE
        )
        assert answer.data == b""
        assert child.call(roles.received) == [("b", None)]

    def test_no_answer_is_given_to_what_needs_none(self, child: Child, way: Way) -> None:
        """What a newer program says in addition is ignored."""
        child.call(roles.receive, "there")
        way.remote("there").send(
            b'{"name": "a", "urgency": 9}', msgid=NotificationReceiver.msgid, timeout=PATIENCE
        )
        assert eventually(lambda: child.call(roles.received) == [("a", None)])

    @pytest.mark.parametrize("names", [[], [5], "", PORT_DID_BECOME_INVALID])
    def test_names_that_nobody_could_post(self, names: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            NotificationReceiver(names=names)


class TestEnds:
    def test_with_the_other_process(self, child: Child, way: Way) -> None:
        center = NotificationCenter()
        child.call(roles.receive, "there")
        forwarding = forward(way.remote("there"), center=center)
        center.post("a")
        assert eventually(lambda: child.call(roles.received))
        child.kill()
        assert eventually(lambda: not forwarding.is_valid)
        center.post("b")  # at the latest then: this thread's loop does not run
        assert "of 0 observers" in repr(center)
        assert "removed" in repr(forwarding)

    def test_when_it_is_found_at_a_post(self) -> None:
        center = NotificationCenter()
        port = MachPort()
        forwarding = forward(port, center=center)
        port._handlers.clear()  # so that nobody is told of the end
        port.invalidate()
        center.post("a")
        assert not forwarding.is_valid

    def test_removal(self, child: Child, way: Way) -> None:
        center = NotificationCenter()
        child.call(roles.receive, "there")
        forwarding = forward(way.remote("there"), center=center)
        center.post("a")
        for _ in range(2):
            forwarding.remove()
        center.post("b")
        with forward(way.remote("there"), center=center):
            center.post("c")
        assert eventually(lambda: len(child.call(roles.received)) == 2)
        assert [name for name, _ in child.call(roles.received)] == ["a", "c"]


class TestWithinTheProcess:
    """Where only threads and ports are needed."""

    @pytest.fixture
    def loop(self) -> Iterator[LoopThread]:
        with LoopThread() as thread:
            yield thread

    @pytest.fixture
    def inbound(self, loop: LoopThread) -> Iterator[Inbound]:
        with MachPort() as port:
            yield Inbound(loop, port)

    def test_through_a_port_of_threads(self, inbound: Inbound) -> None:
        center = NotificationCenter()
        info = {"list": [1, 2]}
        with forward(inbound.port, center=center):
            center.post("a", Sender(), info)
            info["list"].append(3)
            assert inbound.observer.wait(1)
        (notification,) = inbound.observer.notifications
        assert isinstance(notification, RemoteNotification)
        assert notification.user_info == {"list": [1, 2]}
        assert notification.peer is None

    def test_sent_by_an_executor_or_a_loop(self, inbound: Inbound) -> None:
        """The poster does not wait for room then."""
        center = NotificationCenter()
        with LoopThread() as sender, ThreadPoolExecutor(2) as executor:
            for place in ({"loop": sender.loop}, {"executor": executor}):
                inbound.observer.notifications.clear()
                with forward(inbound.port, ["a", "b"], center=center, **place):
                    for number in range(3000):
                        center.post("ab"[number % 2], user_info={"number": number})
                    assert inbound.observer.wait(3000)
                assert inbound.observer.infos("number") == list(range(3000))

    @pytest.mark.own_thread
    def test_a_loop_that_would_wait_for_itself(self, reports: Reports) -> None:
        """Its port is full, and only this thread could make room."""
        center, loop = NotificationCenter(), RunLoop.current()
        with MachPort(queue_limit=1) as port:
            loop.add_port(port)
            with forward(port, center=center, timeout=PATIENCE):
                center.post("a")
                center.post("b")
        assert len(reports.take()) == 1

    def test_beside_other_messages(self, loop: LoopThread) -> None:
        class Question(Payload, msgid=1):
            text: str

        center, observer = NotificationCenter(), Observer()
        center.add_observer(observer)
        receiver = NotificationReceiver(center)
        router = Router()
        router.on(msgid=receiver.msgid)(receiver.handle_port_message)

        @router.on(Question)
        def answer(question: Question) -> bytes:
            return question.text.upper().encode()

        posting = NotificationCenter()
        with MachPort(router) as port, forward(port, center=posting):
            loop.loop.add_port(port)
            posting.post("a")
            assert port.request(Question(text="b"), reply_timeout=PATIENCE).data == b"B"
            with pytest.raises(InvalidPayloadError):
                port.request(b"?", msgid=receiver.msgid, reply_timeout=PATIENCE)
            assert observer.names == ["a"]

    def test_subscribing_through_a_port(self, loop: LoopThread, inbound: Inbound) -> None:
        """Whoever wants to know sends a port to forward to."""
        center = NotificationCenter()

        def subscribe(message: PortMessage) -> None:
            for port in message.ports:
                forward(port, center=center)

        with MachPort(subscribe) as office:
            loop.loop.add_port(office)
            office.request([inbound.port], reply_timeout=PATIENCE)
            center.post("a")
            assert inbound.observer.wait(1)
        inbound.port.invalidate()
        assert eventually(lambda: "of 0 observers" in repr(center))

    def test_many_forwarders_to_one_port(self, inbound: Inbound) -> None:
        centers = [NotificationCenter() for _ in range(4)]

        def post(number: int) -> None:
            for _ in range(500):
                centers[number].post("a", user_info={"center": number})

        with ExitStack() as stack:
            for center in centers:
                stack.enter_context(forward(inbound.port, center=center))
            for background in [Background(partial(post, number)) for number in range(4)]:
                background.result()
            assert inbound.observer.wait(2000)

    def test_whole_notifications(self, inbound: Inbound) -> None:
        center = NotificationCenter()
        with forward(inbound.port, center=center):
            center.post(Notification("a", user_info={"number": 1}))
            assert inbound.observer.wait(1)
        assert inbound.observer.infos("number") == [1]
