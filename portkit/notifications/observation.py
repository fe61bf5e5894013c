"""One observer of a center: what it wants to know, and how it is told."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from portkit._context import bound
from portkit._report import report
from portkit.notifications.notification import Notification

if TYPE_CHECKING:
    from types import TracebackType

NotificationHandler: TypeAlias = "Callable[[Notification], object]"
"""An observer: called with each notification that it wants to know of."""


class Observation:
    """What ``NotificationCenter.add_observer`` returns: an observer, until it is removed.

    As a context manager it is removed at the end of the block. The center holds it: it may be
    dropped by whoever does not want to remove it.
    """

    __slots__ = ("__weakref__", "_fn", "_given", "_key", "_name", "_retire", "_sender", "_valid")

    def __init__(
        self,
        fn: NotificationHandler,
        name: str | None,
        sender: object,
        *,
        weak: bool,
        retire: Callable[[Observation], None],
    ) -> None:
        """For :class:`NotificationCenter`; not for users."""
        self._valid = True
        self._name = name
        self._retire = retire
        self._key: tuple[str | None, int] = (name, 0 if sender is None else id(sender))
        self._sender: weakref.ref[Any] | None = None
        if sender is not None:
            self._sender = _weak_sender(sender, self._gone)
        self._given: Callable[[], NotificationHandler | None]
        if weak:
            self._given = _weak_handler(fn, self._gone)
            self._fn: NotificationHandler = bound(_Weak(self._given))
        else:
            self._given = lambda: fn
            self._fn = bound(fn)

    @property
    def name(self) -> str | None:
        """The name that is observed; None for all names."""
        return self._name

    @property
    def sender(self) -> Any:
        """The sender that is observed; None for all, or where that one is gone."""
        return None if self._sender is None else self._sender()

    @property
    def is_valid(self) -> bool:
        """Whether the observer is still told. False for ever once False."""
        return self._valid

    @property
    def pending(self) -> int:
        """How many notifications wait until the observer is told; 0 where the poster tells it."""
        return 0

    @property
    def lost(self) -> int:
        """How many the observer was not told of, since too many waited. Each time is reported."""
        return 0

    def remove(self) -> None:
        """Tell the observer of nothing more, also of what waits. Idempotent; takes no lock.

        From any thread, the observer, a signal handler or a finalizer. On the thread where the
        observer is called no call begins after this returns; from another, at most one that was
        about to may still do so.
        """
        if self._valid:
            self._valid = False
            self._retire(self)

    def _tell(self, notification: Notification) -> None:
        """A notification was posted: have the observer called, or call it."""
        self._call(notification)

    def _call(self, notification: Notification) -> None:
        if self._valid:
            try:
                self._fn(notification)
            except Exception as error:
                report("a notification's observer raised", error, self)

    def _wants(self, sender: object) -> bool:
        """Whether that sender is observed: the one that its id stood for may be gone."""
        return self._sender is None or self._sender() is sender

    def _is_of(self, fn: NotificationHandler) -> bool:
        return self._given() == fn

    def _gone(self, ref: object) -> None:
        self.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "" if self._valid else " removed"
        name = "every name" if self._name is None else repr(self._name)
        return f"<{type(self).__name__}{state} of {name} by {self._given()!r}>"


class _Weak:
    """Calls an observer that is held weakly, if it is still there."""

    __slots__ = ("_given",)

    def __init__(self, given: Callable[[], NotificationHandler | None]) -> None:
        self._given = given

    def __call__(self, notification: Notification) -> None:
        fn = self._given()
        if fn is not None:
            fn(notification)


def _weak_sender(sender: object, gone: Callable[[object], None]) -> weakref.ref[Any]:
    try:
        return weakref.ref(sender, gone)
    except TypeError:
        raise TypeError(
            f"a {type(sender).__name__} cannot be observed as a sender: it is to be held weakly, "
            "so it must be an object of a class that allows that; or observe the name alone"
        ) from None


def _weak_handler(
    fn: NotificationHandler, gone: Callable[[object], None]
) -> Callable[[], NotificationHandler | None]:
    if isinstance(fn, types.MethodType):
        return weakref.WeakMethod(fn, gone)
    if not isinstance(fn, types.BuiltinMethodType):  # such a method goes at once, not its object
        try:
            return weakref.ref(fn, gone)
        except TypeError:
            pass
    raise TypeError(f"{fn!r} cannot be held weakly: leave weak=True out, and remove it yourself")
