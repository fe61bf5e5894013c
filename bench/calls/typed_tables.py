"""Benchmarks of typed messages, between threads and between processes."""

from __future__ import annotations

from functools import partial

from bench import measure, ours
from bench.calls import typed
from bench.calls.payloads import JOB, ORDERED, SHAPES, Shape
from bench.ipc import measure as ipc_measure
from bench.ipc import ours as raw
from bench.ipc.address import Network
from bench.ipc.spawn import Way
from bench.model import Benchmark, Contender
from bench.threads import LATENCY, RATE

_REPEATS = 3
_REQUEST = "portkit request, 64 bytes"
_SEND = "portkit send, 64 bytes"


def _by_hand(shape: Shape) -> str:
    return f"by hand, {shape.name}"


def _typed(shape: Shape) -> str:
    return f"typed, {shape.name}"


_BETWEEN_THREADS = (
    Benchmark(
        name="calls-typed",
        title="Typed request: a plain thread asks, a router on another thread answers",
        figures=LATENCY,
        contenders=(
            Contender(_REQUEST, partial(measure.round_trips, ours.request)),
            *(
                Contender(
                    _typed(shape), partial(measure.round_trips, partial(typed.request, shape))
                )
                for shape in SHAPES
            ),
            *(
                Contender(
                    _by_hand(shape),
                    partial(measure.round_trips, partial(typed.request_by_hand, shape)),
                )
                for shape in (JOB, ORDERED)
            ),
        ),
        size=5000,
        quick_size=300,
    ),
    Benchmark(
        name="calls-typed-one-way",
        title="Typed messages one way to another thread, until its router handled the last one",
        figures=RATE,
        contenders=(
            Contender(_SEND, partial(measure.one_way, ours.send)),
            *(
                Contender(_typed(shape), partial(measure.one_way, partial(typed.send, shape)))
                for shape in SHAPES
            ),
        ),
        size=50_000,
        quick_size=2000,
        pinnings=(False,),
    ),
)


def _between_processes(network: Network) -> tuple[Benchmark, ...]:
    over = "a Unix socket" if network == "ipc" else "TCP"
    missing = raw.missing(network)

    def asked(shape: Shape) -> Contender:
        connect = partial(typed.connect, typed.asking, shape)
        way = Way(typed.serve_requests, connect, network=network)
        return Contender(_typed(shape), partial(ipc_measure.round_trips, way), missing)

    def asked_by_hand(shape: Shape) -> Contender:
        connect = partial(typed.connect, typed.asking_by_hand, shape)
        number = SHAPES.index(shape)
        way = Way(typed.serve_requests_by_hand, connect, (number,), network)
        return Contender(_by_hand(shape), partial(ipc_measure.round_trips, way), missing)

    def sent(shape: Shape) -> Contender:
        way = Way(typed.serve_messages, partial(typed.connect_to_send, shape), network=network)
        return Contender(_typed(shape), partial(ipc_measure.one_way, way), missing)

    untyped = Way(raw.serve_calls, raw.call, network=network)
    untyped_send = Way(raw.serve_messages, raw.send, network=network)
    return (
        Benchmark(
            name=f"calls-typed-{network}",
            title=f"Typed request to another process, over {over}",
            figures=LATENCY,
            contenders=(
                Contender(_REQUEST, partial(ipc_measure.round_trips, untyped), missing),
                *map(asked, SHAPES),
                *map(asked_by_hand, (JOB, ORDERED)),
            ),
            size=2000,
            quick_size=40,
            most_repeats=_REPEATS,
        ),
        Benchmark(
            name=f"calls-typed-one-way-{network}",
            title=f"Typed messages one way to another process, over {over}",
            figures=RATE,
            contenders=(
                Contender(_SEND, partial(ipc_measure.one_way, untyped_send), missing),
                *map(sent, SHAPES),
            ),
            size=20_000,
            quick_size=1000,
            pinnings=(False,),
            most_repeats=_REPEATS,
        ),
    )


BENCHMARKS = (*_BETWEEN_THREADS, *_between_processes("ipc"), *_between_processes("tcp"))
