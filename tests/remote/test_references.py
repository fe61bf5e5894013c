"""Objects that go by reference: what is the same stays the same, and nothing stays for ever."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Protocol

import pytest

from portkit import (
    InvalidPayloadError,
    InvalidPortError,
    MachPort,
    PortError,
    RemoteError,
    RunLoop,
)
from portkit.remote import Connection
from portkit.remote.exports import Exports
from portkit.remote.messages import Kind
from tests.ports.helpers import Background
from tests.remote import roles
from tests.remote.desk import Desk, DeskServer, Item, Thing
from tests.remote.sides import InProcess, There, connected
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread


class Named(Protocol):
    """Less than an :class:`Item`."""

    def name(self) -> str: ...


class Showing(Protocol):
    """What hands an item on."""

    def show(self) -> Named: ...


class TestIdentity:
    def test_the_same_object_is_the_same_proxy(self, there: There) -> None:
        """D11."""
        with connected() as (_, desk):
            thing = Thing("ours")
            desk.keep(thing)
            assert desk.same_as_kept(thing)
            theirs = desk.item("theirs")
            desk.keep(theirs)
            assert desk.kept() is theirs
            assert desk.kept() != desk.item("theirs")

    def test_a_proxy_sent_home_is_the_original(self, there: There) -> None:
        with connected() as (_, desk):
            item = desk.item("theirs")
            assert desk.is_own(item)
            thing = Thing("ours")
            desk.keep(thing)
            assert desk.kept() is thing
            assert not desk.is_own(thing)

    def test_in_a_structure(self, there: There) -> None:
        with connected() as (_, desk):
            found = desk.items(["a", "b"])
            assert {name: item.name() for name, item in found.items()} == {"a": "a", "b": "b"}
            assert not desk.items([])

    def test_by_two_interfaces(self, there: There) -> None:
        with connected() as (connection, desk):
            item = connection.root(Item)
            assert item is not desk  # type: ignore[comparison-overlap]
            assert connection.root(Desk) is desk
            assert connection.root(Item) is item
            with pytest.raises(InvalidPayloadError, match=r"Desk has no method 'name' here"):
                item.name()

    def test_none_where_that_may_be(self, there: There) -> None:
        with connected() as (_, desk):
            desk.keep(None)
            assert desk.kept() is None

    def test_called_by_reference(self, there: There) -> None:
        with connected() as (_, desk):
            item = desk.item("old")
            item.rename("new")
            assert item.name() == "new"
            thing = Thing("ours")
            desk.keep(thing)
            kept = desk.kept()
            assert kept is not None
            kept.rename("renamed")
            assert thing.name() == "renamed"

    def test_there_and_back_in_a_callback(self, there: There) -> None:
        class Telling:
            def tell(self, item: Item) -> Item:
                told.append(item)
                return item

        told: list[Item] = []
        with connected() as (_, desk):
            thing, item = Thing("a"), desk.item("b")
            assert desk.tell(Telling(), thing) is thing
            assert desk.tell(Telling(), item) is item
            assert told[0] is thing
            assert told[1] is item
            told.clear()


class TestProxies:
    def test_have_only_the_methods(self, there: There) -> None:
        with connected() as (_, desk):
            with pytest.raises(AttributeError, match="Desk has no 'vanish'; it has add, echo"):
                desk.vanish()  # type: ignore[attr-defined]
            with pytest.raises(AttributeError, match="methods only"):
                desk.colour = "red"  # type: ignore[attr-defined]
            for name in ("_notes", "__dict__", "__len__", "__call__"):
                assert not hasattr(desk, name)

    def test_are_copied_as_themselves_and_not_pickled(self, there: There) -> None:
        with connected() as (_, desk):
            assert copy.copy(desk) is desk
            assert copy.deepcopy([desk]) == [desk]
            with pytest.raises(TypeError, match="argument or result"):
                pickle.dumps(desk)
            assert "Desk" in repr(desk)
            assert desk != 3  # type: ignore[comparison-overlap]

    def test_arguments_are_checked_as_a_functions(self, there: There) -> None:
        with connected() as (connection, desk):
            for args, kwargs, text in [
                ((), {}, "Desk.add needs a value for left"),
                ((1, 2, 3), {}, "takes 2 positional arguments, not 3"),
                ((1,), {"left": 2}, "several values for left"),
                ((1,), {"middle": 2, "up": 1}, "takes no middle, no up; it takes left, right"),
            ]:
                with pytest.raises(TypeError, match=text):
                    desk.add(*args, **kwargs)
            assert connection.statistics().served == 0
            with pytest.raises(InvalidPayloadError, match=r"Desk.add: left: .*valid integer"):
                desk.add("many")  # type: ignore[arg-type]
            with pytest.raises(InvalidPayloadError, match=r"Desk.keep: item"):
                desk.keep(object())  # type: ignore[arg-type]


class TestRelease:
    def test_with_the_last_proxy(self, there: There) -> None:
        with connected() as (_, desk):
            items = [desk.item(str(number)) for number in range(20)]
            twice = desk.items(["a"])
            assert desk.alive() == 21
            del items[5:]
            assert eventually(lambda: desk.alive() == 6)
            items.clear()
            twice.clear()
            assert eventually(lambda: desk.alive() == 0)
            assert there.call(roles.statistics, "desk")[0].objects == 1

    def test_by_the_garbage_collection(self, there: There) -> None:
        with connected() as (_, desk):
            ring = [desk.item("a")]
            ring.append(ring)  # type: ignore[arg-type]
            del ring
            gc.collect()
            assert eventually(lambda: desk.alive() == 0)

    def test_of_what_was_handed_over(self, there: There) -> None:
        with connected() as (_, desk):
            thing = Thing("ours")
            gone = weakref.ref(thing)
            desk.keep(thing)
            del thing
            assert gone() is not None
            desk.keep(None)
            assert eventually(lambda: desk.add(1) and gone() is None)

    def test_with_the_connection(self, there: There) -> None:
        with connected() as (_, desk):
            item = desk.item("a")
            assert desk.alive() == 1
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)
        with connected() as (_, other):
            assert eventually(lambda: other.alive() == 0)
        with pytest.raises(InvalidPortError, match="make another one"):
            item.name()

    def test_with_a_connection_that_nobody_has_any_more(self, there: There) -> None:
        connection = Connection.to(Here.way.remote("desk"), timeout=PATIENCE)
        desk = connection.root(Desk)
        assert desk.add(1) == 2
        del connection, desk
        gc.collect()
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)

    def test_a_callback_keeps_its_connection(self, there: There) -> None:
        """The program may let go of the proxies; what it handed over is called all the same."""
        thing = Thing("ours")
        connection = Connection.to(Here.way.remote("desk"), timeout=PATIENCE)
        connection.root(Desk).keep(thing)
        del connection
        gc.collect()
        with connected() as (_, desk):
            kept = desk.kept()
            assert kept is not None
            kept.rename("called")
            assert thing.name() == "called"
            desk.keep(None)
        gc.collect()

    def test_the_same_object_again_after_it_was_released(self, there: There) -> None:
        thing = Thing("ours")
        with connected() as (connection, desk):
            for _ in range(50):
                desk.keep(thing)
                desk.keep(None)
            desk.keep(thing)
            assert desk.same_as_kept(thing)
            assert eventually(lambda: desk.add(1) and connection.statistics().objects == 1)

    def test_many_at_once(self, there: There) -> None:
        there.call(roles.serve, "small", {"max_objects": 10})
        with connected("small") as (_, desk):
            with pytest.raises(RemoteError, match="which is the limit") as caught:
                desk.items([str(number) for number in range(11)])
            assert caught.value.type == "portkit.errors.PortError"
            assert eventually(lambda: len(desk.items(["a", "b"])) == 2)

    def test_many_of_ours(self, there: There) -> None:
        class Telling:
            def tell(self, item: Item) -> Item:
                return item

        with connected(max_objects=1) as (_, desk):
            with pytest.raises(PortError, match="raise max_objects=") as caught:
                desk.tell(Telling(), Thing("a"))
            assert type(caught.value) is PortError
            desk.keep(Thing("a"))


def test_ctrl_c_while_an_object_is_written(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """pydantic takes it for an error of what it writes."""

    def strike(*args: object) -> None:
        raise KeyboardInterrupt

    with connected() as (_, desk):
        with monkeypatch.context() as patched:
            patched.setattr(Exports, "_add", strike)
            with pytest.raises(KeyboardInterrupt):
                desk.keep(Thing("ours"))
        desk.keep(Thing("ours"))


class TestThreeSides:
    def test_handed_on_it_is_a_proxy_that_works(self, there: There, third: There) -> None:
        thing = Thing("ours")
        with connected() as (_, desk):
            assert desk.relay("third", thing) is thing
            assert thing.name() == "ours relayed"
            item = desk.item("theirs")
            assert desk.relay("third", item) is item
            assert item.name() == "theirs relayed"

    def test_home_by_another_route(self, there: There, third: There) -> None:
        """As a proxy: unequal to the object, but working."""
        thing = Thing("ours")
        with connected() as (_, desk), connected("third") as (_, other):
            desk.keep(thing)
            kept = desk.kept()
            assert kept is thing
            item = desk.item("theirs")
            other.keep(item)
            back = other.kept()
            assert back is not None
            assert back.name() == "theirs"
            desk.keep(back)
            again = desk.kept()
            assert again is not None
            again.rename("far")
            assert item.name() == "far"

    def test_only_by_the_interface_that_it_was_handed_on_with(self, there: There) -> None:
        """The port of a proxy would do all that the proxy does."""

        class Owner:
            def show(self) -> Named:
                return item

        with connected() as (_, desk), LoopThread() as thread, MachPort() as port:
            item = desk.item("theirs")
            with Connection.serve(port, Owner(), Showing):

                def try_it() -> None:
                    with Connection.to(port, timeout=PATIENCE) as connection:
                        named = connection.root(Showing).show()
                        assert named.name() == "theirs"
                        assert connection.root(Showing).show() is named
                        call = b'rename 1\n[{"name": "stolen"}]'
                        with pytest.raises(InvalidPayloadError, match="Named has no method"):
                            named._port.request(call, msgid=Kind.CALL)  # type: ignore[attr-defined]

                done = Background(lambda: thread.call(try_it))
                while done.is_alive():
                    RunLoop.current().run_in_mode("default", 0.01)
                done.result()
            assert item.name() == "theirs"

    def test_it_ends_with_who_handed_it_on(self, there: There, third: There) -> None:
        with connected("third") as (_, other):
            with connected() as (_, desk):
                other.keep(desk.item("theirs"))
                kept = other.kept()
                assert kept is not None
                assert kept.name() == "theirs"
                del desk
            assert eventually(lambda: there.call(roles.connections, "desk") == 0)
            with pytest.raises((InvalidPortError, RemoteError)):
                kept.name()


def test_with_another_process_the_original_is_there(there: There) -> None:
    with connected() as (_, desk):
        if isinstance(there, InProcess):
            assert desk.process() == there.child.pid
        assert desk.descend(DeskServer(), 1) == 2
