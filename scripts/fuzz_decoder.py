"""Feed the decoder of links damaged streams for some time, and look for what must not be.

Whatever the bytes are and however they are cut, a frame is passed on whole or ``ProtocolError`` is
raised; and both are the same for every cut. A finding is printed as hex, with the seed that gives
it again, and the exit code is 1.

usage: fuzz_decoder.py [--seconds 300] [--seed N]
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import traceback
from random import Random

from portkit.errors import ProtocolError
from portkit.link import frames, greeting
from portkit.link.decoder import LAST, PART_HEAD, Decoder, Limits
from portkit.link.frames import HEADER, HEADER_SIZE, Entry, Frame, Kind, Part

_LIMITS = Limits(message=20_000, components=12, descriptors=4, parts=3)
_SCRATCH_SIZES = (16, 64, 333, 1 << 17)
_STREAM_SIZE = 16
_EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF)
_ROUNDS = 50
"""How many streams are tried between two looks at the clock."""

Outcome = tuple[list[tuple[object, ...]], str]


class _Sink:
    """Keeps what the decoder passes on."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def on_simple(self, kind: int, msgid: int, target: int, once: int, data: bytes) -> None:
        self.events.append((kind, msgid, target, once, data))

    def on_message(  # noqa: PLR0917 - as the decoder calls it
        self,
        kind: int,
        flags: int,
        msgid: int,
        target: int,
        once: int,
        parts: list[bytes | Entry],
    ) -> None:
        self.events.append((kind, flags, msgid, target, once, *parts))

    def on_frame(self, frame: Frame) -> None:
        self.events.append((frame,))
        if frame.kind in {Kind.HELLO, Kind.WELCOME}:
            try:
                greeting.read(frame.body)
            except ProtocolError:
                pass  # the one error that it may raise


def _number(random: Random) -> int:
    return random.choice((1, 2, random.getrandbits(16), random.getrandbits(64)))


def _message(random: Random) -> bytes:
    kind = random.choice((Kind.MESSAGE, Kind.REPLY))
    once = random.choice((0, _number(random)))
    size = random.choice((0, 1, random.randrange(200), random.randrange(6000)))
    if random.random() < 0.4:
        return frames.simple_message(
            kind, _number(random), random.getrandbits(32), once, random.randbytes(size)
        )
    table: list[Entry] = []
    data: list[bytes] = []
    for _ in range(random.randrange(8)):
        part = random.choice(list(Part))
        if part == Part.DATA:
            data.append(random.randbytes(random.randrange(300)))
            table.append(Entry(part, 0, 0, len(data[-1])))
        else:
            table.append(Entry(part, random.getrandbits(32), _number(random), _number(random)))
    flags = random.choice([0, frames.HEADERS]) | (0 if once else frames.REPLY_PORT)
    return frames.message(kind, _number(random), random.getrandbits(32), once, table, data, flags)


def _other(random: Random) -> bytes:
    a, b = _number(random), _number(random)
    record = greeting.greeting(random.randbytes(16), random.getrandbits(22), Limits())
    return random.choice(
        (
            frames.record(random.choice((Kind.HELLO, Kind.WELCOME)), record),
            frames.refusal("no" * random.randrange(50)),
            frames.open_right(a, random.randbytes(16), random.randbytes(16)),
            frames.credit(a, random.getrandbits(32), b),
            frames.release(a, b),
            frames.dead(a),
            frames.failed(a, random.randrange(256), "because"),
            frames.give_up(a),
            frames.segment(a, b),
            frames.segment_return(a),
            frames.segment_forget(a),
            frames.auth(random.randrange(6), random.randbytes(random.randrange(32, 97))),
            frames.ping(),
            frames.pong(),
        )
    )


def _in_parts(random: Random, frame: bytes, stream: int) -> list[bytes]:
    cut = random.randrange(HEADER_SIZE, len(frame))
    head = stream.to_bytes(8, "little")
    first, last = frame[:cut], frame[cut:]
    return [
        HEADER.pack(PART_HEAD + len(first), Kind.PART, 0, 0) + head + first,
        HEADER.pack(PART_HEAD + len(last), Kind.PART, LAST, 0) + head + last,
    ]


def _stream(random: Random) -> bytes:
    """Frames that may follow one another."""
    found: list[bytes] = []
    waiting: list[bytes] = []
    for number in range(random.randrange(1, _STREAM_SIZE)):
        frame = _message(random) if random.random() < 0.5 else _other(random)
        if frame[4] in {Kind.MESSAGE, Kind.REPLY} and random.random() < 0.3:
            first, last = _in_parts(random, frame, number)
            found.append(first)
            waiting.append(last)
            if len(waiting) == _LIMITS.parts:
                found.append(waiting.pop(random.randrange(len(waiting))))
        else:
            found.append(frame)
    return b"".join(found + waiting)


def _damage(random: Random, stream: bytes) -> bytes:
    data = bytearray(stream)
    for _ in range(random.choice((0, 1, 1, 1, 2, 5, 20))):
        at = random.randrange(len(data) + 1)
        match random.randrange(7):
            case 0:
                data[at : at + 1] = bytes([random.choice(_EDGES)])
            case 1 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 2:
                del data[at : at + random.randrange(1, 40)]
            case 3:
                data[at:at] = random.randbytes(random.randrange(1, 40))
            case 4:  # a length or a count that lies
                data[at : at + 4] = random.choice(
                    (
                        random.randrange(50),
                        random.randrange(30_000),
                        random.getrandbits(32),
                    )
                ).to_bytes(4, "little")
            case 5:
                other = random.randrange(len(data) + 1)
                data[at:at] = data[other : other + random.randrange(200)]
            case _:
                del data[at:]
    return bytes(data)


def _outcome(data: bytes, random: Random | None, scratch_size: int, *, greeted: bool) -> Outcome:
    """What comes of the bytes, all at once or cut at random."""
    sink = _Sink()
    decoder = Decoder(sink, _LIMITS)
    decoder.greeted = greeted
    scratch = memoryview(bytearray(scratch_size))
    most = len(data) if random is None else random.choice((1, 3, 30, 1000))
    position = 0
    try:
        while position < len(data):
            buffer = decoder.buffer(scratch)
            size = min(len(buffer), len(data) - position)
            if random is not None:
                size = min(size, random.randint(1, most))
            buffer[:size] = data[position : position + size]
            position += size
            decoder.received(scratch, size)
    except ProtocolError as error:
        return sink.events, str(error)
    return sink.events, ""


def _try(data: bytes, random: Random) -> tuple[str, bool]:
    """Why the decoder is wrong about these bytes, or ""; and whether it refused them."""
    greeted = random.random() < 0.9
    try:
        whole = _outcome(data, None, 1 << 17, greeted=greeted)
        cut = _outcome(data, random, random.choice(_SCRATCH_SIZES), greeted=greeted)
    except Exception:
        return traceback.format_exc(), False
    reason = "" if whole == cut else f"a cut makes a difference: {whole} and {cut}"
    return reason, bool(whole[1])


def main() -> int:
    """The exit code: 1 where there was a finding."""
    parser = argparse.ArgumentParser(description="Feed the decoder of links damaged streams.")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long; 300")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="random by default")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    random = Random(arguments.seed)  # noqa: S311 - it must repeat
    deadline = time.monotonic() + arguments.seconds
    executions = refused = 0
    while time.monotonic() < deadline:
        for _ in range(_ROUNDS):
            data = _damage(random, _stream(random))
            reason, was_refused = _try(data, random)
            if reason:
                print(f"finding after {executions} streams: {reason}\n{data.hex()}")
                return 1
            refused += was_refused
            executions += 1
    print(f"{executions} streams, {refused} of them refused; no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
