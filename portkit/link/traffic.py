"""What all links of a transport have carried, those that have ended too."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from portkit import _fork

if TYPE_CHECKING:
    from portkit.link.link import Link


class Traffic(NamedTuple):
    """What was carried.

    Attributes:
        messages_sent, messages_received: answers count.
        bytes_sent, bytes_received: data in shared memory does not count.
    """

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


_lock = Lock()
_ended: dict[str, Traffic] = {}


def of_link(link: Link) -> Traffic:
    """What one link has carried so far."""
    return Traffic(
        link.sending.messages,
        link.incoming.messages,
        link.outbox.written,
        link.incoming.bytes_read,
    )


def link_ended(link: Link) -> None:
    """Remember what the link has carried, once."""
    with _lock:
        if not link.is_counted:
            link.is_counted = True
            _add(_ended, link)


def totals(links: Iterable[Link]) -> dict[str, Traffic]:
    """What was carried by transport: by these links, and by those that have ended."""
    with _lock:
        found = dict(_ended)
        for link in links:
            if not link.is_counted:
                _add(found, link)
        return found


def _add(totals: dict[str, Traffic], link: Link) -> None:
    before = totals.get(link.node.transport, Traffic())
    both = zip(before, of_link(link), strict=True)
    totals[link.node.transport] = Traffic(*[old + new for old, new in both])


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()
    _ended.clear()


_fork.call_in_child(_after_fork_in_child)
