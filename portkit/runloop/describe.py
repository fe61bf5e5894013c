"""The dump of a run loop for people (CFCopyDescription)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


def describe(loop: RunLoop) -> str:
    """Thread, state, and for each mode its items by kind, with order and fire dates."""
    with loop._lock:
        lines = [
            repr(loop),
            f"  waiting: {loop.is_waiting}, wake-up pending: {loop._woken}",
            f"  batch limit: {loop.batch_limit}",
            f"  common items: {len(loop._table.common_items)}",
        ]
        if loop._stepped is not None:
            lines.append(f"  {loop._stepped!r}")
        for mode in loop._table.modes.values():
            lines += _describe_mode(mode)
    return "\n".join(lines)


def _describe_mode(mode: Mode) -> list[str]:
    common = ", common" if mode.is_common else ""
    lines = [f"  mode {mode.name!r}{common}: {len(mode.items)} items"]
    date = mode.next_fire_date
    if date is not None:
        lines.append(f"    next timer at {date:.3f}")
    items = sorted(mode.items, key=lambda item: (item.kind, getattr(item, "order", 0)))
    lines += [f"    {item.kind}: {item!r}" for item in items]
    return lines
