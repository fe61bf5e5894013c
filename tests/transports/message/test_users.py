"""Which users may connect."""

from __future__ import annotations

import os
import socket

import pytest

from portkit.message import Sender
from portkit_transports.message import host as host_module
from portkit_transports.message.channel import UnixChannel


def test_a_process_is_its_effective_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel says of peers, and as the runtime folder is owned: in a setuid program, too."""
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    near, far = socket.socketpair()
    with near:
        channel = UnixChannel(far)
        assert channel.sender == Sender(os.getpid(), os.geteuid())
        assert host_module._refusal(channel.sender) == ""
        del channel
