"""What the ports of a process share, where the runtime folder does not stay as it was."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from portkit import MessagePort, NameNotFoundError
from tests.support import PATIENCE
from tests.transports.processes import roles
from tests.transports.processes.child import Child


class TestAFolderThatWasRemoved:
    """Under a running program, as who cleans up temporary files does."""

    def test_comes_back_with_the_next_name(self, folder: Path) -> None:
        with MessagePort("old") as old, Child() as child:
            shutil.rmtree(folder)
            with pytest.raises(NameNotFoundError):
                MessagePort.remote("old").send(b"?")
            with MessagePort("new") as new:
                for name, port in (("old", old), ("new", new)):
                    assert child.call(roles.send_numbers, name, 1) == 1
                    assert port.receive(PATIENCE).data == b"0"
            assert len(list(folder.glob("*.sock"))) == 1
        assert not list(folder.glob("*.sock"))

    def test_a_name_that_another_took_meanwhile_is_lost(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with MessagePort("old"), Child() as child:
            shutil.rmtree(folder)
            child.call(roles.open_port, "old")
            with caplog.at_level(logging.WARNING), MessagePort("new"):
                assert "'old' could not be had back" in caplog.text
