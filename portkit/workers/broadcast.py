"""Sending a message to many workers."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from portkit._arguments import check_timeout
from portkit.errors import InvalidPortError, SendTimeoutError
from portkit.message import Components, pack
from portkit.workers.worker import Worker


def send_to_all(
    workers: Iterable[Worker], components: Components, msgid: int, timeout: float | None
) -> list[Worker]:
    """Send to every worker that is alive; those that the message went to.

    Args:
        workers: of one group.
        components: one component or an iterable of them.
        msgid: what the message means.
        timeout: seconds for all of them together; each gets one try at least.

    Raises:
        SendTimeoutError: some had no room in time; the others have the message.
    """
    check_timeout(timeout)
    packed = pack(components)
    deadline = None if timeout is None else monotonic() + timeout
    reached: list[Worker] = []
    full: list[str] = []
    for worker in workers:
        if not worker.is_alive:
            continue
        remaining = None if deadline is None else deadline - monotonic()
        try:
            worker.port.send(packed, msgid=msgid, timeout=remaining)
        except SendTimeoutError:
            full.append(worker.name)
        except InvalidPortError:
            pass  # it is just ending; on_worker_lost tells
        else:
            reached.append(worker)
    if full:
        error = SendTimeoutError(
            f"{', '.join(full)} had no room for the message; {len(reached)} others got it"
        )
        error.accepted = len(reached)
        raise error
    return reached
