"""Finding peers that are gone without a word: a link that is silent is asked for a sign of life.

Any byte that came counts. While a slow network takes what was sent before the question, there is no
answer to be had, so that counts too. Not for Unix sockets: the kernel tells of their end, and a
process that is only stopped is not dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.errors import TransportError
from portkit.link import frames
from portkit.runloop import RunLoop, Timer

if TYPE_CHECKING:
    from portkit.link.link import Link

_BEATS = 3
"""How often in the time allowed a link is looked at: first to ask, then to give it up."""


def start_heartbeat(link: Link, loop: RunLoop, silence: float) -> Timer:
    """Look after a link on the service thread until the timer is invalidated.

    Args:
        link: the link.
        loop: the service thread's.
        silence: seconds without a byte after which the peer counts as dead.
    """
    heartbeat = _Heartbeat(link, silence)
    timer = Timer(silence / _BEATS, heartbeat.beat, repeats=True)
    loop.add_timer(timer)
    return timer


class _Heartbeat:
    __slots__ = ("_acknowledged", "_beats", "_bytes", "_link", "_silence")

    def __init__(self, link: Link, silence: float) -> None:
        self._link = link
        self._silence = silence
        self._bytes = 0
        self._acknowledged: int | None = None
        self._beats = 0

    def beat(self, timer: Timer) -> None:
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
