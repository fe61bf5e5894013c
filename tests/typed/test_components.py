"""Fields that travel as components: ports, descriptors, large data, the right to answer."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from portkit import (
    Descriptor,
    InvalidPayloadError,
    MachPort,
    PortError,
    PortMessage,
    ReplyDroppedError,
)
from portkit.typed import Data, Payload, Router
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.test_behaviour import World
from tests.typed.models import (
    Errand,
    Frame,
    Handover,
    Job,
    Login,
    OpenFile,
    Picture,
    Result,
    answered,
    hash_file,
)

MEGABYTE = 1 << 20


class TestFields:
    def test_ports(self, world: World) -> None:
        """They can be sent to at the other end, and the one that goes home is the same again."""
        home = world.port()

        def use(message: PortMessage) -> Handover:
            handover = Handover.from_message(message)
            handover.port.send(Job(path="/from afar"))
            assert isinstance(handover.either, int)
            return Handover(port=handover.more[0], either=handover.port)

        answer = world.served(use).request(Handover(port=home, more=(home,)), reply=Handover)
        assert answer.port == home
        assert answer.either == home
        assert Job.from_message(home.receive(PATIENCE)).path == "/from afar"

    def test_ports_that_have_ended(self, world: World) -> None:
        dead = MachPort()
        dead.invalidate()
        port = world.port()
        world.handle(port).send(Handover(port=dead))
        assert not Handover.from_message(port.receive(PATIENCE)).port.is_valid

    @pytest.mark.parametrize("size", [0, 1, 1000, 300_000, 5 * MEGABYTE])
    def test_data(self, world: World, size: int) -> None:
        port = world.served(answered)
        data = bytes(range(256)) * (size // 256 + 1)
        picture = Picture(name="a", pixels=data[:size])
        answer = port.request(picture, reply_timeout=PATIENCE)
        received = Picture.from_message(PortMessage(components=answer.components, msgid=9))
        assert received == picture

    def test_data_of_any_buffer_is_copied_where_the_payload_is_made(self, world: World) -> None:
        buffer = bytearray(b"first")
        picture, frame = Picture(name="a", pixels=buffer), Frame(pixels=memoryview(buffer))
        buffer[:] = b"other"
        port = world.port()
        handle = world.handle(port)
        handle.send_many([picture, frame])
        assert Picture.from_message(port.receive(PATIENCE)).pixels == b"first"
        assert bytes(Frame.from_message(port.receive(PATIENCE)).pixels) == b"first"

    def test_allocated_views(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        view = handle.allocate(MEGABYTE)
        view[:] = b"x" * MEGABYTE
        handle.send(Frame(pixels=view))
        received = Frame.from_message(port.receive(PATIENCE))
        assert received.pixels == b"x" * MEGABYTE
        view[:2] = b"ab"
        shared = type(handle).__name__ != "RemoteSocketPort"
        assert bytes(received.pixels[:3]) == (b"abx" if shared else b"xxx"), "it is the same memory"

    def test_secrets(self, world: World) -> None:
        port = world.port()
        login = Login.model_validate({"user": "me", "password": "hush", "others": ["a", "b"]})
        world.handle(port).send(login)
        assert Login.from_message(port.receive(PATIENCE)) == login

    def test_more_than_the_link_carries(self, world: World) -> None:
        class Album(Payload, msgid=40):
            pictures: tuple[Data, ...]

        port = world.port()
        handle = world.handle(port)
        album = Album(pictures=(b"x",) * 5000)
        if handle is port:
            handle.send(album)
            assert Album.from_message(port.receive(0)) is album
            return
        with pytest.raises(PortError, match="5001 components is over the peer's limit of 4096"):
            handle.send(album)


class TestDescriptors:
    def test_over_tcp(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        with open("/dev/null") as file, Descriptor(file) as descriptor:  # noqa: PTH123
            payload = OpenFile(file=descriptor)
            if type(handle).__name__ == "RemoteSocketPort":
                with pytest.raises(TypeError, match="leads to another host: a Descriptor cannot"):
                    handle.send(payload)
                return
            handle.send(payload)
            received = OpenFile.from_message(port.receive(PATIENCE))
            assert received.file.is_open
            if handle is not port:
                assert received.file.fileno() != descriptor.fileno()
                received.file.close()

    def test_that_are_closed(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        with open("/dev/null") as file:  # noqa: PTH123
            descriptor = Descriptor(file)
        descriptor.close()
        if handle is port:
            return
        with pytest.raises((ValueError, TypeError), match=r"closed or detached|another host"):
            handle.send(OpenFile(file=descriptor))

    def test_of_a_payload_that_is_refused_are_closed(self, world: World) -> None:
        """So says what is left behind by this test: nothing."""
        router = Router()
        router.on(OpenFile)(lambda open_file: None)
        port = world.served(router)
        if type(port).__name__ == "RemoteSocketPort":
            return
        with open("/dev/null") as file, Descriptor(file) as descriptor:  # noqa: PTH123
            for fields in (b'{"file": 1}', b'{"file": {"component": 2}}', b"{"):
                with pytest.raises(InvalidPayloadError, match="OpenFile: "):
                    port.request([fields, descriptor], msgid=12)
        assert router.invalid == 3


class TestRightsToAnswer:
    def test_travel_and_are_used_elsewhere(self, world: World) -> None:
        """A request goes to the clerk, who lets somebody else answer; it has to be deferred."""

        def run(message: PortMessage) -> None:
            errand = Errand.from_message(message)
            errand.answer_to.send(Result(path="/by another", size=1))

        runner = world.served(run)

        def clerk(message: PortMessage) -> None:
            message.defer()
            runner.send(Errand.model_validate({"answer_to": message.send_port}))

        answer = world.served(clerk).request(Job(path="/a"), reply=Result)
        assert answer.path == "/by another"

    def test_that_are_dropped_there(self, world: World) -> None:
        def drop(message: PortMessage) -> None:
            Errand.from_message(message).answer_to.invalidate()

        runner = world.served(drop)

        def clerk(message: PortMessage) -> None:
            message.defer()
            runner.send(Errand.model_validate({"answer_to": message.send_port}))

        with pytest.raises(ReplyDroppedError):
            world.served(clerk).request(Job(path="/a"), reply=Result)

    def test_are_used_up_where_they_left(self, world: World) -> None:
        port = world.port()
        handle = world.handle(port)
        asked = world.port()
        asker = world.handle(asked)
        waiting = Background(lambda: asker.request(b"?", reply_timeout=PATIENCE).data)
        request = asked.receive(PATIENCE)
        handle.send(Errand.model_validate({"answer_to": request.send_port}))
        if handle is not port:
            with pytest.raises(PortError, match=r"answered, dropped or handed on|answered or d"):
                request.reply(b"by the first")
        Errand.from_message(port.receive(PATIENCE)).answer_to.send(b"by the second")
        assert waiting.result() == b"by the second"


def test_unknown_components_are_let_go_of(world: World) -> None:
    """A field that the receiver does not know may hold a port: nothing of it stays here."""

    class Newer(Payload, msgid=7):
        path: str
        notify: Handover

    gone: list[Any] = []
    port = world.served(hash_file)
    with LoopThread() as thread, MachPort() as extra:
        extra.add_no_senders_handler(gone.append, loop=thread.loop)
        newer = Newer(path="/a", notify=Handover(port=extra))
        assert port.request(newer, reply=Result).size == 2
        gc.collect()
        assert isinstance(port, MachPort) or eventually(lambda: gone)
