"""Ending a link that carries no right any more: what was written is read, but not for ever."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from portkit._report import logger
from portkit.link import service

if TYPE_CHECKING:
    from portkit.link.link import Link

_MOMENT = 0.05
"""Seconds until it is looked again whether all is written and answered."""
_FAREWELL = 10.0
"""Seconds, or the heartbeat's where these are more, for the peer to take some more of what was
written, or to end the link too: it may go on talking, so that no heartbeat ends it."""
_MOST_FAREWELLS = 12
"""How often it gets them, once all is written."""
_UNNEEDED = "no port is reached by it any more"


class Leaving:
    """How a link says goodbye. All but :meth:`begin` on the service thread.

    Args:
        link: the link.
    """

    __slots__ = ("_has_begun", "_link", "_since", "_unwritten")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._has_begun = False
        self._unwritten = 0
        self._since = 0.0

    def begin(self) -> None:
        """Nothing is left for the link to carry: it ends. Any thread."""
        if not self._has_begun:
            self._has_begun = True
            service.call(self._leave)

    @property
    def _patience(self) -> float:
        return max(_FAREWELL, self._link.node.settings.heartbeat or 0.0)

    def _leave(self) -> None:
        """Once all is written and answered, end; the peer goes last."""
        link = self._link
        loop = service.loop()
        if loop is None or link.is_closed:
            return
        with link.lock:
            if not link.table.is_empty:
                self._has_begun = False
                return
            size = link.outbox.size
            if self._is_stuck(size):
                link.close_later(f"the peer leaves {size} bytes unread that are for it")
                logger.warning("%r is closed: the peer leaves %d bytes unread", link, size)
                return
            if size or link.notes or link.table.asked:
                loop.call_later(_MOMENT, self._leave)
                return
            awaits_peer = link.finish()
        if awaits_peer:
            # It ends when it has read all. Were this side closed before, whatever the peer says
            # meanwhile would reset the connection, and destroy what is on its way.
            link.reading.look_after()
            loop.call_later(self._patience, partial(self._await_peer, _MOST_FAREWELLS, -1))
        else:
            link.close(_UNNEEDED)

    def _is_stuck(self, size: int) -> bool:
        """Whether so much was left to be written for too long."""
        now = monotonic()
        if not size or size != self._unwritten:
            self._unwritten, self._since = size, now
        return self._link.node.settings.heartbeat is not None and (
            now - self._since >= self._patience
        )

    def _await_peer(self, times: int, before: int | None) -> None:
        """The peer has not ended yet; while it takes what was written, it need not."""
        loop, channel = service.loop(), self._link.channel
        if loop is None or channel is None:
            return
        acknowledged = channel.acknowledged()
        if times and acknowledged != before:
            again = partial(self._await_peer, times - 1, acknowledged)
            loop.call_later(self._patience, again)
        else:
            self._link.close(_UNNEEDED)
