"""What tests of ports over TCP share."""

from __future__ import annotations

from tests.transports.socket.pki import pki

__all__ = ["pki"]
