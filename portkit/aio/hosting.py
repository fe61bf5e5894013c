"""The run loop of a thread, run by the event loop of its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from portkit._report import report
from portkit.aio.event_loop import EventLoop, current_event_loop
from portkit.aio.serving import until_given_up
from portkit.message import PortMessage
from portkit.runloop.guest import GuestRun
from portkit.runloop.loop import RunLoop


@asynccontextmanager
async def hosting() -> AsyncIterator[RunLoop]:
    """Have the event loop run the default mode of this thread's run loop as well.

    Meanwhile, what is added to ``RunLoop.current()`` is served: ports, sources, timers, performed
    calls, and the objects of :mod:`portkit.remote`, whose methods may be ``async`` then. Their
    callbacks run between the tasks, so they must not block.

    On an event loop of :func:`portkit.loops.new_event_loop`, which runs it anyway, this is what
    awaits such methods. When it is left, those under way are cancelled, and their callers told.

    Raises:
        PortError: the event loop does so already.
    """
    loop = RunLoop.current()
    event_loop = current_event_loop()
    async with anyio.create_task_group() as tasks:
        hosted = None if loop._stepped is not None else loop.start_guest_run()
        before, loop._task_starter = loop._task_starter, partial(_start, event_loop, tasks)
        try:
            if hosted is not None:
                tasks.start_soon(_drive, hosted)
            yield loop
        finally:
            loop._task_starter = before
            tasks.cancel_scope.cancel()
            if hosted is not None:
                anyio.notify_closing(hosted)
                hosted.end()


async def _drive(run: GuestRun) -> None:
    """Make the passes of the run loop as they are due."""
    delay = 0.0 if run.is_valid else None
    while run.is_valid:
        with anyio.move_on_after(delay):
            await anyio.wait_readable(run)
        if run.is_valid:
            delay = run.process()
        await anyio.lowlevel.checkpoint()


def _start(
    event_loop: EventLoop,
    tasks: TaskGroup,
    message: PortMessage,
    answering: Coroutine[Any, Any, None],
) -> None:
    tasks.start_soon(_answer, event_loop, message, answering)


async def _answer(
    event_loop: EventLoop, message: PortMessage, answering: Coroutine[Any, Any, None]
) -> None:
    try:
        with until_given_up(event_loop, message):
            await answering
            event_loop.flush_soon()
    except Exception as error:
        report("an asynchronous method raised", error, message)
    finally:
        answering.close()
        message.drop()
