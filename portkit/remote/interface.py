"""Interfaces: protocol classes, and what of them can be called from elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, get_origin

from portkit.remote.method import Method
from portkit.remote.protocols import is_interface, name_of, variables_of

F = TypeVar("F", bound=Callable[..., Any])


def oneway(method: F) -> F:
    """Mark a method of an interface: a call returns once it is sent, and is not answered (D10).

    What it raises is reported where it runs, and nowhere else. It returns None.
    """
    method.__portkit_oneway__ = True  # type: ignore[attr-defined]
    return method


def raises(*errors: type[Exception]) -> Callable[[F], F]:
    """Say which exceptions of a method come back as themselves, instead of as ``RemoteError``.

    One of a class derived from these comes as the nearest of them. Their ``args`` have to be plain:
    numbers, text, None, and lists and dicts of these; they are made anew from these.
    """
    given: tuple[object, ...] = errors
    for error in given:
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise TypeError(f"a method raises exceptions, and {error!r} is no class of these")

    def mark(method: F) -> F:
        method.__portkit_raises__ = errors  # type: ignore[attr-defined]
        return method

    return mark


class Interface(NamedTuple):
    """What of a protocol class can be called.

    Attributes:
        name: of the class.
        methods: by name.
        protocol: the class.
    """

    name: str
    methods: dict[str, Method]
    protocol: Any

    def check(self, target: object) -> None:
        """Raise unless ``target`` has every method.

        Raises:
            TypeError: it has not; names those missing.
        """
        missing = [name for name in self.methods if not callable(getattr(target, name, None))]
        if missing:
            raise TypeError(f"{target!r} is no {self.name}: it has no {', no '.join(missing)}")


_interfaces: dict[Any, Interface] = {}


def interface_of(protocol: Any) -> Interface:
    """The interface that a protocol class describes.

    Raises:
        TypeError: it is no protocol class; or something in it, or in an interface that it names,
            cannot be called from elsewhere.
    """
    if not is_interface(protocol):
        raise TypeError(f"an interface is a typing.Protocol class, not {protocol!r}")
    found = _interfaces.get(protocol)
    if found is None:
        described: dict[Any, Interface] = {}
        rest = [protocol]
        while rest:
            other = rest.pop()
            if other not in described and other not in _interfaces:
                interface = described[other] = _describe(other)
                rest += [name for method in interface.methods.values() for name in method.named]
        _interfaces.update(described)
        found = _interfaces[protocol]
    return found


def _describe(protocol: Any) -> Interface:
    methods: dict[str, Method] = {}
    variables = variables_of(protocol)
    origin = get_origin(protocol) or protocol
    name_of_protocol = name_of(protocol)
    for base in reversed(origin.__mro__):
        if not is_interface(base):
            continue
        for name in inspect.get_annotations(base):
            if not name.startswith("_"):
                raise TypeError(
                    f"{name_of_protocol}.{name} is no method: write one that returns it"
                )
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if not inspect.isfunction(member):
                raise TypeError(
                    f"{name_of_protocol}.{name} is no plain method, as those of an interface are"
                )
            methods[name] = Method(protocol, name, member, variables.get(base, {}))
    if not methods:
        raise TypeError(f"{name_of_protocol} has no public methods; an interface has some")
    return Interface(name_of_protocol, methods, protocol)
