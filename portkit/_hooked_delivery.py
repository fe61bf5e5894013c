"""Giving a message to a delegate where hooks are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portkit.hooks import Delivering
from portkit.message import Envelope, arrived, unpacked
from portkit.port import Port, ReplyPort, check_not_awaitable


class HookedDelivery:
    """One message on its way to a delegate; used as what :meth:`LocalPort.deliver` does without.

    Args:
        port: where it was taken.
        envelope: the message.
        raw, handle: the delegate's methods, of which one is there.

    Attributes:
        begun: whether the delegate's call has begun, as far as signals are concerned.
    """

    __slots__ = ("_envelope", "_handle", "_port", "_raw", "begun")

    def __init__(
        self,
        port: Port,
        envelope: Envelope,
        raw: Callable[..., Any] | None,
        handle: Callable[..., Any] | None,
    ) -> None:
        self._port = port
        self._envelope = envelope
        self._raw = raw
        self._handle = handle
        self.begun: bool = False

    def run(self) -> None:
        """Call hooks and delegate, and answer; the message is lost to others once it has begun."""
        msgid, packed, reply_port, origin = self._envelope
        port, raw, handle = self._port, self._raw, self._handle
        message = arrived(self._envelope, port)
        with Delivering(port, message):
            if origin is not None:
                origin.taken(packed)
            if raw is not None:
                components = unpacked(packed)
                # From here on to the delegate's first line no call: a signal would strike there.
                self.begun = True
                result = raw(port, msgid, components, reply_port)
            else:
                assert handle is not None, "there is a delegate"
                self.begun = True
                result = handle(message)
            if type(reply_port) is ReplyPort:
                if result is not None or not (reply_port.used or reply_port.deferred):
                    reply_port.answer(result)
            elif result is not None:
                check_not_awaitable(result)
