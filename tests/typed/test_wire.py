"""docs/wire-protocol.md: a payload is laid out as the page says, written and read."""

from __future__ import annotations

import pytest

from portkit import InvalidPayloadError, MachPort, Port, PortMessage
from portkit.typed import JSON, Payload
from tests.link.test_wire_protocol import EXAMPLES, TEXT


class Watch(Payload, msgid=7):
    """That of the example."""

    path: str
    to: Port


FIELDS = b'{"path":"/a","to":{"component":1}}'


def test_the_example_is_this_payload() -> None:
    (example,) = [example for example in EXAMPLES if example.data.endswith(FIELDS)]
    assert example.data[8:12] == Watch.msgid.to_bytes(4, "little")
    port = MachPort()
    message = PortMessage(components=Watch(path="/a", to=port))
    assert (message.msgid, message.components) == (7, (FIELDS, port))
    assert Watch.from_message(PortMessage(components=[FIELDS, port], msgid=7)).to is port


def test_one_component_may_be_named_twice_and_others_never() -> None:
    class Pair(Payload, msgid=8):
        one: Port
        other: Port

    fields = b'{"one": {"component": 2}, "other": {"component": 2}}'
    port = MachPort()
    pair = Pair.from_message(PortMessage(components=[fields, b"unused", port], msgid=8))
    assert pair.one is pair.other is port


def test_the_limits_are_those_of_the_page() -> None:
    section = TEXT.split("## Payloads")[1].split("\n## ")[0]
    assert JSON.limit == 1 << 20
    assert "1 MiB at most" in section
    assert "may be 200 deep" in section
    for depth, fine in ((199, True), (201, False)):
        fields = b'{"path": "a", "to": {"component": 1}, "x": %s1%s}' % (b"[" * depth, b"]" * depth)
        message = PortMessage(components=[fields, MachPort()], msgid=7)
        if fine:
            Watch.from_message(message)
        else:
            with pytest.raises(InvalidPayloadError, match="recursion limit"):
                Watch.from_message(message)
