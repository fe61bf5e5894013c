"""What messages a router takes, and what it answers, as a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from portkit._field_schema import COMPONENT

_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "in steps of {}",
    "minLength": "length from {}",
    "maxLength": "length to {}",
    "minItems": "items from {}",
    "maxItems": "items to {}",
    "pattern": "as `{}`",
    "contentEncoding": "in {}",
    "format": "{}",
}
"""Of JSON Schema's keywords those that are shown, and how."""


def page_of(document: Mapping[str, Any]) -> str:
    """The page, in Markdown, for a document of :func:`portkit.typed.schema.schema_of`."""
    return "\n".join(_lines(document)).rstrip("\n") + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    messages = document["messages"]
    yield f"# Messages of `{document['title']}`" if "title" in document else "# Messages"
    yield ""
    yield from _table(
        ("number", "message", "answer"),
        [
            (str(message["msgid"]), _message_name(message), _answers(message))
            for message in messages
            if message["direction"] == "in"
        ],
    )
    if document["others"]:
        yield "Messages of any other number are taken as they are."
        yield ""
    described: set[str] = set()
    for message in messages:
        name = _name(message.get("payload", {}))
        if not name:
            yield from _message(f"Message {message['msgid']}", [message])
        elif name not in described:
            described.add(name)
            yield from _message(name, [m for m in messages if _name(m.get("payload", {})) == name])
            yield from _definition(document["$defs"][name])
    inner = {name: schema for name, schema in document["$defs"].items() if name not in described}
    if inner:
        yield "## Within these"
        yield ""
    for name, schema in inner.items():
        yield f"### {name}"
        yield ""
        yield from _definition(schema)


def _message(title: str, messages: list[Mapping[str, Any]]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    for message in messages:
        coded = f", as {message['codec']}" if "codec" in message else ""
        if message["direction"] == "in":
            yield f"Message {message['msgid']}{coded}. Answer: {_answers(message)}."
        else:
            yield f"An answer, message {message['msgid']}{coded}."
        yield ""
        if "description" in message:
            yield message["description"]
            yield ""


def _definition(schema: Mapping[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield schema["description"]
        yield ""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        if schema and schema.get("type") != "object":
            yield f"As a whole: {_type(schema)}."
            yield ""
        return
    needed = schema.get("required", ())
    yield from _table(
        ("field", "type", "default", "what it is"),
        [
            (
                f"`{name}`",
                _type(field),
                "needed" if name in needed else _default(field),
                " ".join(field.get("description", "").split()),
            )
            for name, field in properties.items()
        ],
    )
    beside = [f"`{name}`" for name, field in properties.items() if _travels(field)]
    if beside:
        yield f"Beside the fields, as components of the message: {', '.join(beside)}."
        yield ""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield _row(head)
    yield "|" + "---|" * len(head)
    for row in rows:
        yield _row(row)
    yield ""


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _message_name(message: Mapping[str, Any]) -> str:
    return _type(message["payload"]) if "payload" in message else "data"


def _answers(message: Mapping[str, Any]) -> str:
    if "answers" not in message:
        return "not said"
    return " or ".join(
        _type(answer["payload"]) if "payload" in answer else _DATA[answer["data"]]
        for answer in message["answers"]
    )


_DATA = {"empty": "nothing", "bytes": "data"}


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _type(schema: Mapping[str, Any]) -> str:  # noqa: C901 - one keyword after the other
    if COMPONENT in schema:
        return f"{schema[COMPONENT]}, a component"
    if name := _name(schema):
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[keyword])))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        items = schema.get("items") or schema.get("prefixItems")
        if isinstance(items, list):
            kind = f"array of {', '.join(map(_type, items))}"
        elif items:
            kind = f"array of {_type(items)}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {_type(schema['additionalProperties'])}"
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind


def _default(field: Mapping[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "made by the receiver"


def _travels(schema: Any) -> bool:
    """Whether a component travels for it, itself or as an item."""
    if isinstance(schema, Mapping):
        return COMPONENT in schema or any(map(_travels, schema.values()))
    return isinstance(schema, list) and any(map(_travels, schema))
