"""zenoh over TCP, plain and by TLS: two peers that know each other's address, and no router."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

from bench.ipc.address import Address, Network, certificate
from bench.ipc.crowd import gather
from bench.ipc.measure import Once
from bench.ipc.server import ACK, Control, touch
from bench.ipc.spawn import PATIENCE
from bench.measure import PAYLOAD, Call, Send
from bench.optional import missing as missing_module
from bench.optional import optional

zenoh = optional("zenoh")

_KEY = "bench/there"
_BACK = "bench/back"


def missing(_: Network) -> str:
    """Why it cannot be measured, or ""."""
    return missing_module(zenoh)


def title(network: Network) -> str:
    """What the rows call it."""
    return "zenoh tls" if network == "tls" else "zenoh tcp"


def _session(address: Address, *, listens: bool) -> Any:
    kind = "tls" if address.network == "tls" else "tcp"
    endpoints = [f"{kind}/{address.host}:{address.port}"]
    settings: dict[str, Any] = {
        "mode": "peer",
        "listen/endpoints": endpoints if listens else [],
        "connect/endpoints": [] if listens else endpoints,
        "connect/timeout_ms": int(PATIENCE * 1000),
        "connect/exit_on_failure": True,
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "transport/unicast/max_sessions": 1 << 16,
        "transport/shared_memory/enabled": False,  # it is not to find that this is one host
    }
    if kind == "tls":
        authority, own, key = certificate(address, "server" if listens else "client")
        side = "listen" if listens else "connect"
        settings |= {
            "transport/link/tls/root_ca_certificate": str(authority),
            f"transport/link/tls/{side}_certificate": str(own),
            f"transport/link/tls/{side}_private_key": str(key),
            "transport/link/tls/enable_mtls": True,
        }
    config = zenoh.Config()
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return zenoh.open(config)


def _serve(address: Address, control: Control, declare: Callable[[Any], object]) -> None:
    session = _session(address, listens=True)
    kept = declare(session)
    control.ready()
    Event().wait()
    del kept


@contextmanager
def _connected(address: Address) -> Iterator[Any]:
    with _session(address, listens=False) as session:
        yield session


def _answering(answer: Callable[[bytes], bytes]) -> Callable[[Any], object]:
    def on_query(query: Any) -> None:
        with query:
            query.reply(_KEY, answer(query.payload.to_bytes()))

    return lambda session: session.declare_queryable(_KEY, on_query)


def _acknowledge(payload: bytes) -> bytes:
    touch(payload)
    return ACK


def serve_calls(address: Address, control: Control) -> None:
    """A queryable that sends back what comes."""
    _serve(address, control, _answering(lambda payload: payload))


def serve_acknowledging(address: Address, control: Control, *_: str) -> None:
    """A queryable that touches what comes, from whomever, and says so."""
    _serve(address, control, _answering(_acknowledge))


def _ask(querier: Any, payload: bytes) -> bytes:
    for reply in querier.get(payload=payload):
        answer: bytes = reply.ok.payload.to_bytes()
        return answer
    raise RuntimeError("nobody answered")


@contextmanager
def call(address: Address) -> Iterator[Call]:
    """A querier's ``get``."""
    with _connected(address) as session:
        querier = session.declare_querier(_KEY)
        _wait_for_match(querier)
        yield partial(_ask, querier)


def _wait_for_match(declared: Any) -> None:
    """What the peer declared is known only some time after the connection."""
    deadline = time.monotonic() + PATIENCE
    while not declared.matching_status.matching:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no match within {PATIENCE} s")
        time.sleep(0.0005)


def serve_echo(address: Address, control: Control) -> None:
    """A subscriber that publishes what comes."""

    def declare(session: Any) -> object:
        back = session.declare_publisher(_BACK, congestion_control=zenoh.CongestionControl.BLOCK)
        return back, session.declare_subscriber(_KEY, lambda sample: back.put(sample.payload))

    _serve(address, control, declare)


@contextmanager
def call_by_publishing(address: Address) -> Iterator[Call]:
    """``put``, and wait for what the other one puts."""
    answers: SimpleQueue[bytes] = SimpleQueue()

    def ask(payload: bytes) -> bytes:
        publisher.put(payload)
        return answers.get(timeout=PATIENCE)

    with _connected(address) as session:
        session.declare_subscriber(_BACK, lambda sample: answers.put(sample.payload.to_bytes()))
        publisher = session.declare_publisher(
            _KEY, congestion_control=zenoh.CongestionControl.BLOCK
        )
        _wait_for_match(publisher)
        yield ask


def serve_messages(address: Address, control: Control) -> None:
    """A subscriber that counts what comes."""

    def receive(sample: Any) -> None:
        control.handled(sample.payload.to_bytes())

    _serve(address, control, lambda session: session.declare_subscriber(_KEY, receive))


@contextmanager
def send(address: Address) -> Iterator[Send]:
    """A publisher's ``put``, which waits where the other way of zenoh's is to drop."""
    with _connected(address) as session:
        publisher = session.declare_publisher(
            _KEY, congestion_control=zenoh.CongestionControl.BLOCK
        )
        _wait_for_match(publisher)
        yield publisher.put


@contextmanager
def connect_once(address: Address) -> Iterator[Once]:
    """A new session each time."""

    def once() -> None:
        with call(address) as ask:
            ask(PAYLOAD)

    yield once


def crowd(address: Address, control: Control, count: str) -> None:
    """Sessions that are open."""
    gather(address, control, int(count), partial(_session, address, listens=False))
