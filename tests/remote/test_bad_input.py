"""A peer that speaks by hand, and wrongly: it is told so, and the service goes on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from portkit import (
    InvalidPayloadError,
    MachPort,
    Port,
    PortError,
    PortMessage,
    ReplyDroppedError,
)
from portkit.link.local_right import LocalRight
from portkit.link.remote_port import RemotePort
from portkit.remote import Connection
from portkit.remote.messages import Kind
from tests.remote import roles
from tests.remote.desk import Desk
from tests.remote.sides import ByReference, There, connected
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread
BY_REFERENCE_AND_NOT = pytest.mark.parametrize("way", ["mach", "message"], indirect=True)
"""Marks a table of what is read when it has come, whatever carried it."""


def held(port: MachPort) -> Port:
    """The port as one has it that is elsewhere."""
    return RemotePort(LocalRight(port))


class Raw:
    """Calls by hand."""

    def __init__(self) -> None:
        self.root: Port = Here.way.remote("desk").request(b"{}", msgid=Kind.HELLO).ports[0]

    def ask(self, head: bytes, arguments: bytes = b"[{}]", *components: Any) -> PortMessage:
        """What is answered to a call."""
        return self.root.request(
            [head + b"\n" + arguments, *components], msgid=Kind.CALL, reply_timeout=PATIENCE
        )


@pytest.fixture
def raw(there: There) -> Iterator[Raw]:
    """One that was let in, and a service that is as before when the test is over."""
    made = Raw()
    yield made
    with connected() as (_, desk):
        assert desk.add(2, 3) == 5
        assert desk.kept() is None


@BY_REFERENCE_AND_NOT
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b" ",
        b" 1",
        b"add",
        b"add ",
        b"add x",
        b"add -1",
        b"add 1 1",
        b"add 99999",
        b"Add 1",
        b"vanish 1",
        b"__class__ 1",
        b"__init__ 1",
        b"__reduce_ex__ 1",
        b"_notes 1",
        b"_things 1",
        b"add.__call__ 1",
        b"\xff\xfe 1",
        b"add\0 1",
        b"x" * 100_000 + b" 1",
        b"notes\n 1",
    ],
)
def test_what_is_no_method(raw: Raw, head: bytes) -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        raw.ask(head, b'[{"left": 1}]')
    assert len(str(caught.value)) < 2000
    raw.root.send([head + b"\n[{}]"], msgid=Kind.CALL)


@BY_REFERENCE_AND_NOT
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"null", "valid"),
        (b"[]", "required"),
        (b"[{}]", "Desk.add: left: Field required"),
        (b"[{}, {}]", "at most 1 item"),
        (b"[[]]", "an object"),
        (b'[{"left": "many"}]', "left: Input should be a valid integer"),
        (b'[{"left": 1, "middle": 2}]', "Extra inputs"),
        (b'[{"left": {"component": 1}}]', "left"),
        (b'[{"left": 1e400}]', "left"),
        (b"[" * 10_000, "JSON"),
        (b'[{"left": ' + b"[" * 10_000 + b"]" * 10_000 + b"}]", "recursion"),
        (b'[{"left": ' + b"9" * 10_000 + b"}]", "JSON"),
        (b"\xff", "JSON|utf"),
    ],
)
def test_what_are_no_arguments(raw: Raw, arguments: bytes, text: str) -> None:
    with pytest.raises(InvalidPayloadError, match=text):
        raw.ask(b"add 1", arguments)


def test_huge_arguments(raw: Raw) -> None:
    many = b"[{" + b",".join(b'"k%d": 1' % number for number in range(80_000)) + b"}]"
    with pytest.raises(InvalidPayloadError, match="80001 values are not valid"):
        raw.ask(b"add 1", many)


def test_components_that_are_not_there(raw: Raw) -> None:
    for number in (b"0", b"1", b"2", b"-1", b"99", b"1.5", b'"1"', b"null", b"9" * 30):
        for method, field in ((b"echo 1", b"data"), (b"keep 1", b"item"), (b"total 1", b"numbers")):
            with pytest.raises(InvalidPayloadError, match=field.decode()):
                raw.ask(method, b'[{"%b": {"component": %b}}]' % (field, number))


def test_messages_of_other_kinds(raw: Raw) -> None:
    for kind in (0, Kind.HELLO, Kind.NEXT, Kind.FAILURE, Kind.END, 77):
        with pytest.raises(InvalidPayloadError, match="a Desk takes calls"):
            raw.root.request(b"add 1\n[{}]", msgid=kind)
    with pytest.raises(InvalidPayloadError, match="a Desk takes calls"):
        raw.root.request([], msgid=Kind.CALL)
    with MachPort() as port, pytest.raises(InvalidPayloadError, match="a Desk takes calls"):
        raw.root.request([port, b"add 1\n[{}]"], msgid=Kind.CALL)


class TestPorts:
    """Ports that are no objects, where an object is expected."""

    KEEP = b'[{"item": {"component": 1}}]'

    def test_data(self, raw: Raw) -> None:
        with pytest.raises(InvalidPayloadError, match="Input should be a Item"):
            raw.ask(b"keep 1", self.KEEP, b"data")

    def test_the_services_own_door(self, raw: Raw) -> None:
        try:
            raw.ask(b"keep 1", self.KEEP, Here.way.remote("desk"))
        except InvalidPayloadError as error:
            assert "Input should be a Item" in str(error)  # noqa: PT017 - or, by address:
        else:
            raw.ask(b"keep 1", b'[{"item": null}]')

    def test_an_object_of_another_interface(self, raw: Raw) -> None:
        with pytest.raises(InvalidPayloadError, match="Input should be a Item"):
            raw.ask(b"keep 1", self.KEEP, raw.root)

    def test_a_stream_and_the_other_way_round(self, raw: Raw) -> None:
        numbers = raw.ask(b"numbers 1", b'[{"count": 5}]').ports[0]
        with pytest.raises(InvalidPayloadError, match="Input should be a Item"):
            raw.ask(b"keep 1", self.KEEP, numbers)
        try:
            answer = raw.ask(b"total 1", b'[{"numbers": {"component": 1}}]', raw.root)
        except InvalidPayloadError as error:
            assert "numbers: Input should be a iterator" in str(error)  # noqa: PT017 - or:
        else:
            assert b"a Desk takes calls" in self.failing(answer)

    def test_a_reply_port(self, raw: Raw) -> None:
        """The right to answer is used up, by who got it for something else."""
        with LoopThread() as thread, MachPort() as port:
            found: list[Any] = []

            def pass_on(message: PortMessage) -> None:
                try:
                    raw.ask(b"keep 1", self.KEEP, message.send_port)
                except PortError as error:
                    found.append(error)

            port.delegate = pass_on
            thread.loop.add_port(port)
            try:
                assert port.request(b"", reply_timeout=PATIENCE).data == b""
            except ReplyDroppedError:
                pass  # between processes the right goes with the message
            assert eventually(lambda: found)
            assert isinstance(found[0], InvalidPayloadError)

    def test_a_dead_one(self, raw: Raw) -> None:
        port = MachPort()
        port.invalidate()
        raw.ask(
            b"keep 1", self.KEEP, held(port)
        )  # it may have died on its way; its calls will say so
        raw.ask(b"keep 1", b'[{"item": null}]')

    def test_one_that_answers_nonsense(self, raw: Raw) -> None:
        """The service's call fails, and it says so to whoever called it."""
        answers: list[Any] = [b"", b"[]", b'["a"]', [], None]
        with LoopThread() as thread, MachPort(lambda message: answers.pop(0)) as port:
            thread.loop.add_port(port)
            while answers:
                assert b"InvalidPayloadError" in self.call_back(raw, port, answers)

    def test_one_that_raises(self, raw: Raw, reports: Reports) -> None:
        def fail(message: PortMessage) -> None:
            raised.append(message)
            raise OSError("no")

        raised: list[PortMessage] = []
        with LoopThread() as thread, MachPort(fail) as port:
            thread.loop.add_port(port)
            assert b"Error" in self.call_back(raw, port, [])
        assert len(reports.take()) == len(raised)

    def call_back(self, raw: Raw, port: MachPort, answers: list[Any]) -> bytes:
        """What comes of a call that calls a port that is no object's."""
        call = b'[{"listener": {"component": 1}, "times": 1}]'
        try:
            return self.failing(raw.ask(b"call_back 1", call, held(port)))
        except InvalidPayloadError as error:  # within a process that is seen at once
            assert isinstance(Here.way, ByReference)
            answers.clear()
            return repr(error).encode()

    def failing(self, answer: PortMessage) -> bytes:
        """The answer, which is a failure."""
        assert answer.msgid == Kind.FAILURE
        return answer.data or b""


class TestStreams:
    def test_asked_wrongly(self, raw: Raw) -> None:
        numbers = raw.ask(b"numbers 1", b'[{"count": 5}]').ports[0]
        for data in (b"", b"0", b"-1", b"x", b"99999", b"1 ", b"\xff", b"[1]"):
            with pytest.raises(InvalidPayloadError):
                numbers.request(data or [], msgid=Kind.NEXT)
        for kind in (0, Kind.HELLO, Kind.CALL, Kind.END):
            with pytest.raises(InvalidPayloadError, match="an iterator gives its next items"):
                numbers.request(b"1", msgid=kind)
        numbers.send(b"1", msgid=Kind.NEXT)  # nobody would get it
        assert numbers.request(b"9999", msgid=Kind.NEXT).data == b"[[0,1,2,3,4]]"
        del numbers
        gc.collect()

    def test_that_answer_nonsense(self, raw: Raw) -> None:
        answers: list[Any] = [b"[[]]", b"", b"[1]", b'[["a"]]', b'[[1, {"component": 1}]]', []]
        with LoopThread() as thread, MachPort(lambda message: answers.pop(0)) as port:
            thread.loop.add_port(port)
            while answers:
                call = b'[{"numbers": {"component": 1}}]'
                answer = raw.ask(b"total 1", call, held(port))
                assert answer.msgid == Kind.FAILURE
                assert b"InvalidPayloadError" in (answer.data or b"")


class TestAnswers:
    """A service that answers nonsense."""

    def test_of_all_kinds(self) -> None:
        answers: list[tuple[int, list[Any]]] = [
            (Kind.RESULT, [b"x"]),
            (Kind.RESULT, []),
            (Kind.RESULT, [b"[]"]),
            (Kind.RESULT, [b"[1,2]"]),
            (Kind.FAILURE, []),
            (Kind.FAILURE, [b"x"]),
            (Kind.FAILURE, [b'{"type": "a"}']),
            (Kind.END, [b"[1]"]),
            (77, [b"[1]"]),
        ]

        def answer(message: PortMessage) -> None:
            msgid, components = answers.pop(0)
            message.reply(components, msgid=msgid)

        with LoopThread() as thread, MachPort() as door, MachPort(answer) as root:
            right = LocalRight(root)
            door.delegate = lambda message: [b"{}", RemotePort(right)]
            thread.loop.add_port(door)
            thread.loop.add_port(root)
            with Connection.to(door) as connection:
                desk = connection.root(Desk)
                while answers:
                    with pytest.raises(InvalidPayloadError):
                        desk.add(1)

    def test_to_a_greeting(self) -> None:
        answers: list[Any] = [b"", [b"{}"], [], [b"{}", MachPort()]]
        with LoopThread() as thread, MachPort(lambda message: answers.pop(0)) as door:
            thread.loop.add_port(door)
            with Connection.to(door) as connection:
                while answers:
                    with pytest.raises(InvalidPayloadError, match="serves no object"):
                        connection.root(Desk)


def test_floods_of_greetings(there: There) -> None:
    """Those who hold what they get are limited; those who do not, leave nothing."""
    door = Here.way.remote("desk")
    for _ in range(300):
        door.request(b"{}", msgid=Kind.HELLO)
    gc.collect()
    assert eventually(lambda: there.call(roles.connections, "desk") == 0)
    there.call(roles.serve, "small", {"max_connections": 10})
    small = Here.way.remote("small")
    held = [small.request(b"{}", msgid=Kind.HELLO).ports[0] for _ in range(10)]
    for _ in range(50):
        with pytest.raises(PortError, match="come again later"):
            small.request(b"{}", msgid=Kind.HELLO)
    held.clear()
    gc.collect()
    assert eventually(lambda: there.call(roles.connections, "small") == 0)


CALLS = [
    (b'add 1\n[{"left": 1, "right": 2}]', []),
    (b'echo 1\n[{"data": {"component": 1}}]', [b"data"]),
    (b'items 1\n[{"names": ["a", "b"]}]', []),
    (b'keep 1\n[{"item": {"component": 1}}]', [b"data"]),
    (b'numbers 1\n[{"count": 3, "fail": false}]', []),
    (b'fail 1\n[{"how": "plain"}]', []),
]


def damaged(random: Random, data: bytes) -> bytes:
    """The bytes, with some of them changed, left out or doubled."""
    made = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(made) + 1)
        how = random.randrange(4)
        if how == 0:
            made[place : place + 1] = bytes([random.randrange(256)])
        elif how == 1:
            del made[place : place + random.randrange(1, 5)]
        elif how == 2:
            made[place:place] = random.choice([b'"', b"{", b"]", b"\\u0000", b"1e999", b"null"])
        else:
            made[place:place] = made[place : place + random.randrange(1, 9)]
    return bytes(made)


@pytest.mark.parametrize("way", ["mach", "socket"], indirect=True)
def test_damaged_calls(there: There) -> None:
    """Whatever comes is answered, by a result, an exception, or InvalidPayloadError."""
    random = Random(5)
    raw = Raw()
    for _ in range(1000):
        data, components = random.choice(CALLS)
        try:
            answer = raw.root.request(
                [damaged(random, data), *components], msgid=Kind.CALL, reply_timeout=PATIENCE
            )
        except InvalidPayloadError:
            continue
        assert answer.msgid in {Kind.RESULT, Kind.FAILURE}
    with connected() as (_, desk):
        assert desk.add(1) == 2
