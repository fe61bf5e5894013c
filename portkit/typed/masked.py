"""Secrets in payloads: they travel as they are, and are shown as asterisks everywhere else.

pydantic writes its SecretStr, SecretBytes and Secret[T] as asterisks. Sent like that the receiver
would have the asterisks for the secret, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import core_schema

from portkit._field_schema import Departing
from portkit.message import Body

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


def reveal_secrets(
    schema: core_schema.CoreSchema, handler: GetCoreSchemaHandler, own: type[Body]
) -> None:
    """Have the secrets of a payload's schema written as they are where it is sent.

    Raises:
        TypeError: there are some in a model that is no payload, which writes them by itself.
    """
    for node, model in _nodes(schema, handler, own):
        serialization = node.get("serialization")
        if not isinstance(serialization, dict) or not _masks(serialization.get("function")):
            continue
        if model is not None:
            raise TypeError(
                f"{own.__name__} holds a secret of {model.__name__}, which would travel as "
                f"asterisks: derive {model.__name__} from portkit.typed.Payload"
            )
        serialization["function"] = _revealing(serialization["function"])
        serialization["when_used"] = "unless-none"
        serialization.pop("return_schema", None)  # of the asterisks


def _nodes(
    schema: Any, handler: GetCoreSchemaHandler, own: type[Body]
) -> Iterator[tuple[dict[str, Any], type[Any] | None]]:
    """Every node of the schema that says how something is written, and the model it is in.

    That is None for the payload itself. Other payloads saw to their own when they were defined.
    """
    rest: list[tuple[Any, type[Any] | None]] = [(schema, None)]
    seen: set[str] = set()
    while rest:
        node: Any
        node, model = rest.pop()
        if isinstance(node, list | tuple):
            rest += [(item, model) for item in node]
        if not isinstance(node, dict):
            continue
        if node.get("type") == "definition-ref":
            ref = node["schema_ref"]
            if ref in seen:
                continue
            seen.add(ref)
            try:
                node = cast("Any", handler.resolve_ref_schema(node))
            except LookupError:  # a model that is just being defined: it is looked at there
                continue
        if node.get("type") in {"model", "dataclass"} and node["cls"] is not own:
            if issubclass(node["cls"], Body):
                continue
            model = node["cls"]
        if "serialization" in node:
            yield node, model  # and what it consists of is written by that
        else:
            rest += [(value, model) for key, value in node.items() if key != "metadata"]


def _masks(function: object) -> bool:
    """Whether that is what pydantic has for its own kinds of secrets."""
    name = getattr(function, "__qualname__", "").lower()
    return (
        getattr(function, "__module__", "") == "pydantic.types"
        and "secret" in name
        and "serialize" in name.rpartition(".")[2]
    )


def _revealing(mask: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
        return (
            value.get_secret_value() if isinstance(info.context, Departing) else mask(value, info)
        )

    return serialize
