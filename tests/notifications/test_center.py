"""The center: who is told of what, in the poster's call."""

from __future__ import annotations

import gc
import weakref
from threading import get_ident
from typing import Any

import pytest

from portkit import Notification, NotificationCenter, RunLoop
from tests.notifications.helpers import Observer, Sender
from tests.support import Reports, run_on_thread


@pytest.fixture
def center() -> NotificationCenter:
    return NotificationCenter()


def size(center: NotificationCenter) -> int:
    """How many observations it still holds."""
    return sum(len(entries) for entries in center._table.values())


class TestWhoIsTold:
    def test_by_name_and_sender(self, center: NotificationCenter) -> None:
        one, other = Sender(), Sender()
        told: list[str] = []
        for label, name, sender in (
            ("all", None, None),
            ("a", "a", None),
            ("a of one", "a", one),
            ("one", None, one),
            ("b", "b", None),
            ("a of other", "a", other),
        ):
            center.add_observer(lambda _, label=label: told.append(label), name, sender)  # type: ignore[misc]
        for name, sender, expected in (
            ("a", None, ["all", "a"]),
            ("a", one, ["all", "a", "a of one", "one"]),
            ("a", other, ["all", "a", "a of other"]),
            ("b", one, ["all", "one", "b"]),
            ("c", None, ["all"]),
            ("c", one, ["all", "one"]),
        ):
            center.post(name, sender)
            assert told == expected  # in the order of adding
            told.clear()

    def test_a_sender_is_compared_by_identity(self, center: NotificationCenter) -> None:
        class Equal:
            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]

        observer, sender = Observer(), Equal()
        center.add_observer(observer, "a", sender)
        center.post("a", Equal())
        assert observer.names == []
        center.post("a", sender)
        assert observer.names == ["a"]

    def test_what_is_posted_is_what_arrives(self, center: NotificationCenter) -> None:
        observer, sender = Observer(), Sender()
        center.add_observer(observer)
        center.post("a", sender, {"key": 1})
        whole = Notification("b", sender)
        center.post(whole)
        first, second = observer.notifications
        assert (first.name, first.sender, first.user_info) == ("a", sender, {"key": 1})
        assert second is whole
        assert observer.threads == {get_ident()}

    def test_added_twice_is_told_twice(self, center: NotificationCenter) -> None:
        observer = Observer()
        center.add_observer(observer, "a")
        center.add_observer(observer, "a")
        center.post("a")
        assert observer.names == ["a", "a"]

    def test_centers_are_apart(self, center: NotificationCenter) -> None:
        observer = Observer()
        with NotificationCenter.default().add_observer(observer, "a"):
            center.post("a")
        assert observer.names == []

    def test_the_default_is_the_processes(self) -> None:
        assert NotificationCenter.default() is run_on_thread(NotificationCenter.default)

    def test_posting_to_nobody(self, center: NotificationCenter) -> None:
        center.post("a", Sender(), {"key": 1})

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ((1,), TypeError),
            (("",), ValueError),
            (("a", None, 5), TypeError),
            ((Notification("a"), object()), TypeError),
            ((Notification("a"), None, {}), TypeError),
        ],
    )
    def test_wrong_posts(
        self, center: NotificationCenter, arguments: Any, error: type[Exception]
    ) -> None:
        observer = Observer()
        for _ in range(2):  # with nobody to tell, too
            with pytest.raises(error):
                center.post(*arguments)
            center.add_observer(observer)
        assert observer.notifications == []

    @pytest.mark.own_thread
    def test_wrong_observers(self, center: NotificationCenter) -> None:
        add: Any = center.add_observer
        for arguments, options, error in (
            ((5,), {}, TypeError),
            ((print, 5), {}, TypeError),
            ((print, ""), {}, ValueError),
            ((print, "a", 5), {}, TypeError),  # an int cannot be held weakly
            ((print, "a"), {"limit": 0}, ValueError),
            ((print, "a"), {"limit": True}, TypeError),
            ((print, "a"), {"loop": 5}, TypeError),
            ((print, "a"), {"executor": 5}, TypeError),
            ((print, "a"), {"loop": RunLoop.current(), "executor": 5}, ValueError),
            ((print, "a"), {"loop": RunLoop.current(), "modes": ()}, ValueError),
        ):
            with pytest.raises(error):
                add(*arguments, **options)
        assert size(center) == 0


class TestRemoval:
    def test_by_the_observation(self, center: NotificationCenter) -> None:
        observer = Observer()
        observation = center.add_observer(observer, "a")
        assert (observation.name, observation.sender) == ("a", None)
        states = [observation.is_valid]
        for _ in range(2):
            observation.remove()
            states.append(observation.is_valid)
        center.post("a")
        assert states == [True, False, False]
        assert observer.names == []
        assert size(center) == 0
        assert "removed" in repr(observation)

    def test_at_the_end_of_the_block(self, center: NotificationCenter) -> None:
        observer = Observer()
        with center.add_observer(observer, "a"):
            center.post("a")
        center.post("a")
        assert observer.names == ["a"]

    def test_by_the_center(self, center: NotificationCenter) -> None:
        observation = center.add_observer(Observer(), "a")
        assert center.remove_observer(observation) == 1
        assert center.remove_observer(observation) == 0
        assert size(center) == 0

    def test_of_a_function(self, center: NotificationCenter) -> None:
        """removeObserver:name:object:"""
        observer, other, sender = Observer(), Observer(), Sender()
        for name, source in (("a", None), ("b", None), ("b", sender), (None, sender)):
            center.add_observer(observer.method, name, source)
            center.add_observer(other, name, source)
        assert center.remove_observer(observer.method, "b", sender) == 1
        assert center.remove_observer(observer.method, "b") == 1
        assert center.remove_observer(observer.method, sender=sender) == 1
        assert center.remove_observer(observer.method) == 1
        assert center.remove_observer(observer.method) == 0
        assert size(center) == 4

    def test_during_a_post(self, center: NotificationCenter) -> None:
        """It is not told any more, though it was to be told of this one."""
        told: list[str] = []

        def first(notification: Notification) -> None:
            told.append("first")
            second.remove()
            own.remove()

        own = center.add_observer(first, "a")
        second = center.add_observer(lambda _: told.append("second"), "a")
        center.add_observer(lambda _: told.append("third"), "a")
        center.post("a")
        center.post("a")
        assert told == ["first", "third", "third"]

    def test_adding_during_a_post(self, center: NotificationCenter) -> None:
        """It is told of the next one."""
        added = Observer()

        def adds(notification: Notification) -> None:
            adder.remove()
            center.add_observer(added, "a")

        adder = center.add_observer(adds, "a")
        center.post("a")
        assert added.names == []
        center.post("a")
        assert added.names == ["a"]


class TestErrors:
    def test_the_others_are_told(self, center: NotificationCenter, reports: Reports) -> None:
        observer = Observer()
        error = LookupError("on purpose")

        def fails(notification: Notification) -> None:
            raise error

        center.add_observer(fails, "a")
        center.add_observer(observer, "a")
        center.post("a")
        center.post("a")
        assert observer.names == ["a", "a"]
        assert reports.take() == [error, error]

    @pytest.mark.own_thread
    def test_go_to_the_loops_handler(self, center: NotificationCenter) -> None:
        contexts: list[Any] = []
        RunLoop.current().exception_handler = lambda _, context: contexts.append(context)
        observation = center.add_observer(lambda _: 1 // 0, "a")
        center.post("a")
        (context,) = contexts
        assert isinstance(context["exception"], ZeroDivisionError)
        assert context["source"] is observation

    def test_what_ends_programs_leaves_the_post(self, center: NotificationCenter) -> None:
        def interrupts(notification: Notification) -> None:
            raise KeyboardInterrupt

        center.add_observer(interrupts, "a")
        with pytest.raises(KeyboardInterrupt):
            center.post("a")


class TestReentrancy:
    def test_posting_from_an_observer(self, center: NotificationCenter) -> None:
        told: list[str] = []

        def posts(notification: Notification) -> None:
            told.append("before")
            center.post("b")
            told.append("after")

        center.add_observer(posts, "a")
        center.add_observer(lambda _: told.append("b"), "b")
        center.post("a")
        assert told == ["before", "b", "after"]

    def test_an_observer_may_be_called_within_itself(self, center: NotificationCenter) -> None:
        depths: list[int] = []

        def again(notification: Notification) -> None:
            depth = (notification.user_info or {})["depth"]
            depths.append(depth)
            if depth < 5:
                center.post("a", user_info={"depth": depth + 1})

        center.add_observer(again, "a")
        center.post("a", user_info={"depth": 0})
        assert depths == [0, 1, 2, 3, 4, 5]


class TestWhatIsHeld:
    def test_an_observer_is_held(self, center: NotificationCenter) -> None:
        told: list[str] = []
        center.add_observer(lambda notification: told.append(notification.name), "a")
        gc.collect()
        center.post("a")
        assert told == ["a"]

    def test_a_removed_one_is_not(self, center: NotificationCenter) -> None:
        observer = Observer()
        ref = weakref.ref(observer)
        center.add_observer(observer, "a").remove()
        del observer
        gc.collect()
        assert ref() is None

    def test_weakly_a_method(self, center: NotificationCenter) -> None:
        observer = Observer()
        observation = center.add_observer(observer.method, "a", weak=True)
        gc.collect()
        center.post("a")
        assert observer.names == ["a"]
        ref = weakref.ref(observer)
        del observer
        gc.collect()
        assert ref() is None
        assert not observation.is_valid
        assert size(center) == 0
        center.post("a")

    def test_weakly_a_function(self, center: NotificationCenter) -> None:
        told: list[str] = []

        def function(notification: Notification) -> None:
            told.append(notification.name)

        observation = center.add_observer(function, "a", weak=True)
        center.post("a")
        assert center.remove_observer(function) == 1
        observation = center.add_observer(function, "a", weak=True)
        del function
        gc.collect()
        center.post("a")
        assert told == ["a"]
        assert not observation.is_valid

    def test_weakly_what_goes_in_the_middle_of_a_post(self, center: NotificationCenter) -> None:
        kept = [Observer()]
        center.add_observer(lambda _: kept.clear(), "a")
        center.add_observer(kept[0].method, "a", weak=True)
        center.post("a")
        assert size(center) == 1

    @pytest.mark.parametrize("fn", [[].append, print], ids=["method", "function"])
    def test_weakly_what_cannot_be(self, center: NotificationCenter, fn: Any) -> None:
        with pytest.raises(TypeError, match="leave weak=True out"):
            center.add_observer(fn, "a", weak=True)

    def test_a_sender_is_not_held(self, center: NotificationCenter) -> None:
        observer, sender = Observer(), Sender()
        ref = weakref.ref(sender)
        observation = center.add_observer(observer, "a", sender)
        senders = [observation.sender is sender]
        center.post("a", sender)
        observer.notifications.clear()
        del sender
        gc.collect()
        assert ref() is None
        senders.append(observation.sender is None)
        assert senders == [True, True]
        assert not observation.is_valid
        assert size(center) == 0

    def test_another_in_the_place_of_a_sender(self, center: NotificationCenter) -> None:
        """Its id may be the same."""
        observer = Observer()
        for _ in range(200):
            sender = Sender()
            center.add_observer(observer, "a", sender)
            del sender
            center.post("a", Sender())
        assert observer.notifications == []

    def test_a_sender_that_cannot_be_held_weakly(self, center: NotificationCenter) -> None:
        with pytest.raises(TypeError, match="observe the name alone"):
            center.add_observer(print, "a", "a str")
        observer = Observer()
        center.add_observer(observer, "a")
        center.post("a", "a str")  # it can be a sender all the same
        assert observer.notifications[0].sender == "a str"

    def test_a_center_is_dropped_with_its_observers(self) -> None:
        center, sender = NotificationCenter(), Sender()
        observer = Observer()
        center.add_observer(observer, "a", sender)
        refs: list[weakref.ref[object]] = [weakref.ref(center), weakref.ref(observer)]
        del center, observer
        gc.collect()
        assert [ref() for ref in refs] == [None, None]
