"""A method of an interface: how its arguments and its result are checked, written and read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NotRequired, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from portkit.errors import InvalidPayloadError
from portkit.typed.explain import explain

if TYPE_CHECKING:
    from portkit._field_schema import Arrived, Departing

_CONFIG = ConfigDict(
    arbitrary_types_allowed=False, ser_json_bytes="base64", val_json_bytes="base64", extra="forbid"
)


class Result:
    """A type that is checked where it leaves and where it arrives.

    Args:
        kind: the type, as pydantic is to have it.
    """

    def __init__(self, kind: Any) -> None:
        adapter = _adapter(kind)
        self._validator = adapter.validator
        self._serializer = adapter.serializer

    def encode(self, value: Any, context: Departing) -> bytes:
        """The value as bytes.

        Raises:
            InvalidPayloadError: it is none of the type, or cannot be encoded.
        """
        try:
            checked = self._validator.validate_python(value)
            return self._serializer.to_json(checked, context=context)
        except ValidationError as error:
            raise InvalidPayloadError(explain(error)) from None
        except (ValueError, RecursionError) as error:
            raise InvalidPayloadError(f"it cannot be encoded: {error}") from error

    def decode(self, data: bytes | memoryview, context: Arrived) -> Any:
        """The value that such bytes stand for.

        Raises:
            InvalidPayloadError: they stand for none.
        """
        try:
            return self._validator.validate_json(bytes(data), context=context)
        except ValidationError as error:
            raise InvalidPayloadError(explain(error)) from None


class Method:
    """A method of an interface.

    Args:
        protocol: the class it is of.
        function: it.

    Attributes:
        name: its own.
        head: that, as it stands in a call.
        full_name: with that of the interface.
        is_oneway: a call is not answered.
        is_async: a call is awaited.
        arguments: those that are given, by name.
        result: what it returns.
        raises: exceptions that come back as themselves, by name.

    Raises:
        TypeError: something in its signature cannot be called from elsewhere.
    """

    def __init__(self, protocol: type[Any], function: Callable[..., Any]) -> None:
        from portkit.remote.annotations import remote_type  # noqa: PLC0415 - types name methods' own

        self.name: str = function.__name__
        self.head: bytes = self.name.encode()
        self.full_name: str = f"{protocol.__name__}.{function.__name__}"
        hints = self._hints(function)
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        fields: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{self.full_name} takes *{parameter.name}: name each argument")
            if parameter.name not in hints:
                raise TypeError(f"{self.full_name} has no annotation for {parameter.name}")
            kind = remote_type(hints[parameter.name])
            fields[parameter.name] = (
                kind if parameter.default is parameter.empty else NotRequired[kind]
            )
        if "return" not in hints:
            raise TypeError(f"{self.full_name} has no annotation for what it returns")
        self._positional = [p.name for p in parameters if p.kind != p.KEYWORD_ONLY]
        self._only_positional = [p.name for p in parameters if p.kind == p.POSITIONAL_ONLY]
        self.is_oneway: bool = getattr(function, "__portkit_oneway__", False)
        self.is_async: bool = inspect.iscoroutinefunction(function)
        errors: tuple[type[Exception], ...] = getattr(function, "__portkit_raises__", ())
        self.raises: dict[str, type[Exception]] = {full_name(error): error for error in errors}
        if self.is_oneway and hints["return"] is not type(None):
            raise TypeError(f"{self.full_name} is one-way and so returns None")
        given: Any = TypedDict("Arguments", fields)  # type: ignore[misc]
        given.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
        try:
            self.arguments: Result = Result(given)
            self.result: Result = Result(remote_type(hints["return"]))
        except PydanticUserError as error:
            raise TypeError(
                f"{self.full_name} has an annotation that nothing can be encoded by: {error}"
            ) from error

    def _hints(self, function: Callable[..., Any]) -> dict[str, Any]:
        try:
            return get_type_hints(function, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"an annotation of {self.full_name} cannot be resolved: {error}; define what it "
                "names in the module"
            ) from error

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            TypeError: there are too many, or one is given twice.
        """
        if len(args) > len(self._positional):
            raise TypeError(
                f"{self.full_name} takes {len(self._positional)} positional arguments, "
                f"not {len(args)}"
            )
        given = dict(zip(self._positional, args, strict=False))
        if not kwargs:
            return given
        twice = given.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{self.full_name} got several values for {', '.join(sorted(twice))}")
        given.update(kwargs)
        return given

    def call(self, target: object, given: dict[str, Any]) -> Any:
        """Call it on the object that has it."""
        if not self._only_positional:
            return getattr(target, self.name)(**given)
        args = [given.pop(name) for name in self._only_positional if name in given]
        return getattr(target, self.name)(*args, **given)


def full_name(error: type[BaseException]) -> str:
    """How an exception's class is named to the other side."""
    return f"{error.__module__}.{error.__qualname__}"


def _adapter(kind: Any) -> TypeAdapter[Any]:
    # An adapter keeps the variables of the function that makes it. With an error among them that
    # would be all callers' too, and the ports in them, until the garbage is collected.
    try:
        return TypeAdapter(kind, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    return TypeAdapter(kind)  # a model, which has a configuration of its own
