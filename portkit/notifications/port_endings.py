"""The ends of ports, as notifications (P3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from portkit import _handlers
from portkit.errors import LoopEndedError
from portkit.link import service
from portkit.link.remote_port import RemotePort
from portkit.port import Port
from portkit.runloop.blocks import Block
from portkit.runloop.constants import COMMON_MODES

PORT_DID_BECOME_INVALID: Final = "PortDidBecomeInvalid"
"""Posted to the default center once when a port has become invalid: its sender is the port.

For a port of this process, or a handle that is invalidated here, it is posted in the call of
``invalidate()``; for a handle whose port has ended elsewhere, on portkit's service thread. A handle
only learns of the latter if somebody wants to know: observe it with ``sender=`` that handle.
"""


class PortEndings:
    """Posts them, from when somebody observes them first.

    Args:
        post: called with the name and the port.
    """

    def __init__(self, post: Callable[[str, Port], None]) -> None:
        self._post = post

    def observed(self, name: str | None, sender: object) -> None:
        """Somebody observes that, in the center where they are posted."""
        if name is None or name == PORT_DID_BECOME_INVALID:
            _handlers.announce_end = self._announce
            if isinstance(sender, RemotePort) and not sender._handlers:
                sender.add_invalidation_handler(_nobody)  # it only watches its port for handlers

    def _announce(self, port: Port, here: bool) -> None:
        """A port has ended: by a call on this thread, or not ``here``.

        Then this is a thread that runs no callbacks, unless the port was of this process.
        """
        loop = None if here else service.loop()
        if loop is not None:
            try:
                loop._put(_Announcement(self._post, port), wake=True)
                return
            except LoopEndedError:
                pass
        self._post(PORT_DID_BECOME_INVALID, port)


class _Announcement(Block):
    """A post on the service thread; at the end of that if need be."""

    __slots__ = ()

    def __init__(self, post: Callable[[str, Port], None], port: Port) -> None:
        super().__init__(post, (PORT_DID_BECOME_INVALID, port), (COMMON_MODES,))

    def abandon(self, error: LoopEndedError) -> None:
        """The thread ends before it came to this: it does so now."""
        self.run()


def _nobody(port: Port) -> None:
    """The port has ended, which others are told of."""
