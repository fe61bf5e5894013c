"""What a port says that is to listen where others can connect unasked."""

from __future__ import annotations

import pytest

from portkit import SocketPort
from portkit_transports.socket import InsecureWarning


def test_the_warning_points_at_the_line_that_makes_the_port() -> None:
    with (
        pytest.warns(InsecureWarning, match="anybody who reaches 0.0.0.0") as warned,
        SocketPort(("0.0.0.0", 0), insecure=True),
    ):
        pass
    assert warned[0].filename == __file__
