"""Payloads as messages and answers, within a process, by name and over TCP."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from portkit import (
    InvalidPayloadError,
    MachPort,
    PortMessage,
    ReplyDroppedError,
    SendTimeoutError,
)
from portkit.typed import Payload, Router
from tests.ports.helpers import Recorder
from tests.support import PATIENCE, Reports, eventually
from tests.transports.test_behaviour import World
from tests.typed.models import (
    Anything,
    Handover,
    Job,
    Login,
    Result,
    answered,
    hash_file,
    reported,
)


def test_requests_and_answers(world: World) -> None:
    port = world.served(hash_file)
    assert port.request(Job(path="/a"), reply=Result) == Result(path="/a", size=2)
    answer = port.request(Job(path="/abc"))
    assert answer.msgid == 8
    assert Result.from_message(answer).size == 4


def test_long_fields(world: World) -> None:
    """From 256 KiB on the encoded fields themselves lie out of line, where that can be."""
    port = world.served(hash_file)
    path = "/a" * 300_000
    assert port.request(Job(path=path), reply=Result) == Result(path=path, size=600_000)
    router = Router()
    router.on(Job)(lambda job: None)
    with pytest.raises(InvalidPayloadError, match="Job: 1200011 bytes are over its codec's limit"):
        world.served(router).request(b'{"path":"' + b"a" * 1_200_000 + b'"}', msgid=7)


def test_answers_by_hand(world: World) -> None:
    def later(message: PortMessage) -> None:
        message.defer()
        message.reply(hash_file(message))

    assert world.served(later).request(Job(path="/a"), reply=Result).size == 2


def test_one_way(world: World) -> None:
    port = world.port()
    handle = world.handle(port)
    handle.send(Job(path="/a"))
    assert handle.send_many([Job(path="/b"), b"raw", Result(path="/c", size=1)]) == 3
    PortMessage(handle, components=Job(path="/d")).send()
    handle.send_many([PortMessage(components=Job(path="/e"))])
    got = [port.receive(PATIENCE) for _ in range(6)]
    assert [message.msgid for message in got] == [7, 7, 0, 8, 7, 7]
    jobs = [Job.from_message(message).path for message in got if message.msgid == 7]
    assert jobs == ["/a", "/b", "/d", "/e"]


def test_a_payload_is_no_list_of_messages(world: World) -> None:
    handle = world.handle(world.port())
    with pytest.raises(TypeError, match="send_many takes an iterable of messages"):
        handle.send_many(Job(path="/a"))  # type: ignore[arg-type]


def test_body_is_the_payload_once_its_type_is_known(world: World) -> None:
    port = world.port()
    job = Job(path="/a")
    world.handle(port).send(job)
    message = port.receive(PATIENCE)
    message.expect(Job)
    assert message.body == job
    assert message.body is message.body


def test_answers_of_another_type(world: World) -> None:
    port = world.served(answered)
    with pytest.raises(InvalidPayloadError, match="message 0 is no Result, which is 8"):
        port.request(b"raw", reply=Result)
    wrong = world.served(lambda message: Job(path="/a"))
    with pytest.raises(InvalidPayloadError, match="message 7 is no Result, which is 8"):
        wrong.request(Job(path="/a"), reply=Result)
    nothing = world.served(lambda message: None)
    with pytest.raises(InvalidPayloadError, match="message 0 is no Result"):
        nothing.request(Job(path="/a"), reply=Result)


def test_a_reply_type_is_a_payload(world: World) -> None:
    recorder = Recorder()
    port = world.served(recorder)
    wrong: Any
    for wrong in (int, Result(path="/a", size=1), "Result", BaseModel):
        with pytest.raises(TypeError, match="reply must be a Payload class"):
            port.request(Job(path="/a"), reply=wrong)
    port.request(Job(path="/a"))
    assert len(recorder.messages) == 1, "those that failed were not sent"


def test_delegates_that_answer_garbage(world: World, reports: Reports) -> None:
    port = world.served(lambda message: {"size": 3})
    with pytest.raises(ReplyDroppedError):
        port.request(Job(path="/a"), reply=Result)
    error = reported(reports)
    assert isinstance(error, TypeError)


def test_answers_that_cannot_be_encoded(world: World, reports: Reports) -> None:
    """Between processes the receiver has the error; within one the answer needs no encoding."""
    port = world.served(lambda message: Anything(value=object()))
    if isinstance(port, MachPort):
        assert isinstance(port.request(Job(path="/a"), reply=Anything).value, object)
        return
    with pytest.raises(ReplyDroppedError):
        port.request(Job(path="/a"), reply=Anything)
    error = reported(reports)
    assert isinstance(error, InvalidPayloadError)


def test_a_payload_that_cannot_be_encoded_is_not_sent(world: World) -> None:
    """Within a process nobody need encode it; then whoever looks at the bytes has the error."""
    port = world.port()
    handle = world.handle(port)
    unencodable = Anything(value=object())
    if handle is port:
        handle.send(unencodable)
        message = port.receive(PATIENCE)
        assert message.body is unencodable
        with pytest.raises(InvalidPayloadError, match="Anything cannot be encoded"):
            _ = message.data
        return
    with pytest.raises(InvalidPayloadError, match="Anything cannot be encoded: Unable to ser"):
        handle.send(unencodable)
    handle.send(b"next")
    assert port.receive(PATIENCE).data == b"next"


def test_the_same_payload_to_many(world: World) -> None:
    job = Job(path="/a")
    ports = [world.port() for _ in range(30)]
    for port in ports:
        world.handle(port).send(job, timeout=PATIENCE)
    assert all(Job.from_message(port.receive(PATIENCE)) == job for port in ports)


def test_the_same_payload_to_a_thousand_ports() -> None:
    job = Job(path="/a")
    ports = [MachPort() for _ in range(1000)]
    for port in ports:
        port.send(job)
    assert all(port.receive(0).body is job for port in ports)


def test_the_same_payload_again_and_again(world: World) -> None:
    port = world.served(hash_file)
    job = Job(path="/a")
    for _ in range(50):
        assert port.request(job, reply=Result).size == 2


def test_what_is_changed_after_it_was_sent(world: World) -> None:
    """It was encoded when it was sent. Within a process it is the same object: leave it alone."""

    class Basket(Payload, msgid=41):
        items: list[str]

    port = world.port()
    handle = world.handle(port)
    basket = Basket(items=["a"])
    handle.send(basket)
    basket.items.append("b")
    received = Basket.from_message(port.receive(PATIENCE))
    assert received.items == (["a", "b"] if handle is port else ["a"])


class TestWithinAProcess:
    def test_the_very_object_arrives(self) -> None:
        port = MachPort()
        login = Login.model_validate({"user": "me", "password": "hush"})
        port.send(login)
        message = port.receive(0)
        assert message.body is login
        assert Login.from_message(message) is login

    def test_as_another_class_of_that_number(self) -> None:
        """What the receiver declares is what it gets."""

        class NewJob(Payload, msgid=7):
            path: str
            urgent: bool = False

        port = MachPort()
        port.send(Job(path="/a"))
        assert NewJob.from_message(port.receive(0)) == NewJob(path="/a")
        port.send(NewJob(path="/a", urgent=True))
        assert Job.from_message(port.receive(0)) == Job(path="/a")

    def test_as_a_subclass(self) -> None:
        class Urgent(Job):
            by: float

        port = MachPort()
        port.send(Urgent(path="/a", by=1))
        received = Job.from_message(port.receive(0))
        assert type(received) is Job
        port.send(Job(path="/a"))
        with pytest.raises(InvalidPayloadError, match="Urgent: by: Field required"):
            Urgent.from_message(port.receive(0))

    def test_its_bytes_are_made_once(self) -> None:
        port = MachPort()
        port.send(Job(path="/a"))
        message = port.receive(0)
        assert message.components is message.components
        assert message.data == b'{"path":"/a","retries":3}'

    def test_raw_delegates_get_the_bytes(self) -> None:
        class Raw:
            def handle_raw_message(self, port: Any, msgid: int, components: Any, reply: Any) -> Any:
                return [b"%d " % msgid, *components]

        with MachPort(Raw()) as port:
            port.send(Job(path="/a"))
            assert port.process() == 1


class TestRelays:
    def test_of_what_came(self, world: World) -> None:
        """Byte for byte: fields that the relay does not know go on too."""
        end = world.served(hash_file)

        def relay(message: PortMessage) -> Any:
            answer = end.request(message.components, msgid=message.msgid)
            return PortMessage(components=answer.components, msgid=answer.msgid).components

        door = world.served(relay)
        answer = door.request(Job(path="/a"))
        assert answer.data == b'{"path":"/a","size":2}'

    def test_of_the_request_itself(self, world: World) -> None:
        end = world.served(hash_file)

        def hand_on(message: PortMessage) -> None:
            end.send(message.components, msgid=message.msgid, reply_port=message.send_port)

        door = world.served(hand_on)
        assert door.request(Job(path="/a"), reply=Result) == Result(path="/a", size=2)

    def test_of_the_payload(self, world: World) -> None:
        end = world.served(hash_file)
        door = world.served(lambda message: end.request(Job.from_message(message), reply=Result))
        assert door.request(Job(path="/a"), reply=Result) == Result(path="/a", size=2)


def test_after_a_time_out_it_is_as_if_nothing_had_been_sent(world: World) -> None:
    """No right was given away, and the payload can be sent again."""
    port = world.port(queue_limit=1)
    handle = world.handle(port)
    handle.send(b"first", timeout=PATIENCE)
    assert eventually(lambda: port.pending)
    handover = Handover(port=MachPort())
    with pytest.raises(SendTimeoutError):
        handle.send(handover, timeout=0)
    assert port.receive(PATIENCE).data == b"first"
    handle.send(handover, timeout=PATIENCE)
    assert Handover.from_message(port.receive(PATIENCE)).port.is_valid
