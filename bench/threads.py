"""Benchmarks between threads of one process."""

from __future__ import annotations

from functools import partial
from queue import Queue, SimpleQueue

from bench import floor, optional_peers, ours, peers
from bench.measure import (
    BatchReceiver,
    Caller,
    Receiver,
    one_way,
    one_way_batches,
    ping_pong,
    round_trips,
    wake_ups,
)
from bench.model import Benchmark, Contender, Figure
from bench.optional_peers import missing_janus, missing_zmq

LATENCY = (
    Figure("p50", "p50 µs", compared=True, spread=True),
    Figure("p99", "p99 µs"),
    Figure("cpu", "CPU µs"),
)
RATE = (
    Figure("rate", "thousand/s", digits=0, compared=True, rate=True, spread=True),
    Figure("cpu", "CPU µs", digits=2),
)

_CALLERS: tuple[tuple[str, Caller, str], ...] = (
    ("portkit request", ours.request, ""),
    ("portkit request, raw delegate", ours.raw_request, ""),
    ("portkit perform_and_wait", ours.perform_and_wait, ""),
    ("two SimpleQueues", partial(peers.queue_call, SimpleQueue), ""),
    ("two queue.Queues", partial(peers.queue_call, Queue), ""),
    ("asyncio call_soon_threadsafe + future", peers.asyncio_call, ""),
    ("two janus queues", optional_peers.janus_call, missing_janus),
    ("pyzmq inproc REQ/REP", partial(optional_peers.zmq_call, "REQ", "REP"), missing_zmq),
    ("pyzmq inproc PAIR", partial(optional_peers.zmq_call, "PAIR", "PAIR"), missing_zmq),
    ("bare deque + pipe + poll", floor.call, ""),
)

_SEND: tuple[str, Receiver, str] = ("portkit send", ours.send, "")
_PEERS: tuple[tuple[str, Receiver, str], ...] = (
    ("SimpleQueue", partial(peers.queue_send, SimpleQueue), ""),
    ("queue.Queue(1024)", partial(peers.queue_send, peers.bounded_queue), ""),
    ("asyncio call_soon_threadsafe", peers.asyncio_send, ""),
    ("janus queue(1024)", optional_peers.janus_send, missing_janus),
    ("pyzmq inproc PUSH/PULL", optional_peers.zmq_send, missing_zmq),
    ("bare deque + pipe + poll", floor.send, ""),
)
_PERFORM: tuple[str, Receiver, str] = ("portkit perform", ours.perform, "")
_SIGNAL: tuple[str, Receiver, str] = ("portkit signal", ours.signal, "")
_UNBOUNDED: tuple[str, Receiver, str] = (
    "portkit send, no limit",
    partial(ours.send, queue_limit=1 << 30),
    "",
)

_BATCHES: tuple[tuple[str, BatchReceiver, str], ...] = (
    ("portkit send_many", ours.send_many, ""),
    ("SimpleQueue of lists", partial(peers.queue_send_lists, SimpleQueue), ""),
    ("asyncio call_soon_threadsafe of lists", peers.asyncio_send_lists, ""),
    ("pyzmq inproc, multipart", optional_peers.zmq_send_multipart, missing_zmq),
    ("bare deque + pipe + poll", floor.send_many, ""),
)

BENCHMARKS = (
    Benchmark(
        name="request",
        title="Round trip of 64 bytes: a plain thread asks, a loop's thread answers",
        figures=LATENCY,
        contenders=tuple(
            Contender(name, partial(round_trips, way), missing) for name, way, missing in _CALLERS
        ),
        size=5000,
        quick_size=300,
    ),
    Benchmark(
        name="loops",
        title="Round trip of 64 bytes: two threads' loops throw a message to and fro",
        figures=LATENCY,
        contenders=tuple(
            Contender(name, partial(ping_pong, way), missing)
            for name, way, missing in (_SEND, _PERFORM, *_PEERS)
        ),
        size=5000,
        quick_size=300,
    ),
    Benchmark(
        name="one-way",
        title="One way, 64 bytes, message by message, until the last one was handled",
        figures=RATE,
        contenders=tuple(
            Contender(name, partial(one_way, way), missing)
            for name, way, missing in (_SEND, _UNBOUNDED, _PERFORM, *_PEERS)
        ),
        size=100_000,
        quick_size=5000,
    ),
    Benchmark(
        name="batches",
        title="One way, 64 bytes, in batches of 64, until the last one was handled",
        figures=RATE,
        contenders=tuple(
            Contender(name, partial(one_way_batches, way), missing)
            for name, way, missing in _BATCHES
        ),
        size=200_000,
        quick_size=5000,
    ),
    Benchmark(
        name="wake-up",
        title="From the call to the callback of a sleeping thread, with pauses of 2 ms",
        figures=LATENCY,
        contenders=tuple(
            Contender(name, partial(wake_ups, way), missing)
            for name, way, missing in (_SEND, _PERFORM, _SIGNAL, *_PEERS)
        ),
        size=200,
        quick_size=20,
    ),
)
