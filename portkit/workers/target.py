"""What a worker runs: a callable, or where to import one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from threading import local
from typing import TypeAlias

from portkit.workers.session import Session

Target: TypeAlias = "Callable[[Session], object] | str"


class _Importing(local):
    module: str | None = None


_importing = _Importing()


def check(target: Target | None) -> Target:
    """The target, if it can be one.

    Raises:
        TypeError: it is neither callable nor str.
        ValueError: it is a str that is not ``module:function``.
    """
    if isinstance(target, str):
        module, colon, name = target.partition(":")
        if not (module and colon and name):
            raise ValueError(f"{target!r} does not say what to run: write 'module:function'")
    elif not callable(target):
        if target is None:
            raise TypeError(
                "these workers are started by the group, which is to say what they run: only with "
                "over='message' or 'socket' can target be None, for workers that others start"
            )
        raise TypeError(
            f"a worker's target is a callable or 'module:function', not {type(target).__name__}"
        )
    return target


def resolve(target: Target) -> Callable[[Session], object]:
    """The callable, imported if need be; in the worker, whose environment may differ.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such function.
        TypeError: that is not callable.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    _importing.module, outer = module, _importing.module
    try:
        found: object = import_module(module)
    finally:
        _importing.module = outer
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{target!r} is a {type(found).__name__}, not callable")
    return found


def check_not_importing(target: str) -> None:
    """Raise where this very thread imports the target's module, as a worker of its own would again.

    Raises:
        RuntimeError: it does.
    """
    module = target.partition(":")[0]
    if _importing.module == module:
        raise RuntimeError(
            f"importing {module!r} starts workers, and each of them imports {module!r}: start them "
            'under if __name__ == "__main__":'
        )
