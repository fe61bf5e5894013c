"""Peers that break the protocol lose their link, with a reason in the log, and nothing else."""

from __future__ import annotations

import logging
import mmap
import os
import re
from collections.abc import Callable, Iterator

import pytest

from portkit import MachPort
from portkit.link import frames, shared_memory
from portkit.link.decoder import LAST, PART_HEAD, Limits
from portkit.link.frames import HEADER, MESSAGE, REPLY_PORT, REQUEST, SIMPLE, Entry, Kind, Part
from portkit.link.greeting import LEAST_SHARED
from portkit.link.node import Settings
from portkit.link.outbox import PART_SIZE
from portkit.link.segment import SMALLEST_SEGMENT
from tests.link.raw import DOOR, OPENED, RawPeer, Victim
from tests.support import PATIENCE, eventually, run_on_thread

MOST = 0xFFFFFFFFFFFFFFFF
LIMITS = Limits(message=1 << 20, components=100, descriptors=8, parts=4, shared=LEAST_SHARED)


@pytest.fixture
def victim() -> Iterator[Victim]:
    with Victim(Settings(limits=LIMITS, pool_limit=1 << 20)) as found:
        yield found
        found.check_unharmed()


def to_door(*entries: Entry, data: bytes = b"", once: int = 0, flags: int = 0) -> bytes:
    pieces = [data] if data else []
    return frames.message(Kind.MESSAGE, DOOR, 0, once, list(entries), pieces, flags)


def simple(target: int, data: bytes = b"x", once: int = 0, kind: Kind = Kind.MESSAGE) -> bytes:
    return frames.simple_message(kind, target, 0, once, data)


def header(length: int, kind: int, flags: int = 0, count: int = 0, body: bytes = b"") -> bytes:
    return HEADER.pack(length, kind, flags, count) + body


def whole(kind: int, flags: int, count: int, body: bytes) -> bytes:
    return header(8 + len(body), kind, flags, count, body)


def head(length: int, flags: int, count: int, once: int = 0) -> bytes:
    return MESSAGE.pack(length, Kind.MESSAGE, flags, count, 0, DOOR, once)


def part(stream: int, body: bytes, flags: int = 0) -> bytes:
    return header(PART_HEAD + len(body), Kind.PART, flags, 0, stream.to_bytes(8, "little") + body)


HELLO = frames.record(Kind.HELLO, b"{}")
AUTH = frames.auth(1, bytes(32) + b"laptop")
MINE = Entry(Part.MINE, 8, 1, 1 << 20)

BROKEN: dict[str, tuple[bytes, str]] = {
    # Bytes that are no frames.
    "garbage": (b"\xff" * 64, "is over the limit"),
    "zeros": (bytes(64), "a frame has at least 8 bytes, not 0"),
    "short length": (header(7, Kind.PING), "a frame has at least 8 bytes, not 7"),
    "type 0": (header(8, 0), "frame type 0 is unknown"),
    "type 99": (header(8, 99), "frame type 99 is unknown"),
    "type 255": (header(9, 255, body=b"x"), "frame type 255 is unknown"),
    "oversized": (header((1 << 20) + 100_000, Kind.MESSAGE, SIMPLE, 1), "is over the limit"),
    "oversized of a small type": (header(1 << 20, Kind.CREDIT), "is over the limit|has 28 to 28"),
    "credit too short": (whole(Kind.CREDIT, 0, 0, bytes(8)), "a CREDIT frame has"),
    "credit too long": (whole(Kind.CREDIT, 0, 0, bytes(80)), "a CREDIT frame has"),
    "ping with a body": (whole(Kind.PING, 0, 0, b"x"), "a PING frame has 8 to 8 bytes, not 9"),
    "failed with a long text": (whole(Kind.FAILED, 0, 0, bytes(3000)), "a FAILED frame has"),
    # Messages that are wrong in themselves.
    "message without its head": (
        whole(Kind.MESSAGE, SIMPLE, 1, b"xx"),
        "a message (has|of 10)",
    ),
    "unknown flags": (head(28, 0x80, 0), "flags 0x80"),
    "flags that exclude each other": (head(28, SIMPLE | REPLY_PORT, 1), "do not go together"),
    "simple with two components": (head(28, SIMPLE, 2), "do not go together"),
    "table cut off": (head(28, 0, 3), "table of 3 components is cut off"),
    "lying count": (head(28, 0, 90), "table of 90 components is cut off"),
    "too many components": (head(28, 0, 102), "over the limit of 100"),
    "lying length": (to_door(Entry(Part.DATA, 0, 0, 50), data=b"x"), "of 50 bytes is cut off"),
    "huge length": (to_door(Entry(Part.DATA, 0, 0, MOST), data=b"x"), "bytes is cut off"),
    "bytes left over": (to_door(Entry(Part.DATA, 0, 0, 1), data=b"xyz"), "2 bytes follow"),
    "unknown component": (to_door(Entry(77, 0, 0, 0)), "component kind 77 is unknown"),
    "reply port is data": (
        to_door(Entry(Part.DATA, 0, 0, 1), data=b"x", flags=frames.REPLY_PORT),
        "reply port is the first of its components, and a port",
    ),
    "reply port is missing": (to_door(flags=frames.REPLY_PORT), "reply port is the first"),
    "request without a right": (head(28, REQUEST, 0), "send-once right"),
    # Parts of messages.
    "part without bytes": (part(1, b""), "a part of a message has a stream, and bytes"),
    "part with unknown flags": (part(1, simple(DOOR)[:10], 0x40), "a part of a message has"),
    "first part without the header": (part(1, b"xxxx"), "first part holds its header"),
    "part of a ping": (part(1, frames.ping(), LAST), "type 14 does not come in parts"),
    "part in part": (part(1, part(2, simple(DOOR)), LAST), "type 16 does not come in parts"),
    "parts too long": (part(1, simple(DOOR) + b"more", LAST), "do not add up"),
    "parts too short": (part(1, simple(DOOR)[:-1], LAST), "do not add up"),
    "parts without the last": (part(1, simple(DOOR)), "do not add up"),
    "part of too much": (part(1, head(1 << 24, SIMPLE, 1)), "is over the limit"),
    "too many parts": (
        b"".join(part(n, simple(DOOR, b"long")[:20]) for n in range(5)),
        "more than 4 messages come in parts",
    ),
    # The handshake again.
    "second hello": (HELLO, "a greeting came that was not due"),
    "welcome": (frames.record(Kind.WELCOME, b"{}"), "a welcome came that was not due"),
    "refusal": (frames.refusal("no"), "a refusal came that was not due"),
    "proof of a key": (AUTH, "give key= on both sides, or on none"),
    # Rights.
    "message to what was never handed out": (simple(7), "the right 7 was never handed out"),
    "message to 0": (simple(0), "the right 0 was never handed out"),
    "message to what was never opened": (simple(OPENED | 9), "was never handed out"),
    "opened twice": (frames.open_right(DOOR, b"D" * 16, b"i" * 16), "is no new number"),
    "opened with the other side's number": (
        frames.open_right(5, b"D" * 16, b"i" * 16),
        "5 is no new number",
    ),
    "answer to no request": (simple(5, kind=Kind.REPLY), "send-once right 5 was never handed out"),
    "answer to 0": (simple(0, kind=Kind.REPLY), "send-once right 0 was never handed out"),
    "failure of no request": (frames.failed(5, 1, "no"), "send-once right 5 was never handed out"),
    "giving up no request": (frames.give_up(5), "request 5 that is given up was never made"),
    "giving up request 0": (frames.give_up(0), "request 0 that is given up was never made"),
    "giving up too short": (whole(Kind.GIVE_UP, 0, 0, bytes(7)), "a GIVE_UP frame has"),
    "release of nothing": (frames.release(7, 1), "the right 7 was never handed out"),
    "release of too many": (frames.release(DOOR, 2), "released more often than handed out"),
    "release of none": (frames.release(DOOR, 0), "released more often than handed out"),
    "release of very many": (frames.release(DOOR, MOST), "released more often than handed out"),
    "message after release": (frames.release(DOOR, 1) + simple(8), "8 was never handed out"),
    "sent home what was never here": (to_door(Entry(Part.YOURS, 0, 9, 0)), "9 was never handed"),
    "right number 0": (to_door(Entry(Part.MINE, 1, 0, 1)), "0 is no number of the peer's"),
    "right of the wrong side": (
        to_door(Entry(Part.MINE, 1, DOOR, 1)),
        "is no number of the peer's",
    ),
    "send-once right 0": (to_door(Entry(Part.ONCE, 0, 0, 0)), "0 is no number of a send-once"),
    # Credit.
    "too many messages": (simple(DOOR) * 5, "without room granted"),
    "too many bytes": (
        frames.message(
            Kind.MESSAGE, DOOR, 0, 0, [Entry(Part.DATA, 0, 0, 65536)] * 8, [bytes(65536)] * 8
        )
        * 3,
        "without room granted",
    ),
    # Memory and descriptors.
    "segment never announced": (to_door(Entry(Part.OUT_OF_LINE, 3, 0, 1)), "segment 3 was never"),
    "segment without a descriptor": (frames.segment(1, 4096), "descriptor that did not come"),
    "return of what was not lent": (frames.segment_return(1), "segment 1 was never lent"),
    "forgetting what was not announced": (frames.segment_forget(1), "1 was never announced"),
    "missing descriptor": (to_door(Entry(Part.DESCRIPTOR, 0, 0, 0)), "that did not come"),
}


def reasons(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", BROKEN)
def test_it_costs_the_link(name: str, victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    data, reason = BROKEN[name]
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send_until_refused(data)
        assert peer.is_dropped()
    assert re.search(reason, reasons(caplog)), reasons(caplog)
    assert not [r for r in caplog.records if r.levelno > logging.WARNING]


@pytest.mark.parametrize("name", BROKEN)
def test_it_costs_the_link_byte_by_byte(name: str, victim: Victim) -> None:
    """However the bytes are cut. Large ones are left out: they are the same, and slow."""
    data, _ = BROKEN[name]
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        for index in range(min(len(data), 2000)):
            peer.send_until_refused(data[index : index + 1])
        peer.send_until_refused(data[2000:])
        assert peer.is_dropped()


@pytest.mark.parametrize("name", BROKEN)
def test_truncated(name: str, victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    data, _ = BROKEN[name]
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send_until_refused(data[: len(data) // 2])
        peer.socket.close()
        assert eventually(lambda: peer.link.is_closed)


BEFORE = {
    "ping": frames.ping(),
    "credit": frames.credit(1, 1, 1),
    "open": frames.open_right(DOOR, b"D" * 16, b"i" * 16),
    "message": simple(DOOR),
    "message to 0": simple(0),
    "request": simple(DOOR, once=1),
    "reply": simple(1, kind=Kind.REPLY),
    "table": to_door(MINE),
    "release": frames.release(1, 1),
    "dead": frames.dead(1),
    "failed": frames.failed(1, 1, "x"),
    "segment": frames.segment(1, 4096),
    "part": part(1, simple(DOOR)[:20]),
}


@pytest.mark.parametrize("dialled", [False, True])
@pytest.mark.parametrize("name", BEFORE)
def test_before_the_greeting(
    name: str, dialled: bool, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node, dialled=dialled) as peer:
        peer.send(BEFORE[name])
        last = peer.rest()[-1]
        assert last.kind == Kind.REFUSED, "it is told why"
        assert b"before the greeting" in last.body
        assert peer.is_dropped()
    assert "came before the greeting" in reasons(caplog)


@pytest.mark.parametrize("dialled", [False, True])
def test_a_key_that_is_not_asked_for(
    dialled: bool, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node, dialled=dialled) as peer:
        peer.send(AUTH)
        last = peer.rest()[-1]
        assert last.kind == Kind.REFUSED, "it is told why"
        assert b"give key= on both sides, or on none" in last.body
        assert peer.is_dropped()
    assert "wants to prove a pre-shared key" in reasons(caplog)


RECORD = (
    b'{"version":1,"incarnation":"00000000000000000000000000000000","pid":1,'
    b'"max_message":1048576,"max_components":1,"max_descriptors":1,"max_parts":1,'
    b'"max_shared":268435456}'
)
GREETINGS = {
    "no JSON": (b"\xff\xfe", "the greeting is wrong"),
    "empty": (b"", "the greeting is wrong"),
    "a list": (b"[]", "the greeting is wrong"),
    "deep": (b"[" * 4000, "the greeting is wrong"),
    "without its parts": (b"{}", "the greeting is wrong: version: Field required"),
    "other version": (RECORD.replace(b":1,", b":2,", 1), "speaks version 2 of the protocol"),
    "bad incarnation": (RECORD.replace(b"0000", b"zzzz", 1), "the greeting is wrong: incarnation"),
    "long incarnation": (RECORD.replace(b'"00', b'"0000', 1), "the greeting is wrong: incarnation"),
    "negative": (RECORD.replace(b'"pid":1', b'"pid":-1'), "the greeting is wrong: pid"),
    "huge number": (RECORD.replace(b'"pid":1', b'"pid":' + b"9" * 3000), "greeting is wrong: pid"),
    "no message fits": (RECORD.replace(b"1048576", b"1"), "the greeting is wrong: max_message"),
    "too long": (RECORD + b" " * 4096, "a (HELLO|WELCOME) frame has|over the limit"),
}


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.WELCOME])
@pytest.mark.parametrize("name", GREETINGS)
def test_bad_greetings(
    name: str, kind: Kind, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    body, reason = GREETINGS[name]
    with (
        caplog.at_level(logging.WARNING),
        RawPeer(victim.right_node, dialled=kind is Kind.WELCOME) as peer,
    ):
        peer.send_until_refused(frames.record(kind, body))
        assert peer.rest()[-1].kind == Kind.REFUSED
        assert peer.is_dropped()
    assert re.search(reason, reasons(caplog)), reasons(caplog)


def test_what_a_later_version_adds_is_ignored(victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.send(frames.record(Kind.HELLO, RECORD[:-1] + b',"colour":"blue"}'))
        assert peer.next().kind == Kind.WELCOME


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (HELLO, "a greeting came that was not due"),
        (frames.record(Kind.WELCOME, RECORD) * 2, "a welcome came that was not due"),
        (frames.record(Kind.WELCOME, RECORD) + frames.refusal("no"), "a refusal came that was"),
    ],
)
def test_greetings_to_who_has_dialled(
    sent: bytes, reason: str, victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node, dialled=True) as peer:
        peer.send(sent)
        assert peer.is_dropped()
    assert reason in reasons(caplog)


# What is odd, but no breach: it changes nothing.

HARMLESS = {
    "credit for what nobody has": frames.credit(5, 1, 1),
    "death of what nobody has": frames.dead(5),
    "pong": frames.pong(),
    "credit without end": frames.credit(1, 0xFFFFFFFF, 0xFFFFFFFF) * 100,
    "message to what was released": frames.release(DOOR, 1) + simple(DOOR),
    "release of what was released": frames.release(DOOR, 1) * 2,
    "right that ends at once": to_door(MINE) + frames.dead(1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(HARMLESS[name] + frames.ping())
        while peer.next().kind != Kind.PONG:
            pass
        assert not peer.link.is_closed


def test_the_wrong_incarnation_is_no_port(victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet()
        peer.send(frames.open_right(DOOR, b"D" * 16, b"i" * 16) + simple(DOOR, once=1))
        assert peer.next().kind == Kind.DEAD
        assert peer.next().kind == Kind.FAILED
        assert victim.door.pending == 0


def test_a_request_to_a_released_right_fails(victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(frames.release(DOOR, 1) + simple(DOOR, once=1))
        assert peer.next().kind == Kind.FAILED


def test_a_second_answer_goes_nowhere(victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(to_door(MINE))
        (port,) = victim.door.receive(PATIENCE).ports
        results: list[bytes | None] = []

        def ask() -> None:
            results.append(port.request(b"?", reply_timeout=PATIENCE).data)

        def answer() -> None:
            while (came := peer.next()).kind != Kind.MESSAGE:
                pass
            _, _, once = (int.from_bytes(came.body[n : n + 8], "little") for n in (0, 4, 12))
            peer.send(simple(once, b"yes", kind=Kind.REPLY) + simple(once, b"no", kind=Kind.REPLY))
            peer.send(frames.failed(once, 1, "no") + frames.ping())
            while peer.next().kind != Kind.PONG:
                pass

        from threading import Thread

        thread = Thread(target=answer)
        thread.start()
        run_on_thread(ask)
        thread.join(PATIENCE)
        assert results == [b"yes"]


# Memory.


def sealed(size: int) -> int:
    fd = shared_memory.create(size)
    shared_memory.map_writable(fd, size).close()
    return fd


def unsealed(size: int) -> int:
    return shared_memory.create(size)


SIZE = mmap.PAGESIZE
USES: dict[str, tuple[Callable[[int], int], bytes, str]] = {
    "unsealed": (unsealed, frames.segment(1, SIZE), "its seals are|no sealed memory"),
    "lying size": (sealed, frames.segment(1, 2 * SIZE), "but has"),
    "no size": (sealed, frames.segment(1, 0), "announced with 0 bytes"),
    "over the limit": (sealed, frames.segment(1, 1 << 40), "is over the limit"),
    "huge": (sealed, frames.segment(1, MOST), "is over the limit"),
    "not memory": (lambda _: os.open("/dev/null", os.O_RDONLY), frames.segment(1, SIZE), "refused"),
    "out of range": (
        sealed,
        frames.segment(1, SIZE) + to_door(Entry(Part.OUT_OF_LINE, 1, 1, SIZE)),
        "are not in segment 1",
    ),
    "far out of range": (
        sealed,
        frames.segment(1, SIZE) + to_door(Entry(Part.OUT_OF_LINE, 1, MOST, 1)),
        "are not in segment 1",
    ),
    "sent twice": (
        sealed,
        frames.segment(1, SIZE) + to_door(Entry(Part.OUT_OF_LINE, 1, 0, 1)) * 2,
        "sent again before it was returned",
    ),
    "forgotten while lent": (
        sealed,
        frames.segment(1, SIZE)
        + to_door(Entry(Part.OUT_OF_LINE, 1, 0, 1))
        + frames.segment_forget(1),
        "retired before it was returned",
    ),
    "other number": (
        sealed,
        frames.segment(1, SIZE) + to_door(Entry(Part.OUT_OF_LINE, 2, 0, 1)),
        "segment 2 was not announced",
    ),
}


@pytest.mark.skipif(not shared_memory.HAS_SEALS, reason="the system has no seals")
@pytest.mark.parametrize("name", USES)
def test_memory(name: str, victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    make, data, reason = USES[name]
    fd = make(SIZE)
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(data, [fd])
        os.close(fd)
        assert peer.is_dropped()
    assert re.search(reason, reasons(caplog)), reasons(caplog)
    while victim.door.pending:  # what lies there is readable still, and is let go
        victim.door.receive(0)


@pytest.mark.skipif(not shared_memory.HAS_SEALS, reason="the system has no seals")
def test_very_many_very_small_segments(victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    """They would use up the maps that the kernel allows the whole process."""
    fd = sealed(SIZE)
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node) as peer:
        peer.greet()
        try:
            for number in range(1, LEAST_SHARED // SMALLEST_SEGMENT + 3):
                peer.send(frames.segment(number, SIZE), [fd])
        except (BrokenPipeError, ConnectionResetError):
            pass
        os.close(fd)
        assert peer.is_dropped()
    assert "segments were announced: they are too small" in reasons(caplog)


# Descriptors.


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_descriptors_that_no_frame_counts(
    victim: Victim, null: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node) as peer:
        peer.greet()
        for _ in range(3):
            try:
                peer.send(frames.pong(), [null] * 200)
            except (BrokenPipeError, ConnectionResetError):
                break
        assert peer.is_dropped()
    assert "descriptors came without frames that count them" in reasons(caplog)


def test_more_descriptors_than_a_message_may_have(
    victim: Victim, null: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        peer.send(to_door(*[Entry(Part.DESCRIPTOR, 0, 0, 0)] * 9), [null] * 9)
        assert peer.is_dropped()
    assert "9 descriptors is over the limit of 8" in reasons(caplog)


def test_descriptors_of_a_peer_that_ends_are_closed(victim: Victim, null: int) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet()
        peer.send(frames.pong(), [null] * 10)
        peer.send(frames.ping())
        assert peer.next().kind == Kind.PONG


# How much: what a lawful peer may just do, and what it does in the middle of it.


def test_a_lawful_message_of_the_largest_size_arrives(victim: Victim) -> None:
    with RawPeer(victim.right_node) as peer:
        peer.greet().open_door()
        size = LIMITS.message // 100
        entries = [Entry(Part.DATA, 0, 0, size)] * 100
        body = [bytes(size)] * 100
        with MachPort(queue_limit=4) as wide:
            victim.ports[b"W" * 16] = wide
            peer.send(frames.open_right(DOOR + 1, b"W" * 16, victim.right_node.incarnation))
            peer.send(frames.message(Kind.MESSAGE, DOOR + 1, 0, 0, entries, body))
            assert len(wide.receive(PATIENCE).components) == 100


def test_many_large_messages_at_once_keep_to_the_peers_limit(victim: Victim) -> None:
    """More ports than messages that may come in parts at the same time."""
    ports = [MachPort() for _ in range(10)]
    try:
        for port in ports:
            victim.open(port).send([bytes(PART_SIZE), bytes(PART_SIZE)], timeout=PATIENCE)
        for port in ports:
            assert len(port.receive(PATIENCE).components) == 2
    finally:
        for port in ports:
            port.invalidate()
