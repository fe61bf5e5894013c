"""Requests to other processes that are waited for no more: by threads, tasks and what ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from portkit import BecameInvalidError, Port, ReceiveTimeoutError
from portkit.aio import request
from tests.support import eventually
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import Way

BACKENDS = ["asyncio", "trio"]


async def until(child: Child, role: Any, name: str, count: int) -> None:
    """Wait until what the child says of itself is so; its answer takes no time."""
    while child.call(role, name) != count:  # noqa: ASYNC110 - another process changes it
        await anyio.sleep(0.001)


def test_by_a_time_out(child: Child, way: Way) -> None:
    remote = way.remote("them")
    for _ in range(20):
        with pytest.raises(ReceiveTimeoutError):
            remote.request(msgid=Do.WAIT, reply_timeout=0)
    assert eventually(lambda: child.call(roles.given_up, "them") == 20)
    assert child.call(roles.open_requests) == 0
    assert remote.request(b"goes on", msgid=Do.ECHO).data == b"goes on"


def test_by_the_requesters_end(child: Child, third: Child, way: Way) -> None:
    third.begin(roles.ask, "them", b"?", Do.WAIT)
    assert eventually(lambda: child.call(roles.waiting, "them"))
    assert child.call(roles.given_up, "them") == 0
    third.kill()
    assert eventually(lambda: child.call(roles.given_up, "them") == 1)


def test_handed_on_to_a_third(child: Child, third: Child, way: Way) -> None:
    remote, onward = way.remote("them"), way.remote("third")
    with pytest.raises(ReceiveTimeoutError):
        remote.request([b"?", onward], msgid=Do.PASS_ON_TO_WAIT, reply_timeout=0.2)
    assert eventually(lambda: third.call(roles.given_up, "third") == 1)
    assert eventually(lambda: child.call(roles.open_requests) == 0)
    assert third.call(roles.open_requests) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_cancelled_tasks(child: Child, way: Way, backend: str) -> None:
    remote = way.remote("them")
    remote.request(msgid=Do.WHO)  # so that nothing is looked up in the event loop

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(partial(request, remote, msgid=Do.WAIT, reply_timeout=None))
            await until(child, roles.waiting, "them", 50)
            assert child.call(roles.given_up, "them") == 0
            tasks.cancel_scope.cancel()
        await until(child, roles.given_up, "them", 50)

    anyio.run(main, backend=backend)
    assert child.call(roles.open_requests) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["kill", "_exit"])
def test_a_process_that_ends_in_mid_request_ends_the_wait_of_tasks(
    child: Child, way: Way, backend: str, how: str
) -> None:
    remote = way.remote("them")
    remote.request(msgid=Do.WHO)  # so that nothing is looked up in the event loop

    async def fails(remote: Port) -> None:
        with pytest.raises(BecameInvalidError) as caught:
            await request(remote, msgid=Do.WAIT, reply_timeout=None)
        assert caught.value.code == -5

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(fails, remote)
            await until(child, roles.waiting, "them", 10)
            if how == "kill":
                child.kill()
            else:
                child.begin(roles.exit_abruptly)

    anyio.run(main, backend=backend)
