"""What can be an interface, and what cannot; what its annotations come to."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Optional, Protocol, Self, TypeVar

import pytest
from pydantic import Field

from portkit import InvalidPayloadError, MachPort, Port, RemoteError
from portkit.remote import Connection, oneway, raises
from portkit.remote.interface import interface_of
from tests.support import LoopThread

pytestmark = pytest.mark.own_thread

T = TypeVar("T")
K = TypeVar("K")


class Named(Protocol):
    def name(self) -> str: ...


class Aged(Protocol):
    def age(self) -> int: ...


class Both(Named, Aged, Protocol):
    """Of two others; with something of its own, and something private."""

    def both(self) -> str: ...
    def _private(self, *anything: Any) -> None: ...
    def __len__(self) -> int: ...


class Store(Protocol[K, T]):
    def put(self, key: K, value: T) -> None: ...
    def get(self, key: K) -> T | None: ...
    def all(self) -> Iterator[tuple[K, T]]: ...
    def copy(self) -> Self: ...
    def other(self) -> Store[T, K]: ...


class Numbered(Store[int, T], Protocol[T]):
    def first(self) -> T: ...


class Names(Numbered[str], Protocol):
    def longest(self) -> str: ...


class Tree(Protocol):
    """Names itself."""

    def children(self) -> list[Tree]: ...
    def parent(self) -> Optional[Tree]: ...  # noqa: UP045 - as people write


class TestAllowed:
    def test_methods_of_all_protocols_it_is_of(self) -> None:
        assert list(interface_of(Both).methods) == ["age", "name", "both"]

    def test_a_class_that_names_itself(self) -> None:
        assert list(interface_of(Tree).methods) == ["children", "parent"]

    def test_a_generic_one_by_what_it_is_of(self) -> None:
        described = interface_of(Store[int, str])
        assert described.name == "Store[int, str]"
        assert interface_of(Store[int, str]) is described
        assert interface_of(Store[str, int]) is not described
        assert list(interface_of(Names).methods) == [
            "put", "get", "all", "copy", "other", "first", "longest",
        ]  # fmt: skip

    def test_a_port(self) -> None:
        class Ports(Protocol):
            def port(self, port: Port) -> Port: ...

        class Server:
            def port(self, port: Port) -> Port:
                return port

        with (
            MachPort() as door,
            MachPort() as port,
            Connection.serve(door, Server(), Ports),
            Connection.to(door) as connection,
        ):
            assert connection.root(Ports).port(port) is port


class NamesServer:
    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}

    def put(self, key: Any, value: Any) -> None:
        self.found[key] = value

    def get(self, key: Any) -> Any:
        return self.found.get(key)

    def all(self) -> Any:
        return self.found.items()

    def copy(self) -> NamesServer:
        made = type(self)()
        made.found.update(self.found)
        return made

    def other(self) -> NamesServer:
        made = type(self)()
        made.found.update({value: key for key, value in self.found.items()})
        return made

    def first(self) -> Any:
        return next(iter(self.found.values()))

    def longest(self) -> str:
        return str(max(self.found.values(), key=len))


def test_a_generic_one_is_called() -> None:
    with LoopThread() as thread, MachPort() as port:
        service = Connection.serve(port, NamesServer(), Names, loop=thread.loop)
        with service, Connection.to(port) as connection:
            names = connection.root(Names)
            names.put(1, "one")
            names.put(3, "three")
            assert names.get(1) == "one"
            assert names.get(2) is None
            assert list(names.all()) == [(1, "one"), (3, "three")]
            assert names.longest() == "three"
            assert names.copy().first() == "one"
            assert names.other().get("three") == 3
            with pytest.raises(InvalidPayloadError, match=r"Names.put: key"):
                names.put("x", "y")  # type: ignore[arg-type]


class WithProperty(Protocol):
    @property
    def name(self) -> str: ...


class WithAttribute(Protocol):
    name: str


class WithVariable(Protocol):
    name = "x"  # type: ignore[misc]


class WithStatic(Protocol):
    @staticmethod
    def name() -> str: ...


class WithClassMethod(Protocol):
    @classmethod
    def name(cls) -> str: ...


class WithMany(Protocol):
    def name(self, *names: str) -> str: ...


class WithKeywords(Protocol):
    def name(self, **names: str) -> str: ...


class WithoutAnnotation(Protocol):
    def name(self, what) -> str: ...  # type: ignore[no-untyped-def]


class WithoutResult(Protocol):
    def name(self): ...  # type: ignore[no-untyped-def]


class WithUnknown(Protocol):
    def name(self) -> Unknown: ...  # type: ignore[name-defined]  # noqa: F821


class Nothing(Protocol):
    def _private(self) -> None: ...


class WithFunction(Protocol):
    def name(self, what: Callable[[int], int]) -> str: ...


class WithClass(Protocol):
    def name(self, what: object, which: LoopThread) -> str: ...


class OnewayWithResult(Protocol):
    @oneway
    def name(self) -> str: ...


class Either(Protocol):
    def name(self, what: Named | Aged) -> str: ...


class NamesABadOne(Protocol):
    def name(self, what: list[WithProperty] | None) -> str: ...


class StreamsABadOne(Protocol):
    def name(self) -> AsyncIterator[WithProperty]: ...


class Plain:
    def name(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        (WithProperty, "WithProperty.name is no plain method"),
        (WithAttribute, "write one that returns it"),
        (WithVariable, "no plain method"),
        (WithStatic, "no plain method"),
        (WithClassMethod, "no plain method"),
        (WithMany, r"takes \*names: name each"),
        (WithKeywords, r"takes \*names: name each"),
        (WithoutAnnotation, "no annotation for what"),
        (WithoutResult, "no annotation for what it returns"),
        (WithUnknown, "cannot be resolved: name 'Unknown' is not defined; define"),
        (Nothing, "has no public methods"),
        (WithFunction, "no function can go: annotate it with an interface"),
        (WithClass, "WithClass.name has an annotation that nothing can be encoded by"),
        (OnewayWithResult, "one-way and so returns None"),
        (Either, "nothing tells which one comes"),
        (NamesABadOne, "WithProperty.name is no plain method"),
        (StreamsABadOne, "WithProperty.name is no plain method"),
        (Store, "nothing says what ~K is: name the interface as"),
        (Plain, "is a typing.Protocol class, not"),
        (typing.Sized, "is a typing.Protocol class, not"),
        (int, "is a typing.Protocol class, not"),
        ("Named", "is a typing.Protocol class, not"),
        ([], "is a typing.Protocol class, not"),
    ],
)
def test_what_cannot_be_one(protocol: Any, text: str) -> None:
    """It is said where it is served or asked for, each time."""
    for _ in range(2):
        with pytest.raises(TypeError, match=text):
            interface_of(protocol)
        with MachPort() as port, pytest.raises(TypeError, match=text):
            Connection.serve(port, Plain(), protocol)
        with (
            MachPort() as port,
            Connection.to(port) as connection,
            pytest.raises(TypeError, match=text),
        ):
            connection.root(protocol)


def test_what_cannot_be_raised() -> None:
    for error in (KeyboardInterrupt, ValueError(), "ValueError"):
        with pytest.raises(TypeError, match="is no class of these"):
            raises(error)  # type: ignore[arg-type]


class TestDiffering:
    """The two sides have interfaces of one name that are not the same."""

    def call(self, theirs: Any, server: object, ours: Any, *args: Any) -> Any:
        with LoopThread() as thread, MachPort() as port:
            service = Connection.serve(port, server, theirs, loop=thread.loop)
            with service, Connection.to(port) as connection:
                try:
                    return connection.root(ours).act(*args)
                finally:
                    assert connection.is_valid
                    assert connection.root(Alive).alive()

    def test_a_method_that_is_missing_there(self) -> None:
        class Ours(Protocol):
            def act(self, number: int) -> int: ...

        with pytest.raises(InvalidPayloadError, match="Alive has no method 'act' here"):
            self.call(Alive, Server(), Ours, 1)

    def test_a_parameter_of_another_type(self) -> None:
        class Ours(Protocol):
            def act(self, number: str) -> int: ...

        with pytest.raises(InvalidPayloadError, match=r"Theirs.act: number: .*valid integer"):
            self.call(Theirs, Server(), Ours, "many")

    def test_a_parameter_that_is_new_here(self) -> None:
        class Ours(Protocol):
            def act(self, number: int, more: int = 1) -> int: ...

        assert self.call(Theirs, Server(), Ours, 1) == 2
        with pytest.raises(InvalidPayloadError, match="Extra inputs are not permitted"):
            self.call(Theirs, Server(), Ours, 1, 2)

    def test_a_parameter_that_is_missing_here(self) -> None:
        class Ours(Protocol):
            def act(self) -> int: ...

        with pytest.raises(InvalidPayloadError, match=r"Theirs.act: number: Field required"):
            self.call(Theirs, Server(), Ours)

    def test_another_result(self) -> None:
        class Ours(Protocol):
            def act(self, number: int) -> list[str]: ...

        with pytest.raises(InvalidPayloadError, match=r"what Ours.act returned: .*valid array"):
            self.call(Theirs, Server(), Ours, 1)

    def test_one_way_here_only(self) -> None:
        class Ours(Protocol):
            @oneway
            def act(self, number: int) -> None: ...

        assert self.call(Theirs, Server(), Ours, 1) is None

    def test_one_way_there_only(self) -> None:
        class OneWay(Alive, Protocol):
            @oneway
            def act(self, number: int) -> None: ...

        class Ours(Protocol):
            def act(self, number: int) -> None: ...

        assert self.call(OneWay, Silent(), Ours, 1) is None

    def test_a_narrower_type_there(self) -> None:
        class Narrow(Alive, Protocol):
            def act(self, number: Annotated[int, Field(lt=5)]) -> int: ...

        assert self.call(Narrow, Server(), Theirs, 4) == 5
        with pytest.raises(InvalidPayloadError, match="less than 5"):
            self.call(Narrow, Server(), Theirs, 5)

    def test_a_server_that_takes_other_arguments(self) -> None:
        class Other(Server):
            def act(self) -> int:  # type: ignore[override]
                return 1

        with pytest.raises(RemoteError, match="unexpected keyword argument") as caught:
            self.call(Theirs, Other(), Theirs, 1)
        assert caught.value.type == "builtins.TypeError"

    def test_arguments_by_position_only(self) -> None:
        class Positional(Alive, Protocol):
            def act(self, first: int = 1, second: int = 2, /, *, third: int = 3) -> int: ...

        class Server(Silent):
            def act(self, a: int = 10, b: int = 20, /, *, third: int = 30) -> int:  # type: ignore[override]
                return a * 10_000 + b * 100 + third

        assert self.call(Positional, Server(), Positional) == 102_030
        assert self.call(Positional, Server(), Positional, 1) == 12_030
        assert self.call(Positional, Server(), Positional, 1, 2) == 10_230


class Alive(Protocol):
    def alive(self) -> bool: ...


class Theirs(Alive, Protocol):
    def act(self, number: int) -> int: ...


class Silent:
    def alive(self) -> bool:
        return True

    def act(self, number: int) -> None:
        pass


class Server(Silent):
    def act(self, number: int) -> int:  # type: ignore[override]
        return number + 1
