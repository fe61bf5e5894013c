"""A method of an interface: how its arguments and its result are checked, written and read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NotRequired, cast, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from typing_extensions import TypedDict

from portkit.errors import InvalidPayloadError, MessageTooLargeError
from portkit.remote.protocols import name_of, substituted
from portkit.typed.explain import explain, explain_encoding

if TYPE_CHECKING:
    from portkit.remote.exchange import Coming, Leaving

_CONFIG = ConfigDict(
    arbitrary_types_allowed=False,
    extra="forbid",
    ser_json_bytes="base64",
    ser_json_inf_nan="constants",
    val_json_bytes="base64",
)
_PLAIN = frozenset(
    {"bool", "dict", "float", "int", "list", "none", "nullable", "str", "tuple"}
    | {"typed-dict", "typed-dict-field"}
)
_INNER = ("items_schema", "keys_schema", "schema", "values_schema")
_UNFIT = (PydanticUserError, PydanticUndefinedAnnotation)
_PLACE = re.compile(r"(^|; )0(?:\.|(?=: ))")
"""Where a field is, in :func:`explain`: in the list that every value is written as."""


class Result:
    """A type that is checked where it leaves and where it arrives.

    Args:
        kind: the type, as pydantic is to have it.

    Raises:
        pydantic.PydanticUserError, pydantic.PydanticUndefinedAnnotation: nothing can be encoded
            by it.
    """

    def __init__(self, kind: Any) -> None:
        # In a list, for pydantic takes a configuration for no dataclass and no TypedDict alone.
        adapter: TypeAdapter[tuple[Any]] = _adapter(kind)
        self._validator = adapter.validator
        self._serializer = adapter.serializer
        self._schema = adapter.core_schema
        self._is_plain = _is_plain(self._schema)

    def encode(self, value: Any, context: Leaving) -> bytes:
        """The value as bytes.

        Raises:
            InvalidPayloadError: it is none of the type, or cannot be encoded.
            MessageTooLargeError: it is over the limit of the connection.
            PortError: an object or iterator in it cannot go.
        """
        try:
            checked = self._validator.validate_python((value,))
            if self._is_plain:  # nothing can be wrong with it: to look again takes twice as long
                data = self._serializer.to_json(checked, context=context)
            else:
                data = self._serializer.to_json(checked, context=context, warnings="error")
        except ValidationError as error:
            raise InvalidPayloadError(self._explain(error)) from None
        except (ValueError, RecursionError) as error:
            context.raise_error()
            raise InvalidPayloadError(f"it cannot be encoded: {explain_encoding(error)}") from error
        limit = context.connection.options.max_size
        if len(data) > limit:
            context.clear()
            raise MessageTooLargeError(_too_large(len(data), limit))
        return data

    def decode(self, data: bytes | memoryview, context: Coming) -> Any:
        """The value that such bytes stand for.

        Raises:
            InvalidPayloadError: they stand for none.
        """
        limit = context.connection.options.max_size
        if len(data) > limit:
            raise InvalidPayloadError(_too_large(len(data), limit))
        try:
            return self._validator.validate_json(bytes(data), context=context)[0]
        except ValidationError as error:
            raise InvalidPayloadError(self._explain(error)) from None
        except Exception as error:  # of a validator of the program
            raise InvalidPayloadError(f"it is not valid ({type(error).__name__})") from error

    def _explain(self, error: ValidationError) -> str:
        text = _PLACE.sub(r"\1", explain(error, cast("dict[str, Any]", self._schema)))
        return text.removeprefix(": ")


def _too_large(size: int, limit: int) -> str:
    return (
        f"{size} bytes are over the limit of {limit}: hand over bytes, or an iterator of parts, or "
        "raise max_size= on both sides"
    )


class Method:
    """A method of an interface.

    Args:
        protocol: the class it is of.
        name: its own.
        function: it.
        variables: what type variables in its annotations stand for.

    Attributes:
        name: its own.
        head: that, as it stands in a call.
        full_name: with that of the interface.
        is_oneway: a call is not answered.
        is_async: a call is awaited.
        arguments: those that are given, by name.
        result: what it returns.
        raises: exceptions that come back as themselves, by name.
        named: the interfaces that its annotations name.

    Raises:
        TypeError: something in its signature cannot be called from elsewhere.
    """

    def __init__(
        self,
        protocol: Any,
        name: str,
        function: Callable[..., Any],
        variables: Mapping[Any, Any],
    ) -> None:
        self.name: str = name
        self.head: bytes = self.name.encode()
        self.full_name: str = f"{name_of(protocol)}.{name}"
        hints = self._hints(function, variables)
        self.named: list[Any] = []
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        fields: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{self.full_name} takes *{parameter.name}: name each argument")
            if parameter.name not in hints:
                raise TypeError(f"{self.full_name} has no annotation for {parameter.name}")
            kind = self._kind(hints[parameter.name], protocol)
            fields[parameter.name] = (
                kind if parameter.default is parameter.empty else NotRequired[kind]
            )
        if "return" not in hints:
            raise TypeError(f"{self.full_name} has no annotation for what it returns")
        self._names = list(fields)
        self._required = {p.name for p in parameters if p.default is p.empty}
        self._positional = [p.name for p in parameters if p.kind != p.KEYWORD_ONLY]
        self._only_positional = [p.name for p in parameters if p.kind == p.POSITIONAL_ONLY]
        self.is_oneway: bool = getattr(function, "__portkit_oneway__", False)
        self.is_async: bool = inspect.iscoroutinefunction(function)
        errors: tuple[type[Exception], ...] = getattr(function, "__portkit_raises__", ())
        self.raises: dict[str, type[Exception]] = {full_name(error): error for error in errors}
        if self.is_oneway and hints["return"] is not type(None):
            raise TypeError(f"{self.full_name} is one-way and so returns None")
        given: Any = TypedDict("Arguments", fields)  # type: ignore[misc]
        self.arguments: Result = self._coded(given)
        self.result: Result = self._coded(self._kind(hints["return"], protocol))

    def _kind(self, annotation: Any, protocol: Any) -> Any:
        from portkit.remote.annotations import remote_type  # noqa: PLC0415 - types name methods' own

        try:
            return remote_type(annotation, protocol, self.named)
        except (TypeError, *_UNFIT) as error:
            raise TypeError(f"{self.full_name}: {error}") from None

    def _coded(self, kind: Any) -> Result:
        try:
            return Result(kind)
        except _UNFIT as error:
            raise TypeError(
                f"{self.full_name} has an annotation that nothing can be encoded by: {error}"
            ) from None

    def _hints(self, function: Callable[..., Any], variables: Mapping[Any, Any]) -> dict[str, Any]:
        try:
            hints = get_type_hints(function, include_extras=True)
            return {name: substituted(hint, variables) for name, hint in hints.items()}
        except NameError as error:
            raise TypeError(
                f"an annotation of {self.full_name} cannot be resolved: {error}; define what it "
                "names in the module"
            ) from error

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            TypeError: there are too many or too few, one is given twice, or there is none of a
                name.
        """
        if not kwargs and len(args) == len(self._names) == len(self._positional):
            return dict(zip(self._names, args, strict=True))  # the usual call, without the checks
        if len(args) > len(self._positional):
            raise TypeError(
                f"{self.full_name} takes {len(self._positional)} positional arguments, "
                f"not {len(args)}"
            )
        given = dict(zip(self._positional, args, strict=False))
        if kwargs:
            self._add(given, kwargs)
        if not self._required <= given.keys():
            missing = [name for name in self._names if name in self._required - given.keys()]
            raise TypeError(f"{self.full_name} needs a value for {', '.join(missing)}")
        return given

    def _add(self, given: dict[str, Any], kwargs: Mapping[str, Any]) -> None:
        twice = given.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{self.full_name} got several values for {', '.join(sorted(twice))}")
        unknown = [name for name in kwargs if name not in self._names]
        if unknown:
            raise TypeError(
                f"{self.full_name} takes no {', no '.join(unknown)}; it takes "
                f"{', '.join(self._names) or 'nothing'}"
            )
        given.update(kwargs)

    def call(self, target: object, given: dict[str, Any]) -> Any:
        """Call it on the object that has it."""
        if not self._only_positional:
            return getattr(target, self.name)(**given)
        args: list[Any] = []
        for name in self._only_positional:
            if name not in given:
                break  # those after it can then be given by name only, which the target refuses
            args.append(given.pop(name))
        return getattr(target, self.name)(*args, **given)


def full_name(error: type[BaseException]) -> str:
    """How an exception's class is named to the other side."""
    return f"{error.__module__}.{error.__qualname__}"


def _is_plain(schema: Any) -> bool:
    """Whether what was checked by the schema has no part that was made without a check.

    Models are taken as they are, and may have been made so.
    """
    if isinstance(schema, list):
        return all(map(_is_plain, schema))
    return (
        schema["type"] in _PLAIN
        and "serialization" not in schema
        and all(_is_plain(schema[key]) for key in _INNER if key in schema)
        and all(_is_plain(field) for field in schema.get("fields", {}).values())
    )


def _adapter(kind: Any) -> TypeAdapter[tuple[Any]]:
    # An adapter keeps the variables of the function that makes it. With an error among them that
    # would be all callers' too, and the ports in them, until the garbage is collected.
    listed: Any = tuple
    return TypeAdapter(listed[kind], config=_CONFIG)
