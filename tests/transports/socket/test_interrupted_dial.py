"""A Ctrl-C, or a machine at its end, in the moment in which dialling begins."""

from __future__ import annotations

import pytest

from portkit.errors import LoopEndedError
from portkit_transports.socket.dialling import Dialling
from tests.support import PATIENCE
from tests.transports.socket.ends import Ends, Server, ends

__all__ = ["ends"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, LoopEndedError])
@pytest.mark.parametrize("before", [True, False])
def test_the_next_use_begins_anew(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], before: bool
) -> None:
    server = Server()
    remote = ends.remote(ends.serve(server))
    begin = Dialling.start

    def start(dialling: Dialling, delay: float = 0.0) -> None:
        if not before:
            begin(dialling, delay)
        raise error

    monkeypatch.setattr(Dialling, "start", start)
    with pytest.raises(error):
        remote.send(b"one", timeout=PATIENCE)
    monkeypatch.undo()
    remote.send(b"two", timeout=PATIENCE)
    assert server.wait(1)
    assert server.kept == [b"two"]
