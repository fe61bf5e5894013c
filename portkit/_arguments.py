"""Checks of what callers pass, with errors that say what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def check_timeout(timeout: float | None) -> None:
    """Raise unless ``timeout`` is seconds or None.

    Raises:
        TypeError: it is neither a number nor None.
        ValueError: it is NaN.
    """
    if timeout is None or (type(timeout) is float and timeout >= 0.0):
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"a time-out is seconds or None, not {type(timeout).__name__}")
    if math.isnan(timeout):
        raise ValueError("a time-out must be a number of seconds or None, not NaN")


def check_limit(name: str, limit: int) -> int:
    """``limit``, if it is one.

    Args:
        name: of the argument or attribute, for the error.
        limit: how many there may be of something.

    Raises:
        TypeError: it is no int.
        ValueError: it is less than 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"{name} must be an int, not {type(limit).__name__}")
    if limit < 1:
        raise ValueError(f"{name} must be at least 1, not {limit}")
    return limit


def check_size(size: int) -> None:
    """Raise unless ``size`` is how many bytes a buffer can have.

    Raises:
        TypeError: it is no int.
        ValueError: it is less than 1.
    """
    if not isinstance(size, int):
        raise TypeError(f"the size must be an int, not {type(size).__name__}")
    if size < 1:
        raise ValueError(f"a buffer has 1 byte or more, not {size}")


def check_callable(fn: Callable[..., T]) -> Callable[..., T]:
    """``fn``, if it can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(fn):
        raise TypeError(f"what is performed must be callable, not {type(fn).__name__}")
    return fn


def check_kind(item: T, *kinds: type) -> T:
    """``item``, if it is an instance of one of ``kinds``.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(item, kinds):
        wanted = " or ".join([kind.__name__ for kind in kinds])
        raise TypeError(f"expected a {wanted}, not {type(item).__name__}")
    return item
