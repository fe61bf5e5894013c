"""The description of a router's messages: for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, RootModel, SecretStr

from portkit import PortMessage
from portkit.typed import Data, Payload, Router
from portkit.typed.msgpack import MSGPACK
from portkit.typed.page import page_of
from portkit.typed.schema import schema_of
from tests.typed.models import Handover, Job, OpenFile, Result, Tree


class Point(BaseModel):
    """Somewhere | here."""

    x: float
    y: float = 0


class Task(Payload, msgid=60):
    """Something to do."""

    path: Annotated[str, Field(min_length=1, description="what to\ndo")]
    retries: Annotated[int, Field(ge=0, le=9)] = 3
    around: tuple[Point, ...] = ()
    picture: Data = b""
    more: Data | None = None
    secret: SecretStr | None = None
    table: dict[str, float | None] = Field(default_factory=dict)


class Names(Payload, RootModel[list[str]], msgid=61, codec=MSGPACK):
    """Who is there."""


router = Router()


@router.on(Task)
def run(task: Task) -> Result | None:
    """Do it."""
    return None


@router.on(Names)
async def count(names: Names) -> bytes:
    return b"%d" % len(names.root)


@router.on(Handover)
def take(handover):  # type: ignore[no-untyped-def]
    return None


@router.on(msgid=3)
def raw(message: PortMessage) -> None:
    """Anything."""


def message(document: dict[str, Any], msgid: int, direction: str = "in") -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = [
        entry
        for entry in document["messages"]
        if (entry["msgid"], entry["direction"]) == (msgid, direction)
    ]
    return found


class TestDocument:
    def test_messages(self) -> None:
        document = schema_of(router, "program:router")
        assert document["title"] == "program:router"
        assert [entry["msgid"] for entry in document["messages"]] == [3, 11, 60, 61, 8]
        assert message(document, 60) == {
            "msgid": 60,
            "direction": "in",
            "codec": "json",
            "payload": {"$ref": "#/$defs/Task"},
            "description": "Do it.",
            "answers": [{"payload": {"$ref": "#/$defs/Result"}}, {"data": "empty"}],
        }
        assert message(document, 61)["codec"] == "msgpack"
        assert message(document, 61)["answers"] == [{"data": "bytes"}]
        assert message(document, 3) == {
            "msgid": 3,
            "direction": "in",
            "description": "Anything.",
            "answers": [{"data": "empty"}],
        }
        assert message(document, 8, "out")["payload"] == {"$ref": "#/$defs/Result"}
        assert "answers" not in message(document, 11), "nothing is said of it"

    def test_is_json(self) -> None:
        document = schema_of(router)
        assert json.loads(json.dumps(document)) == document
        assert "title" not in document

    def test_fields(self) -> None:
        task = schema_of(router)["$defs"]["Task"]
        assert task["description"] == "Something to do."
        assert task["required"] == ["path"]
        assert task["properties"]["picture"] == {
            "title": "Picture",
            "type": "object",
            "properties": {"component": {"type": "integer", "minimum": 1}},
            "required": ["component"],
            "x-portkit-component": "data",
        }

    def test_every_reference_leads_somewhere(self) -> None:
        text = json.dumps(document := schema_of(router))
        names = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
        assert names == set(document["$defs"]) == {"Task", "Point", "Names", "Handover", "Result"}

    def test_a_default_for_other_messages(self) -> None:
        other = Router()
        assert schema_of(other)["others"] is False
        other.default(lambda message: None)
        assert schema_of(other)["others"] is True
        assert schema_of(other)["messages"] == []

    def test_models_that_hold_themselves_and_descriptors(self) -> None:
        other = Router()
        other.on(Tree)(lambda tree: None)
        other.on(OpenFile)(lambda file: None)
        document = schema_of(other)
        assert set(document["$defs"]) == {"Tree", "OpenFile"}
        file = document["$defs"]["OpenFile"]["properties"]["file"]
        assert file["x-portkit-component"] == "Descriptor"

    def test_what_cannot_be_described(self) -> None:
        class Odd(Payload, msgid=62):
            call: Callable[[], None]

        other = Router()
        other.on(Odd)(lambda odd: None)
        with pytest.raises(TypeError, match=r"a payload cannot be described: .*Callable"):
            schema_of(other)


class TestPage:
    def test_rows(self) -> None:
        page = page_of(schema_of(router, "program:router"))
        for line in (
            "# Messages of `program:router`",
            "| 60 | [Task](#task) | [Result](#result) or nothing |",
            "| 61 | [Names](#names) | data |",
            "| 11 | [Handover](#handover) | not said |",
            "| 3 | data | nothing |",
            "## Task",
            "Message 60, as json. Answer: [Result](#result) or nothing.",
            "Do it.",
            "Something to do.",
            "| `path` | string (length from 1) | needed | what to do |",
            "| `retries` | integer (from 0, to 9) | `3` |  |",
            "| `around` | array of [Point](#point) | `[]` |  |",
            "| `picture` | data, a component | made by the receiver |  |",
            "| `secret` | string (password) or null | `null` |  |",
            "| `table` | object of number or null | made by the receiver |  |",
            "Beside the fields, as components of the message: `picture`, `more`.",
            "An answer, message 8, as json.",
            "Message 61, as msgpack. Answer: data.",
            "As a whole: array of string.",
            "## Message 3",
            "### Point",
            "Somewhere | here.",
        ):
            assert line in page.splitlines(), line
        assert "Messages of any other number" not in page

    def test_of_an_empty_router_with_a_default(self) -> None:
        other = Router()
        other.default(lambda message: None)
        page = page_of(schema_of(other))
        assert page.startswith("# Messages\n")
        assert "Messages of any other number are taken as they are." in page

    def test_every_table_is_whole(self) -> None:
        other = Router()
        other.on(Job)(lambda job: None)
        lines = page_of(schema_of(other)).splitlines()
        rows = [line.replace("\\|", "") for line in lines if line.startswith("|")]
        assert {row.count("|") for row in rows} == {4, 5}
