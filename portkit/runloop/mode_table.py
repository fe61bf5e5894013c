"""The modes of one loop and what is in them; common modes (R42-R44)."""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import TYPE_CHECKING, TypeAlias

from portkit.runloop.constants import COMMON_MODES, DEFAULT_MODE
from portkit.runloop.item import Item
from portkit.runloop.mode import Mode

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop


Modes: TypeAlias = "str | Iterable[str]"
"""The name of a mode, or several."""


def check_mode_name(name: object) -> str:
    """The name, if it can be one.

    Raises:
        TypeError: it is no str.
        ValueError: it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"a mode is named by a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a mode's name must not be empty; the usual one is DEFAULT_MODE")
    return name


_USUAL_NAMES = (COMMON_MODES,)


def check_mode_names(modes: Modes) -> tuple[str, ...]:
    """The names, if they can be some.

    Raises:
        TypeError: one is no str.
        ValueError: one is empty, or there are none.
    """
    if modes is COMMON_MODES:
        return _USUAL_NAMES
    names = (modes,) if isinstance(modes, str) else tuple(modes)
    for name in names:
        check_mode_name(name)
    if not names:
        raise ValueError("a call without modes would never be performed; name at least one")
    return names


class ModeTable:
    """Modes by name, and the items that are in all common modes.

    Attributes:
        lock: guards structure: modes, items, timers. No callout is made under it.
        modes: by name, in the order of their making; a mode stays once made.
        common_items: added to the common modes, and so to every mode that becomes common.
    """

    def __init__(self, loop: RunLoop) -> None:
        self._loop = loop
        self.lock: RLock = RLock()
        self.modes: dict[str, Mode] = {}
        self.common_items: dict[Item, None] = {}
        self.ensure(DEFAULT_MODE).is_common = True

    def ensure(self, name: str) -> Mode:
        """The mode of that name, made if need be."""
        mode = self.modes.get(name)
        if mode is None:
            with self.lock:
                mode = self.modes.setdefault(name, Mode(name))
        return mode

    def common(self) -> list[Mode]:
        """The common modes."""
        return [mode for mode in list(self.modes.values()) if mode.is_common]

    def add_common(self, name: str) -> None:
        """Make a mode common: every common item enters it (R42).

        Raises:
            Exception: why an item could not enter, or what its schedule callout raises; that item
                is not in the mode then, all others are.
        """
        entered: list[Item] = []
        failure: Exception | None = None
        with self.lock:
            mode = self.ensure(name)
            if mode.is_common:
                return
            mode.is_common = True
            for item in self.common_items:
                try:
                    if self._enter(item, mode):
                        entered.append(item)
                except Exception as error:
                    failure = failure or error
        for item in entered:
            try:
                self._schedule(item, [mode])
            except Exception as error:
                self._leave(item, [mode])
                failure = failure or error
        if failure is not None:
            raise failure

    def add(self, item: Item, name: str) -> None:
        """Put the item into a mode, or into all common ones. Adding again does nothing.

        Raises:
            ValueError: the item is invalid, or belongs to another loop.
            Exception: what the item's schedule callout raises; the item is out again then.
        """
        entered: list[Mode] = []
        try:
            with self.lock:
                item._claim(self._loop)  # under the lock: a removal elsewhere would unclaim it
                for mode in self._targets(name):
                    if self._enter(item, mode):
                        entered.append(mode)  # noqa: PERF401 - kept as far as it got
                if name == COMMON_MODES:
                    self.common_items[item] = None
            self._schedule(item, entered)
            if not (item.is_valid or item._only_once()):
                raise ValueError(f"{item!r} was invalidated while it was being added")
        except BaseException:
            if name == COMMON_MODES:
                self.common_items.pop(item, None)
            self._leave(item, entered)
            raise

    def remove(self, item: Item, name: str) -> None:
        """Take the item out of a mode, or out of the common ones if it was added to them (R43).

        Raises:
            LoopEndedError: the process was forked.
            Exception: what the item's cancel callout raises; the item is out all the same.
        """
        self._loop._check_fork()
        with self.lock:
            if name == COMMON_MODES:
                if item not in self.common_items:
                    return
                del self.common_items[item]
            modes = [mode for mode in self._targets(name) if item in mode.items]
        self._cancel(item, self._leave(item, modes))

    def remove_everywhere(self, item: Item) -> None:
        """Take the item out of every mode; errors as :meth:`remove`."""
        with self.lock:
            self.common_items.pop(item, None)
            modes = [mode for mode in self.modes.values() if item in mode.items]
        self._cancel(item, self._leave(item, modes))

    def contains(self, item: Item, name: str) -> bool:
        """Whether the item is in the mode, or was added to the common ones (R43)."""
        if name == COMMON_MODES:
            return item in self.common_items
        mode = self.modes.get(name)
        return mode is not None and item in mode.items

    def all_items(self) -> list[Item]:
        """Every item of the loop, once."""
        with self.lock:
            items = dict(self.common_items)
            for mode in self.modes.values():
                items.update(mode.items)
            return list(items)

    def _targets(self, name: str) -> list[Mode]:
        return self.common() if name == COMMON_MODES else [self.ensure(name)]

    def _enter(self, item: Item, mode: Mode) -> bool:
        if item in mode.items:
            return False
        item._enter(self._loop, mode)
        mode.items[item] = None
        mode.alive += item.keeps_mode_alive
        return True

    def _leave(self, item: Item, modes: Iterable[Mode]) -> list[Mode]:
        """Take the item out of these modes; return those that it really was in."""
        left: list[Mode] = []
        with self.lock:
            for mode in modes:
                if item in mode.items:
                    del mode.items[item]
                    mode.alive -= item.keeps_mode_alive
                    item._leave(self._loop, mode)
                    left.append(mode)
            if item not in self.common_items and not any(
                item in mode.items for mode in self.modes.values()
            ):
                item._unclaim(self._loop)
        for mode in left:
            if mode.alive == 0:
                self._loop._look_again(mode)
        return left

    def _schedule(self, item: Item, modes: list[Mode]) -> None:
        for count, mode in enumerate(modes):
            try:
                item._call_schedule(self._loop, mode)
            except BaseException:
                # Those told before are told that it is off; this one never learned it was on.
                self._cancel(item, self._leave(item, modes[:count]))
                raise

    def _cancel(self, item: Item, modes: list[Mode]) -> None:
        """Make every cancel callout, then raise what the first of them raised, if any did."""
        failure: BaseException | None = None
        for mode in modes:
            try:
                item._call_cancel(self._loop, mode)
            except BaseException as error:
                failure = failure or error
        if failure is not None:
            raise failure
