"""Benchmarks between processes of one host: a client in this process, a server it spawned.

"multiprocessing" is ``multiprocessing.connection`` over a Unix socket. CPU time is that of both
processes; the client is a plain thread.
"""

from __future__ import annotations

from functools import partial

from bench.ipc import bare, c_floor, connection, measure, nng_ipc, our_rights, ours, zmq_ipc
from bench.ipc.c_floor import missing_compiler
from bench.ipc.measure import Once
from bench.ipc.nng_ipc import missing_nng
from bench.ipc.ours import missing_message_port
from bench.ipc.spawn import Serve, Way, missing_memory
from bench.ipc.zmq_ipc import missing_zmq
from bench.measure import Call, Send, SendBatch
from bench.model import Benchmark, Contender, Figure
from bench.threads import LATENCY, RATE

MEBIBYTE = 1 << 20

LARGE = (
    Figure("p50", "p50 ms", digits=3, compared=True, spread=True),
    Figure("max", "max ms", digits=3),
    Figure("cpu", "CPU ms", digits=3),
)
CONNECTIONS = (
    Figure("rate", "per s", digits=0, compared=True, rate=True, spread=True),
    Figure("cpu", "CPU µs", digits=0),
)

_CALLS: tuple[tuple[str, Way[Call], str], ...] = (
    ("portkit request", Way(ours.serve_calls, ours.call), missing_message_port),
    (
        "portkit, raw delegate",
        Way(ours.serve_raw_calls, ours.call),
        missing_message_port,
    ),
    (
        "pyzmq ipc REQ/REP",
        Way(zmq_ipc.serve_calls, partial(zmq_ipc.call, "REQ"), ("REP",)),
        missing_zmq,
    ),
    (
        "pyzmq ipc PAIR",
        Way(zmq_ipc.serve_calls, partial(zmq_ipc.call, "PAIR"), ("PAIR",)),
        missing_zmq,
    ),
    ("pynng ipc REQ/REP", Way(nng_ipc.serve_calls, nng_ipc.call), missing_nng),
    ("multiprocessing", Way(connection.serve_calls, connection.call), ""),
    ("bare Unix socket, Python", Way(bare.serve_calls, bare.call), ""),
)

_SENDS: tuple[tuple[str, Way[Send], str], ...] = (
    ("portkit send", Way(ours.serve_messages, ours.send), missing_message_port),
    ("pyzmq ipc PUSH/PULL", Way(zmq_ipc.serve_messages, zmq_ipc.send), missing_zmq),
    ("pynng ipc PUSH/PULL", Way(nng_ipc.serve_messages, nng_ipc.send), missing_nng),
    ("multiprocessing", Way(connection.serve_messages, connection.send), ""),
    ("bare Unix socket, Python", Way(bare.serve_messages, bare.send), ""),
)

_BATCHES: tuple[tuple[str, Way[SendBatch], str], ...] = (
    ("portkit send_many", Way(ours.serve_messages, ours.send_many), missing_message_port),
    (
        "pyzmq ipc, multipart",
        Way(zmq_ipc.serve_multipart, zmq_ipc.send_multipart),
        missing_zmq,
    ),
    (
        "pyzmq ipc, one by one",
        Way(zmq_ipc.serve_messages, zmq_ipc.send_each),
        missing_zmq,
    ),
    (
        "multiprocessing, lists",
        Way(connection.serve_lists, connection.send_lists),
        "",
    ),
    ("bare Unix socket, Python", Way(bare.serve_messages, bare.send_batch), ""),
)

_LARGE: tuple[tuple[str, Way[Call], str], ...] = (
    ("portkit request", Way(ours.serve_large, ours.call), missing_message_port),
    (
        "portkit, written in place",
        Way(ours.serve_large, ours.call_in_place),
        missing_message_port,
    ),
    (
        "pyzmq ipc REQ/REP",
        Way(zmq_ipc.serve_large, partial(zmq_ipc.call_large, copy=True), ("copy",)),
        missing_zmq,
    ),
    (
        "pyzmq ipc, copy=False",
        Way(zmq_ipc.serve_large, partial(zmq_ipc.call_large, copy=False), ("",)),
        missing_zmq,
    ),
    ("pynng ipc REQ/REP", Way(nng_ipc.serve_acknowledging, nng_ipc.call), missing_nng),
    ("multiprocessing", Way(connection.serve_large, connection.call), ""),
    ("bare Unix socket, Python", Way(bare.serve_large, bare.call_large), ""),
)

_CONNECTIONS: tuple[tuple[str, Way[Once], Serve, str], ...] = (
    ("portkit", Way(ours.serve_many, ours.connect_once), ours.crowd, missing_message_port),
    (
        "pyzmq ipc REQ/ROUTER",
        Way(zmq_ipc.serve_many, zmq_ipc.connect_once),
        zmq_ipc.crowd,
        missing_zmq,
    ),
    (
        "pynng ipc REQ/REP",
        Way(nng_ipc.serve_acknowledging, nng_ipc.connect_once),
        nng_ipc.crowd,
        missing_nng,
    ),
    (
        "multiprocessing, in sequence",
        Way(connection.serve_many, connection.connect_once),
        connection.crowd,
        "",
    ),
    ("bare Unix socket, Python", Way(bare.serve_many, bare.connect_once), bare.crowd, ""),
)

_C = "bare Unix socket, C"


def _large(name: str, mebibytes: int, *, size: int, quick_size: int) -> Benchmark:
    length = mebibytes * MEBIBYTE
    return Benchmark(
        name=name,
        title=f"{mebibytes} MiB to another process, which touches two pages and acknowledges",
        figures=LARGE,
        contenders=(
            *(
                Contender(name, partial(measure.large, way, length), missing)
                for name, way, missing in _LARGE
            ),
            Contender(_C, partial(c_floor.large, length), missing_compiler),
        ),
        size=size,
        quick_size=quick_size,
    )


BENCHMARKS = (
    Benchmark(
        name="process-request",
        title="Round trip of 64 bytes: a plain thread asks, another process answers",
        figures=LATENCY,
        contenders=(
            *(
                Contender(name, partial(measure.round_trips, way), missing)
                for name, way, missing in _CALLS
            ),
            Contender(_C, c_floor.round_trips, missing_compiler),
        ),
        size=2000,
        quick_size=100,
    ),
    Benchmark(
        name="process-one-way",
        title="One way, 64 bytes, message by message, until another process handled the last one",
        figures=RATE,
        contenders=(
            *(
                Contender(name, partial(measure.one_way, way), missing)
                for name, way, missing in _SENDS
            ),
            Contender(_C, c_floor.one_way, missing_compiler),
        ),
        size=30_000,
        quick_size=1000,
    ),
    Benchmark(
        name="process-batches",
        title="One way, 64 bytes, in batches of 64, until another process handled the last one",
        figures=RATE,
        contenders=(
            *(
                Contender(name, partial(measure.one_way_batches, way), missing)
                for name, way, missing in _BATCHES
            ),
            Contender(_C, c_floor.one_way_batches, missing_compiler),
        ),
        size=100_000,
        quick_size=2000,
    ),
    _large("process-1MiB", 1, size=100, quick_size=5),
    _large("process-64MiB", 64, size=6, quick_size=1),
    Benchmark(
        name="process-in-place",
        title="A buffer of portkit's, written in place (two pages), sent, and acknowledged",
        figures=LARGE,
        contenders=tuple(
            Contender(
                f"{kibibytes // 1024} MiB" if kibibytes >= 1024 else f"{kibibytes} KiB",
                partial(measure.large, Way(ours.serve_large, ours.call_in_place), kibibytes << 10),
                missing_message_port,
            )
            for kibibytes in (256, 1 << 10, 16 << 10, 64 << 10, 256 << 10)
        ),
        size=200,
        quick_size=5,
    ),
    Benchmark(
        name="process-connections",
        title="Connect, get an answer, close: one after the other",
        figures=CONNECTIONS,
        contenders=(
            *(
                Contender(name, partial(measure.connections, way), missing)
                for name, way, _, missing in _CONNECTIONS
            ),
            Contender(_C, c_floor.connections, missing_compiler),
        ),
        size=300,
        quick_size=10,
    ),
    Benchmark(
        name="process-memory",
        title="What a server's memory grows by for each process that is connected and idle",
        figures=(Figure("server", "KiB", compared=True, spread=True),),
        contenders=tuple(
            Contender(
                name,
                partial(measure.idle_connections, way.serve, crowd),
                missing or missing_memory,
            )
            for name, way, crowd, missing in _CONNECTIONS
        ),
        size=300,
        quick_size=10,
        pinnings=(False,),
    ),
    Benchmark(
        name="process-ports",
        title="What memory grows by for each anonymous port that another process may send to",
        figures=(
            Figure("owner", "owner's bytes", digits=0, spread=True),
            Figure("holder", "holder's bytes", digits=0, spread=True),
        ),
        contenders=(
            Contender(
                "portkit, handed to another process",
                our_rights.memory,
                missing_message_port or missing_memory,
            ),
            Contender(
                "portkit, kept",
                partial(our_rights.memory, exported=False),
                missing_message_port or missing_memory,
            ),
        ),
        size=10_000,
        quick_size=100,
        pinnings=(False,),
    ),
)
