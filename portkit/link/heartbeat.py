"""Finding peers that are gone without a word: a link that is silent is asked for a sign of life.

Any byte that came counts. While a slow network takes what was sent before the question, there is no
answer to be had, so that counts too. Not for Unix sockets: the kernel tells of their end, and a
process that is only stopped is not dead.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from portkit._context import detached
from portkit.errors import TransportError
from portkit.link import frames
from portkit.runloop import RunLoop, Timer

if TYPE_CHECKING:
    from portkit.link.link import Link

_BEATS = 3
"""How often in the time allowed a link is looked at: first to ask, then to give it up."""


_TOGETHER = 64
"""How many links have one timer: a wake-up for each would cost more than all that it is for, and
one for thousands would hold the service thread up."""


class Heartbeats:
    """Looks after the links of a node, on the service thread.

    Args:
        silence: seconds without a byte after which a peer counts as dead.
    """

    __slots__ = ("_groups", "_lock", "_silence")

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._lock = Lock()
        self._groups: list[_Group] = []

    def add(self, link: Link, loop: RunLoop) -> None:
        """From now on look after the link; ``loop`` is the service thread's."""
        with self._lock:
            for group in reversed(self._groups):
                if group.loop is loop and len(group.members) < _TOGETHER:
                    break
            else:
                group = _Group(loop, self._silence)
                self._groups.append(group)
            group.members[link] = _Heartbeat(link, self._silence)

    def remove(self, link: Link) -> None:
        """No more."""
        with self._lock:
            for group in self._groups:
                if group.members.pop(link, None) is not None:
                    if not group.members:
                        group.timer.invalidate()
                        self._groups.remove(group)
                    return


class _Group:
    """Links that are looked at together."""

    __slots__ = ("loop", "members", "timer")

    def __init__(self, loop: RunLoop, silence: float) -> None:
        self.loop = loop
        self.members: dict[Link, _Heartbeat] = {}
        self.timer = detached(Timer, silence / _BEATS, self._beat, repeats=True)
        loop.add_timer(self.timer)

    def _beat(self, timer: Timer) -> None:
        for heartbeat in list(self.members.values()):
            heartbeat.beat()


class _Heartbeat:
    """One link's."""

    __slots__ = ("_acknowledged", "_beats", "_bytes", "_link", "_silence")

    def __init__(self, link: Link, silence: float) -> None:
        self._link = link
        self._silence = silence
        self._bytes = 0
        self._acknowledged: int | None = None
        self._beats = 0

    def beat(self) -> None:
        link = self._link
        link.read()  # who should do so may be busy, and the peer is not to suffer for it
        if link.is_closed:
            return
        if link.incoming.bytes_read != self._bytes:
            self._bytes = link.incoming.bytes_read
            self._beats = 0
            return
        channel = link.channel
        acknowledged = None if channel is None else channel.acknowledged()
        before, self._acknowledged = self._acknowledged, acknowledged
        if acknowledged is not None and acknowledged != before:
            self._beats = min(self._beats, 1)  # if it was asked, the question is on its way
            return
        self._beats += 1
        if self._beats >= _BEATS:
            link.refuse(TransportError(f"nothing came from the peer for {self._silence} s"))
        elif self._beats == 1:
            link.table.grant_all()  # by which the peer knows what has arrived
            with link.lock:
                link.write_quietly(frames.ping())
