"""Sending from tasks: a full queue is waited for, and the event loop goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from portkit import hooks
from portkit._arguments import check_timeout
from portkit.aio.event_loop import Waker, current_event_loop
from portkit.errors import BecameInvalidError, InvalidPortError, SendTimeoutError
from portkit.mailbox import Room
from portkit.message import (
    Components,
    Envelope,
    PortMessage,
    check_envelope,
    msgid_of,
    pack,
)
from portkit.port import Port


async def send(
    port: Port,
    components: Components = (),
    *,
    msgid: int = 0,
    reply_port: Port | None = None,
    timeout: float | None = 5.0,
) -> None:
    """Send one message; return once it is accepted, not once it is handled.

    A task that is cancelled while it waits has sent nothing.

    Args:
        port: where to.
        components: one component, an iterable of them, or a payload; see :mod:`portkit.message`.
        msgid: what the message means, 0 to 2**32-1; a payload brings its own.
        reply_port: a port at which the receiver can answer; as for :meth:`portkit.Port.send`.
        timeout: seconds to wait for room in the receiver's queue; 0 or less is one try, None waits
            for ever.

    Raises:
        InvalidPortError: the port was invalid already (-3).
        BecameInvalidError: it became invalid during the wait (-5).
        SendTimeoutError: no room in time (-1); nothing was sent.
        TypeError, ValueError: an argument is wrong; nothing was sent.
    """
    check_envelope(msgid, reply_port)
    check_timeout(timeout)
    packed = pack(components)
    number = msgid_of(packed, msgid)
    if not hooks.active:
        await accepted(port, partial(port._send, number, packed, reply_port, 0.0), timeout)
        return
    with hooks.Sending(port, hooks.kind_of(port), number, [packed]) as outgoing:
        packed = outgoing._packed[0]
        await accepted(port, partial(port._send, number, packed, reply_port, 0.0), timeout)


async def send_many(
    port: Port, messages: Iterable[PortMessage | Components], *, timeout: float | None = 5.0
) -> int:
    """Send messages in order, in as few steps as the transport can; return how many.

    Every message is checked before the first is sent. A task that is cancelled may have sent some.

    Args:
        port: where to.
        messages: messages, or the components of messages with msgid 0.
        timeout: seconds for all of them together; 0 or less is one try.

    Raises:
        PortError: as :func:`send`; the error's ``accepted`` says how many went through.
        TypeError, ValueError: a message is wrong, or addressed to another port; nothing was sent.
    """
    check_timeout(timeout)
    envelopes = port._envelopes(messages)
    if not (hooks.active and envelopes):
        return await _post_many(port, envelopes, timeout)
    with hooks.sending_many(port, envelopes) as outgoing:
        return await _post_many(port, outgoing._packed_into(envelopes), timeout)


async def _post_many(port: Port, envelopes: Sequence[Envelope], timeout: float | None) -> int:
    sent = 0

    def attempt() -> None:
        nonlocal sent
        try:
            sent += port._post_many(envelopes[sent:], 0.0)
        except InvalidPortError as error:
            sent = error.accepted = sent + error.accepted
            raise
        except SendTimeoutError as error:
            sent = error.accepted = sent + error.accepted
            raise

    await accepted(port, attempt, timeout)
    return sent


async def accepted(port: Port, attempt: Callable[[], object], timeout: float | None) -> None:
    """Call ``attempt``, which sends without waiting, until it does, whenever there may be room."""
    event_loop = current_event_loop()
    await checkpoint_if_cancelled()
    if not port._is_reached():
        async with event_loop.turn(port):  # of all tasks one looks it up
            if not port._is_reached():
                await to_thread.run_sync(port._room, abandon_on_cancel=True)
    is_try = timeout is not None and timeout <= 0
    room = port._room()
    if is_try or room is None or (room.is_connected and port not in event_loop.turns):
        try:
            attempt()
        except SendTimeoutError:
            if is_try or room is None:
                raise
        else:
            event_loop.flush_soon()
            return
    assert room is not None, "else there was no second try"
    with anyio.move_on_after(timeout):
        async with event_loop.turn(port):
            await _when_room(room, Waker(event_loop), attempt)
            event_loop.flush_soon()
            return
    if not room.is_connected:
        raise SendTimeoutError(f"{port!r} has no connection within {timeout} s: raise timeout=")
    attempt()  # perhaps just now; else it says what is full


async def _when_room(room: Room, waker: Waker, attempt: Callable[[], object]) -> None:
    reading = None
    try:
        await _connected(room, waker)
        reading = room.reading
        if reading is not None:
            reading.add_onlooker()
        while True:
            room.queue_up(waker)
            try:
                attempt()
            except SendTimeoutError:
                pass
            except BecameInvalidError:
                raise
            except InvalidPortError as error:
                became = BecameInvalidError(str(error))
                became.accepted = error.accepted
                raise became from None
            else:
                return
            await waker.wait()
    finally:
        room.leave_queue(waker)
        if reading is not None:
            reading.remove_onlooker()


async def _connected(room: Room, waker: Waker) -> None:
    connected = room.connecting(waker)
    while connected is not None:
        waker.armed = room
        if connected():
            return
        await waker.wait()
