"""Context variables flow from where a callback was registered to where it is called.

A callback is called in a copy of the context of its registration, a new copy each time: it may be
called again while it runs, by a nested run of the loop, and a context cannot be entered twice. In
a program without context variables nothing is kept and nothing is copied. Nothing here takes a
lock, so signal handlers and finalizers may register calls.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any] | None")


class _Bound:
    """A callable with the context to call it in. It is shown as the callable itself."""

    __slots__ = ("_context", "fn")

    def __init__(self, fn: Callable[..., Any], context: Context) -> None:
        self.fn = fn
        self._context = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._context.copy().run(self.fn, *args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.fn)


def bound(fn: F) -> F:
    """``fn``, to be called in the present context; as it is where that holds no variables."""
    context = copy_context()
    return cast("F", _Bound(fn, context)) if context and fn is not None else fn


def registered() -> Context | None:
    """The present context, to make calls in copies of; None where it holds no variables."""
    return copy_context() or None


def original(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What :func:`bound` was given, for reports and comparisons."""
    return fn.fn if isinstance(fn, _Bound) else fn


def detached(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``make`` in an empty context: for what the framework registers for itself.

    It may last long, and would keep alive whatever the variables of some caller hold.
    """
    return Context().run(make, *args, **kwargs)
