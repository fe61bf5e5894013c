"""What messages a router takes, and what it answers, as a document for programs."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core.core_schema import WithDefaultSchema

from portkit._field_schema import COMPONENT
from portkit.typed.payload import Payload
from portkit.typed.router import Route, Router

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(router: Router, title: str = "") -> dict[str, Any]:
    """A router's messages as one JSON Schema.

    ``$defs`` has each type of payload, and each model within one. ``messages`` lists what travels:
    its ``msgid``, ``direction`` ("in" for what the router takes, "out" for what it answers with),
    ``codec``, ``payload``, which refers to ``$defs``, and ``answers``, as far as the handler's
    annotation tells: payloads, ``{"data": "bytes"}``, ``{"data": "empty"}``.

    Raises:
        TypeError: a payload has a field that JSON Schema cannot describe.
    """
    taken = dict(sorted(router.routes.items()))
    answers = {number: list(_parts(route.answer)) for number, route in taken.items()}
    classes = list(dict.fromkeys(_payloads(taken.values(), answers.values())))
    try:
        refs, document = models_json_schema(
            [(payload, "validation") for payload in classes],
            ref_template="#/$defs/{model}",
            schema_generator=_Generator,
        )
    except PydanticInvalidForJsonSchema as error:
        raise TypeError(f"a payload cannot be described: {error.message}") from None
    where = {payload: refs[payload, "validation"] for payload in classes}
    messages = [_incoming(number, route, answers[number], where) for number, route in taken.items()]
    sent = [part for parts in answers.values() for part in parts if _is_payload(part)]
    messages += [_outgoing(payload, where) for payload in dict.fromkeys(sent)]
    return {
        "$schema": DIALECT,
        **({"title": title} if title else {}),
        "messages": messages,
        "others": router.has_default,
        "$defs": document.get("$defs", {}),
    }


class _Generator(GenerateJsonSchema):
    """pydantic's own, but that a component has no default which could be written down."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's

    def default_schema(self, schema: WithDefaultSchema) -> dict[str, Any]:
        """As it was, without the default of a component."""
        written = super().default_schema(schema)
        if COMPONENT in written:
            written.pop("default", None)
        return written


def _payloads(routes: Iterable[Route], answers: Iterable[list[Any]]) -> Iterator[type[Payload]]:
    yield from (route.payload for route in routes if route.payload is not None)
    yield from (part for parts in answers for part in parts if _is_payload(part))


def _incoming(
    number: int, route: Route, answers: list[Any], where: dict[type[Payload], Any]
) -> dict[str, Any]:
    message: dict[str, Any] = {"msgid": number, "direction": "in"}
    if route.payload is not None:
        message |= _typed(route.payload, where)
    if described := inspect.getdoc(route.handler):
        message["description"] = described
    if route.answer is not None:
        message["answers"] = [_answer(part, where) for part in answers]
    return message


def _outgoing(payload: type[Payload], where: dict[type[Payload], Any]) -> dict[str, Any]:
    return {"msgid": payload.msgid, "direction": "out", **_typed(payload, where)}


def _typed(payload: type[Payload], where: dict[type[Payload], Any]) -> dict[str, Any]:
    return {"codec": payload.codec.name, "payload": where[payload]}


def _answer(part: Any, where: dict[type[Payload], Any]) -> dict[str, Any]:
    if _is_payload(part):
        return {"payload": where[part]}
    return {"data": "empty" if part is types.NoneType else "bytes"}


def _parts(annotation: Any) -> Iterator[Any]:
    """What a handler may answer with: the members of a union, or the one that it names."""
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _parts(part)
    elif typing.get_origin(annotation) is typing.Annotated:
        yield from _parts(typing.get_args(annotation)[0])
    elif annotation is not None:
        yield annotation


def _is_payload(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Payload)
