"""What is allowed on the links of a process."""

from __future__ import annotations

from pathlib import Path

from portkit_transports.message import Settings
from portkit_transports.message.host import Host
from portkit_transports.socket.port import SETTINGS


def test_a_process_of_this_host_is_not_asked_for_signs_of_life(folder: Path) -> None:
    assert Host().node.settings.heartbeat is None
    assert Host(Settings(heartbeat=1.0)).node.settings.heartbeat is None


def test_between_hosts_peers_are_asked_whatever_else_is_set() -> None:
    assert SETTINGS.heartbeat == Settings(max_links=1).heartbeat
    assert 0 < (SETTINGS.heartbeat or 0) < 15
