"""Messages: components, what they become when sent, and answering."""

from __future__ import annotations

import array
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit import MachPort, Port, PortError, PortMessage, ReplyDroppedError, SendTimeoutError
from portkit.message import MAX_MSGID, pack
from tests.ports.helpers import Background
from tests.support import PATIENCE


@pytest.fixture
def port() -> Iterator[MachPort]:
    """A port that nobody serves."""
    with MachPort() as made:
        yield made


@pytest.fixture
def reply_port() -> Iterator[MachPort]:
    """Another."""
    with MachPort() as made:
        yield made


def received(port: MachPort) -> PortMessage:
    return port.receive(0)


class TestComponents:
    @pytest.mark.parametrize(
        ("components", "arrives"),
        [
            ((), ()),
            ([], ()),
            (b"one", (b"one",)),
            (b"", (b"",)),
            (bytearray(b"one"), (b"one",)),
            (memoryview(b"one"), (b"one",)),
            (memoryview(b"abcdef")[::2], (b"ace",)),
            (array.array("B", [1, 2]), (b"\1\2",)),
            ([b"one", bytearray(b"two"), memoryview(b"three")], (b"one", b"two", b"three")),
            ((c for c in (b"one", b"two")), (b"one", b"two")),
        ],
    )
    def test_bytes_like_arrive_as_bytes(
        self, port: MachPort, components: Any, arrives: tuple[bytes, ...]
    ) -> None:
        port.send(components)
        message = received(port)
        assert message.components == arrives
        assert all(type(component) is bytes for component in message.components)

    def test_bytes_and_ports_travel_by_reference(
        self, port: MachPort, reply_port: MachPort
    ) -> None:
        data = b"large" * 100
        port.send([data, reply_port])
        first, second = received(port).components
        assert first is data
        assert second is reply_port

    def test_a_port_alone_is_a_component(self, port: MachPort) -> None:
        port.send(port)
        assert received(port).components == (port,)

    @pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
    def test_mutable_buffers_are_copied_at_send(
        self, port: MachPort, kind: Callable[[bytes], Any]
    ) -> None:
        buffer = kind(b"before")
        parts = [buffer]
        port.send(buffer)
        port.send(parts)
        buffer[:] = b"after!"
        parts.clear()  # P10
        assert received(port).components == received(port).components == (b"before",)

    @pytest.mark.parametrize(
        "wrong",
        ["text", ["text"], [b"data", "text"]],
    )
    def test_str_names_the_remedy(self, port: MachPort, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"\.encode\(\)"):
            port.send(wrong)
        assert port.pending == 0

    @pytest.mark.parametrize("wrong", [5, None, object(), [5], [b"data", None], {"a": 1}, [[b"x"]]])
    def test_anything_else_is_a_type_error_before_anything_is_sent(
        self, port: MachPort, wrong: Any
    ) -> None:
        for send in (port.send, port.request, PortMessage(port).reply):
            with pytest.raises(TypeError, match="not a component"):
                send(wrong)
        with pytest.raises(TypeError):
            port.send_many([b"good", wrong])
        with pytest.raises(TypeError):
            PortMessage(port, None, wrong)
        assert port.pending == 0

    @settings(deadline=None)
    @given(
        st.lists(
            st.binary(max_size=20).flatmap(
                lambda data: st.sampled_from([data, bytearray(data), memoryview(data)])
            )
        )
    )
    def test_pack_keeps_content_and_order(self, parts: list[Any]) -> None:
        assert pack(parts) == tuple(bytes(part) for part in parts)
        assert pack(pack(parts)) == pack(parts)


class TestEnvelope:
    @pytest.mark.parametrize("msgid", [0, 1, MAX_MSGID, True])
    def test_msgid_arrives(self, port: MachPort, msgid: int) -> None:
        port.send(msgid=msgid)
        assert received(port).msgid == msgid

    @pytest.mark.parametrize(
        ("msgid", "error"),
        [(-1, ValueError), (MAX_MSGID + 1, ValueError), ("1", TypeError), (1.0, TypeError)],
    )
    def test_wrong_msgid(self, port: MachPort, msgid: Any, error: type[Exception]) -> None:
        for send in (port.send, port.request):
            with pytest.raises(error, match="msgid"):
                send(b"", msgid=msgid)
        with pytest.raises(error, match="msgid"):
            PortMessage(port, msgid=msgid)
        assert port.pending == 0

    def test_wrong_reply_port(self, port: MachPort) -> None:
        with pytest.raises(TypeError, match="reply port"):
            port.send(reply_port="mine")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="port"):
            PortMessage(port, "mine")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="port"):
            PortMessage("yours")  # type: ignore[arg-type]
        assert port.pending == 0

    @pytest.mark.parametrize(
        ("timeout", "error"),
        [("1", TypeError), (float("nan"), ValueError), (b"", TypeError)],
    )
    def test_wrong_timeout(self, port: MachPort, timeout: Any, error: type[Exception]) -> None:
        calls: list[Callable[[], object]] = [
            lambda: port.send(timeout=timeout),
            lambda: port.send_many([b""], timeout=timeout),
            lambda: port.request(send_timeout=timeout),
            lambda: port.request(reply_timeout=timeout),
            lambda: port.receive(timeout),
        ]
        for call in calls:
            with pytest.raises(error):
                call()
        assert port.pending == 0


class TestArrived:
    def test_ports_are_swapped(self, port: MachPort, reply_port: MachPort) -> None:
        """P8."""
        outgoing = PortMessage(port, reply_port, [b"data"], msgid=100)
        outgoing.send()
        message = received(port)
        assert message.msgid == 100
        assert message.send_port is reply_port
        assert message.receive_port is port
        assert not message.is_request

    def test_data_is_the_first_data_component(self, port: MachPort) -> None:
        port.send([port, b"first", b"second", port])
        message = received(port)
        assert message.data == b"first"
        assert message.ports == (port, port)
        assert message.view is not None
        assert message.view.readonly
        assert message.view.tobytes() == b"first"
        assert message.view.obj is message.data  # no copy

    def test_without_data(self, port: MachPort) -> None:
        port.send()  # P11
        message = received(port)
        assert (message.components, message.data, message.view, message.ports) == (
            (),
            None,
            None,
            (),
        )

    def test_repr_tells_what_is_inside_without_the_data(self, port: MachPort) -> None:
        port.send([b"secret", port], msgid=7)
        text = repr(received(port))
        assert "msgid=7" in text
        assert "6 bytes" in text
        assert "MachPort" in text
        assert "secret" not in text

    def test_repr_of_a_request(self, port: MachPort) -> None:
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE))
        message = port.receive(PATIENCE)
        assert "request" in repr(message)
        assert "open" in repr(message.send_port)
        message.reply()
        assert "used" in repr(message.send_port)
        asker.result()


class TestSend:
    def test_needs_a_destination(self, reply_port: MachPort) -> None:
        with pytest.raises(PortError, match="send_port"):
            PortMessage(None, reply_port, b"data").send()

    def test_may_be_sent_again(self, port: MachPort) -> None:
        message = PortMessage(port, components=b"again")
        message.send()
        message.send(timeout=0)
        assert [received(port).data, received(port).data] == [b"again", b"again"]

    def test_honours_its_timeout(self) -> None:
        with MachPort(queue_limit=1) as full:
            message = PortMessage(full)
            message.send(0)
            with pytest.raises(SendTimeoutError):
                message.send(0)

    def test_send_many_takes_messages_and_components(
        self, port: MachPort, reply_port: MachPort
    ) -> None:
        assert (
            port.send_many(
                [PortMessage(port, reply_port, b"1", msgid=5), b"2", [b"3", port], PortMessage()]
            )
            == 4
        )
        first, second, third, fourth = [received(port) for _ in range(4)]
        assert (first.msgid, first.data, first.send_port) == (5, b"1", reply_port)
        assert second.components == (b"2",)
        assert third.components == (b"3", port)
        assert fourth.components == ()

    def test_send_many_refuses_what_is_addressed_elsewhere(
        self, port: MachPort, reply_port: MachPort
    ) -> None:
        with pytest.raises(ValueError, match="another port"):
            port.send_many([b"good", PortMessage(reply_port)])
        assert port.pending == 0

    @pytest.mark.parametrize("single", [b"data", PortMessage()])
    def test_send_many_refuses_a_single_message(self, port: MachPort, single: Any) -> None:
        with pytest.raises(TypeError, match="use send"):
            port.send_many(single)
        with pytest.raises(TypeError, match="use send"):
            port.send_many(port)  # type: ignore[arg-type]

    def test_send_many_sends_nothing_if_its_iterable_raises(self, port: MachPort) -> None:
        def messages() -> Iterator[bytes]:
            yield b"1"
            raise LookupError

        with pytest.raises(LookupError):
            port.send_many(messages())
        assert port.pending == 0


class TestReply:
    """On messages that are no requests; the answers to requests are in test_request.py."""

    def test_goes_to_the_reply_port(self, port: MachPort, reply_port: MachPort) -> None:
        port.send(b"?", reply_port=reply_port)
        message = received(port)
        message.reply(b"!", msgid=3)
        message.reply([b"and", b"again"])  # an ordinary reply port takes any number
        assert received(reply_port).data == b"!"
        assert received(reply_port).components == (b"and", b"again")

    def test_honours_its_timeout(self, port: MachPort) -> None:
        with MachPort(queue_limit=1) as full:
            port.send(reply_port=full)
            message = received(port)
            message.reply(timeout=0)
            with pytest.raises(SendTimeoutError):
                message.reply(timeout=0)

    def test_one_way_message_has_nobody_to_answer(self, port: MachPort) -> None:
        port.send(b"one-way")
        message = received(port)
        with pytest.raises(PortError, match="nobody waits"):
            message.reply(b"!")
        with pytest.raises(PortError, match="nothing to defer"):
            message.defer()
        message.drop()
        with message:
            pass

    def test_message_with_an_ordinary_reply_port_cannot_be_deferred(
        self, port: MachPort, reply_port: MachPort
    ) -> None:
        port.send(reply_port=reply_port)
        message = received(port)
        with pytest.raises(PortError, match="one-way"):
            message.defer()
        message.drop()
        with message:
            pass
        assert reply_port.is_valid


class TestWith:
    """Leaving ``with message`` drops what is unanswered."""

    def asker(self, port: Port) -> Background:
        return Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)

    def test_drops_an_unanswered_request(self, port: MachPort) -> None:
        asker = self.asker(port)
        with port.receive(PATIENCE) as message:
            pass
        with pytest.raises(ReplyDroppedError):
            asker.result()
        with pytest.raises(PortError):
            message.reply(b"late")

    def test_keeps_an_answered_one(self, port: MachPort) -> None:
        asker = self.asker(port)
        with port.receive(PATIENCE) as message:
            message.reply(b"!")
        assert asker.result() == b"!"

    def test_keeps_a_deferred_one(self, port: MachPort) -> None:
        asker = self.asker(port)
        with port.receive(PATIENCE) as message:
            message.defer()
        message.reply(b"later")
        assert asker.result() == b"later"

    def test_drops_even_a_deferred_one_when_it_raises(self, port: MachPort) -> None:
        asker = self.asker(port)
        message = port.receive(PATIENCE)

        def fail() -> None:
            with message:
                message.defer()
                raise LookupError

        with pytest.raises(LookupError):
            fail()
        with pytest.raises(ReplyDroppedError):
            asker.result()

    def test_a_received_request_that_is_forgotten_is_dropped(self, port: MachPort) -> None:
        asker = self.asker(port)
        port.receive(PATIENCE)
        gc.collect()
        with pytest.raises(ReplyDroppedError):
            asker.result()


@pytest.mark.parametrize(
    ("size", "error"),
    [(0, ValueError), (-1, ValueError), (b"ab", TypeError), ("2", TypeError), (1.0, TypeError)],
    ids=repr,
)
def test_sizes_that_no_buffer_can_have(port: MachPort, size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"the size must be an int|1 byte or more"):
        port.allocate(size)
