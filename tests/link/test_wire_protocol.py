"""docs/wire-protocol.md holds: its examples, read and written, its tables and its limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from portkit import MachPort
from portkit.errors import (
    AuthenticationError,
    BecameInvalidError,
    InvalidPayloadError,
    PortError,
    ReplyDroppedError,
)
from portkit.link import flow, frames, greeting, once, outbox
from portkit.link.decoder import PART_HEAD, Limits
from portkit.link.frames import ENTRY_SIZE, HEADER, MESSAGE_SIZE, Entry, Frame, Kind, Part
from portkit.link.node import Settings
from portkit.link.relay import RELAY_WINDOW
from portkit_transports.message import record
from portkit_transports.socket.shared_key import CLIENT, SERVER, proof
from tests.link.wire import encode, new_decoder, outcome, part

PAGE = Path(__file__).parents[2] / "docs" / "wire-protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")
NAMESPACE = {
    "frames": frames,
    "Kind": Kind,
    "Part": Part,
    "Entry": Entry,
    "part": part,
    "proof": proof,
    "CLIENT": CLIENT,
    "SERVER": SERVER,
}


class Example(NamedTuple):
    """A block of hexadecimal digits, and the expression that makes the same bytes."""

    expression: str
    data: bytes


def examples() -> list[Example]:
    found = re.findall(r"^<!-- ([^\n]+) -->\n```hex\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [
        Example(expression, bytes.fromhex(" ".join(re.sub("#.*", "", text).split())))
        for expression, text in found
    ]


EXAMPLES = examples()


def tables() -> dict[str, list[list[str]]]:
    """The tables of the page, each by the first words of its head."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()]
        found.setdefault(" ".join(rows[0][:2]), rows[2:])
    return found


TABLES = tables()


def test_every_block_of_digits_says_how_it_is_made() -> None:
    assert len(EXAMPLES) == TEXT.count("```hex")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.expression[:40])
def test_an_example_is_what_is_written(example: Example) -> None:
    assert eval(example.expression, dict(NAMESPACE)) == example.data


def test_the_examples_are_read_as_what_they_say() -> None:
    for example in EXAMPLES:
        if example.data[4] != Kind.PART:
            events, error, _ = outcome(example.data)
            assert not error
            assert b"".join(map(encode, events)) == example.data


def test_the_parts_of_the_examples_make_a_message() -> None:
    parts = [example.data for example in EXAMPLES if example.data[4] == Kind.PART]
    whole = next(example.data for example in EXAMPLES if example.data.endswith(b"hello"))
    assert outcome(b"".join(parts)) == outcome(whole)


def test_there_is_an_example_of_almost_every_type_and_flag() -> None:
    seen = {example.data[4] for example in EXAMPLES} | {Kind.FORGET}
    assert set(Kind) - seen == {Kind.HELLO, Kind.WELCOME, Kind.PONG}  # of PING's form, or records


# Tables.


def test_the_types_are_all_there() -> None:
    shown = {int(row[0]): row[1] for row in TABLES["type name"]}
    assert shown == {kind.value: kind.name for kind in Kind}


def test_the_fields_after_the_header_have_these_sizes() -> None:
    for row in TABLES["type name"]:
        sizes = [int(size) for size in re.findall(r": (\d+)", row[4])]
        kind = Kind[row[1]]
        if kind not in {Kind.MESSAGE, Kind.REPLY, Kind.PART}:
            frame = bytes(sum(sizes))
            assert frames.decode(kind, 0, memoryview(bytes(8) + frame)).kind == kind
            if frame:
                with pytest.raises(PortError):
                    frames.decode(kind, 0, memoryview(bytes(7) + frame))
        elif kind == Kind.PART:
            assert sum(sizes) == PART_HEAD - HEADER.size


def test_the_components_are_all_there() -> None:
    shown = {int(row[0]): row[1] for row in TABLES["kind name"]}
    assert shown == {kind.value: kind.name for kind in Part}


def test_the_flags_of_messages_are_all_there() -> None:
    shown = {row[1]: int(row[0]) for row in TABLES["flag name"]}
    names = ("SIMPLE", "REQUEST", "REPLY_PORT", "HEADERS")
    assert shown == {name: getattr(frames, name) for name in names}


def test_the_codes_of_failures_are_those_of_the_errors() -> None:
    for row, (code, error) in zip(
        TABLES["flags what happened"],
        [
            (once.DROPPED, ReplyDroppedError),
            (once.INVALID, BecameInvalidError),
            (once.INVALID_PAYLOAD, InvalidPayloadError),
            (once.NOT_ALLOWED, AuthenticationError),
            (once.FAILED, PortError),
        ],
        strict=True,
    ):
        assert int(row[0].split(",")[0]) == code
        assert row[2] == f"`{error.__name__}`"
        assert type(once.error_of(code, "")) is error
    assert type(once.error_of(200, "")) is PortError


def test_the_greeting_has_these_fields_and_bounds() -> None:
    schema = greeting.Greeting.model_json_schema()
    properties = schema["properties"]
    assert [row[0].strip("`") for row in TABLES["field from"]] == [*properties]
    assert set(schema["required"]) == set(properties)
    own = json.loads(greeting.greeting(bytes(16), 7, Limits()))
    for name, least, most, said, _ in TABLES["field from"]:
        field = properties[name.strip("`")]
        if name.startswith("`max_"):
            assert own[name.strip("`")] == int(said)
        if name == "`version`":
            assert {least, most, said} == {str(own["version"])}
        elif least:
            upper = field.get("maximum", field.get("exclusiveMaximum", 0) - 1)
            assert (int(least), int(most)) == (field["minimum"], upper)


def test_the_records_are_such() -> None:
    name, greeted = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    found = record.decode(name.encode())
    assert found is not None
    assert (found.name, found.port_id) == ("parser", bytes(range(16)))
    assert greeting.read(greeted.encode()).limits == Limits()


def test_names_are_written_as_the_page_says() -> None:
    assert record.file_name("A_b-c.ä") == "name.%41_b-c.%c3%a4"
    assert re.fullmatch("hash\\.[0-9a-f]{64}", record.file_name("a" * 300))


# Numbers in the text.


def test_the_numbers_of_credit_are_those_of_the_page() -> None:
    section = TEXT.split("## Credit")[1].split("## Large messages")[0]
    numbers = {int(number) for number in re.findall(r"\d+", section)}
    assert {flow.WINDOW, flow.FIRST_WINDOW, flow.LARGEST_COST, RELAY_WINDOW} <= numbers
    assert flow.cost((bytes(1 << 20),)) in numbers
    with MachPort() as port:
        assert flow.cost((port,)) == 0


def test_the_limits_are_those_of_the_page() -> None:
    limits = {row[0]: row[1] for row in TABLES["what most"]}
    greeted = f"{frames.HEADER_SIZE + frames.MAX_RECORD} bytes"
    assert limits["frame before the greeting is over"] == greeted
    assert limits["any other frame"] == greeted
    assert limits["record of a greeting"] == f"{frames.MAX_RECORD} bytes"
    assert limits["reason in FAILED"] == f"{frames.MAX_TEXT} bytes"
    assert limits["id of a pre-shared key"] == f"{frames.MAX_KEY_ID} bytes"
    assert limits["frame of a MESSAGE or REPLY"].startswith(f"`max_message` + {MESSAGE_SIZE}, ")
    assert f"{ENTRY_SIZE} for each" in limits["frame of a MESSAGE or REPLY"]
    assert limits["frame of a PART"].endswith(f"+ {PART_HEAD}")
    assert limits["headers of a message"] == f"{frames.MAX_HEADERS} bytes"
    settings = Settings()
    assert limits["rights opened by OPEN and not released"] == f"{settings.max_rights} in portkit"
    shown = limits["of these, to one and the same port"]
    assert shown == f"{settings.max_rights_per_port} in portkit"
    shown = limits["links of one process with another"]
    assert shown == f"{settings.max_links_per_process} in portkit"
    text = " ".join(TEXT.split())
    assert f"frames over {outbox.PART_SIZE} bytes into pieces of that size" in text
    assert f"portkit does this from {settings.out_of_line} bytes on" in text
    assert f"within {settings.greeting_timeout:.0f} seconds" in text


def test_what_has_no_meaning_is_not_looked_at() -> None:
    decoder, sink = new_decoder()
    data = HEADER.pack(8, Kind.PONG, 0xFF, 0xFFFF)
    decoder.received(memoryview(data), len(data))
    assert [event[0] for event in sink.events] == [Frame(Kind.PONG, 0xFF, 0, 0, 0, b"")]
