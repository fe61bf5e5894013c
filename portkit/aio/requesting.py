"""Requests from tasks: thousands may wait for their answers in one event loop."""

from __future__ import annotations

from functools import partial
from typing import TypeVar, overload

import anyio

from portkit import hooks
from portkit._answer import Answer
from portkit._arguments import check_timeout
from portkit.aio.event_loop import Waker, current_event_loop
from portkit.aio.sending import accepted
from portkit.errors import InvalidPortError
from portkit.mailbox import Onlooked
from portkit.message import (
    Body,
    Components,
    Packed,
    PortMessage,
    arrived,
    check_envelope,
    check_reply,
    msgid_of,
    pack,
)
from portkit.port import Port, ReplyPort

B = TypeVar("B", bound=Body)


@overload
async def request(
    port: Port,
    components: Components = (),
    *,
    msgid: int = 0,
    reply: None = None,
    send_timeout: float | None = 5.0,
    reply_timeout: float | None = 5.0,
) -> PortMessage: ...


@overload
async def request(
    port: Port,
    components: Components = (),
    *,
    msgid: int = 0,
    reply: type[B],
    send_timeout: float | None = 5.0,
    reply_timeout: float | None = 5.0,
) -> B: ...


async def request(
    port: Port,
    components: Components = (),
    *,
    msgid: int = 0,
    reply: type[B] | None = None,
    send_timeout: float | None = 5.0,
    reply_timeout: float | None = 5.0,
) -> PortMessage | B:
    """Send a message and wait for its answer; as :meth:`portkit.Port.request`.

    A task that is cancelled meanwhile has given the request up, and whoever holds it is told: see
    :meth:`portkit.PortMessage.add_abandon_handler`.

    Args:
        port: where to.
        components: one component, an iterable of them, or a payload.
        msgid: what the message means, 0 to 2**32-1; a payload brings its own.
        reply: the type of payload that the answer is to be; it is returned then instead of the
            message.
        send_timeout: seconds to wait for room in the receiver's queue.
        reply_timeout: seconds to wait for the answer once the message is accepted; 0 or less looks
            once.

    Raises:
        SendTimeoutError: no room in time (-1).
        ReceiveTimeoutError: no answer in time (-2); a late one is discarded (M10).
        InvalidPortError: the port was invalid already (-3).
        BecameInvalidError: it became invalid with the request unanswered (-5).
        ReplyDroppedError: the receiver let the request go, or its delegate raised.
        InvalidPayloadError: the receiver did not understand the payload; or the answer is none of
            the type ``reply``.
    """
    check_envelope(msgid, None)
    check_timeout(send_timeout)
    check_timeout(reply_timeout)
    if reply is not None:
        check_reply(reply)
    packed = pack(components)
    number = msgid_of(packed, msgid)
    if hooks.active:
        with hooks.Sending(port, hooks.Kind.REQUEST, number, [packed]) as outgoing:
            packed = outgoing._packed[0]
            message = await _request(port, packed, number, send_timeout, reply_timeout)
            outgoing.answer = message
            return message if reply is None else reply.from_message(message)
    message = await _request(port, packed, number, send_timeout, reply_timeout)
    return message if reply is None else reply.from_message(message)


async def _request(
    port: Port,
    packed: Packed,
    msgid: int,
    send_timeout: float | None,
    reply_timeout: float | None,
) -> PortMessage:
    waker = Waker(current_event_loop())
    answer = Answer(waker)
    post = partial(port._post, (msgid, packed, ReplyPort(answer), None), 0.0)
    try:
        await accepted(port, post, send_timeout)
        if reply_timeout is None or reply_timeout > 0:
            await _answered(port, answer, waker, reply_timeout)
        return arrived(answer.result(reply_timeout), None)
    except BaseException:
        answer.abandon()
        raise


async def _answered(port: Port, answer: Answer, waker: Waker, timeout: float | None) -> None:
    reading = _reading(port)
    if reading is not None:
        reading.add_onlooker()
    try:
        with anyio.move_on_after(timeout):
            while True:
                waker.armed = answer
                if answer.done:
                    return
                await waker.wait()
    finally:
        waker.armed = None
        if reading is not None:
            reading.remove_onlooker()


def _reading(port: Port) -> Onlooked | None:
    try:
        room = port._room()
    except InvalidPortError:  # since the request was sent: the answer says so
        return None
    return None if room is None else room.reading
