"""Requests between processes, as far as only ports with names have to do with it."""

from __future__ import annotations

import pytest

from portkit import MessagePort, PortError, RunLoop
from portkit.link import service
from tests.ports.helpers import Recorder
from tests.support import LoopThread, eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.roles import Do


def test_at_rest_the_service_thread_sleeps(child: Child) -> None:
    """What looks after links in use has nothing more to do."""
    remote = MessagePort.remote("them")
    with LoopThread() as thread, MessagePort("us", Recorder(b"")) as port:
        thread.loop.add_port(port)
        for _ in range(3):
            child.call(roles.ask, "us")
            remote.request(msgid=Do.WHO)
        loop = service.loop()
        assert loop is not None
        assert eventually(lambda: loop.next_timer_fire_date("default") is None)
        assert child.call(roles.service_is_at_rest)


@pytest.mark.own_thread
@pytest.mark.usefixtures("folder")
def test_that_cannot_be_answered_in_the_waiting_mode_say_so() -> None:
    with MessagePort("us", Recorder(b"!")) as port:
        RunLoop.current().add_port(port)
        with pytest.raises(PortError, match="reply_mode"):
            MessagePort.remote("us").request(b"?")
