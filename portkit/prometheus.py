"""Metrics for Prometheus: what :func:`portkit.stats` says, and counts and durations of messages.

It needs the extra ``prometheus``. Nothing is counted before :func:`register` is called.

Labels have few values: ``transport`` is a scheme, ``port`` the name of a named port, as this
process gave or looked it up, and ``error`` the class of an exception. After :data:`MOST_NAMES`
names of ports, or classes of errors, further ones are "other".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ImportError as _error:
    raise ImportError(
        'portkit.prometheus needs prometheus-client: pip install "portkit[prometheus]"',
        name=_error.name,
    ) from _error

from portkit import _fork
from portkit.hooks import Hook, Outgoing, add_hook, remove_hook
from portkit.statistics import LinkStats, LoopStats, PortStats, Stats, stats

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from portkit.message import PortMessage
    from portkit.port import Port

__all__ = ["BUCKETS", "MOST_NAMES", "register", "unregister"]

BUCKETS = (1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds up to which durations are counted together, where nothing else is said."""
MOST_NAMES = 100
"""How many different values a label has, of those that programs choose."""


class _Names:
    """The values of a label, of which there are not too many."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, name: str | None) -> str:
        """The name, or "other" where there are too many; "" for none."""
        if not name or name in self._known:
            return name or ""
        if len(self._known) >= MOST_NAMES:
            return "other"
        self._known.add(name)
        return name


class _Counting(Hook):
    """Counts messages and their durations.

    Args:
        buckets: of the durations.
        names: of the label ``port``.
    """

    def __init__(self, buckets: Iterable[float], names: _Names) -> None:
        self._ports = names
        self._errors = _Names()
        labels = ("transport", "port", "kind")
        buckets = tuple(buckets)
        self._sent = Counter(
            "portkit_messages_sent",
            "Messages that were sent; of requests, those that were answered.",
            labels,
            registry=None,
        )
        self._unsent = Counter(
            "portkit_send_failures",
            "Sends and requests that failed, by the class of the error.",
            (*labels, "error"),
            registry=None,
        )
        self._sending = Histogram(
            "portkit_send_seconds",
            "How long sends took until they were accepted, and requests until their answer.",
            labels,
            registry=None,
            buckets=buckets,
        )
        self._delivered = Counter(
            "portkit_messages_delivered",
            "Messages that were given to a delegate.",
            labels,
            registry=None,
        )
        self._failed = Counter(
            "portkit_delivery_failures",
            "Messages whose delegate raised, by the class of the error.",
            (*labels, "error"),
            registry=None,
        )
        self._delivering = Histogram(
            "portkit_delivery_seconds",
            "How long delegates took, with their answers.",
            labels,
            registry=None,
            buckets=buckets,
        )
        self._received = Counter(
            "portkit_messages_received",
            "Messages that were taken by a call.",
            labels,
            registry=None,
        )
        self.metrics: tuple[Counter | Histogram, ...] = (
            self._sent,
            self._unsent,
            self._sending,
            self._delivered,
            self._failed,
            self._delivering,
            self._received,
        )

    def sending(self, outgoing: Outgoing) -> AbstractContextManager[object]:
        """Count it, and take its time."""
        labels = self._labels(outgoing.port, outgoing.kind.value)
        return self._timed(labels, outgoing.count, self._sent, self._unsent, self._sending)

    def delivering(self, port: Port, message: PortMessage) -> AbstractContextManager[object]:
        """Count it, and take its time."""
        labels = self._labels(port, _kind(message))
        return self._timed(labels, 1, self._delivered, self._failed, self._delivering)

    def received(self, port: Port, message: PortMessage) -> None:
        """Count it."""
        self._received.labels(*self._labels(port, _kind(message))).inc()

    def _labels(self, port: Port, kind: str) -> tuple[str, str, str]:
        return port.transport, self._ports.of(port.name), kind

    @contextmanager
    def _timed(
        self,
        labels: tuple[str, str, str],
        count: int,
        done: Counter,
        failed: Counter,
        duration: Histogram,
    ) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        except BaseException as error:
            failed.labels(*labels, self._errors.of(type(error).__name__)).inc()
            accepted = getattr(error, "accepted", 0) if done is self._sent else 1
            done.labels(*labels).inc(accepted)
            raise
        else:
            done.labels(*labels).inc(count)
        finally:
            duration.labels(*labels).observe(perf_counter() - began)


def _kind(message: PortMessage) -> str:
    return "request" if message.is_request else "send"


class _Collector:
    """Asks for a snapshot at each scrape.

    Args:
        names: of the label ``port``.
    """

    def __init__(self, names: _Names) -> None:
        self._ports = names

    def collect(self) -> Iterator[Metric]:
        """The metrics, as the registry asks for them."""
        snapshot = stats()
        yield from _of_loops(snapshot.loops)
        yield from self._of_ports(snapshot.ports)
        yield from _of_links(snapshot.links)
        yield from _of_totals(snapshot)

    def describe(self) -> list[Metric]:
        """Nothing: names are known without a snapshot."""
        return []

    def _of_ports(self, ports: tuple[PortStats, ...]) -> Iterator[Metric]:
        by_name: defaultdict[tuple[str, ...], list[PortStats]] = defaultdict(list)
        for port in ports:
            by_name[port.transport, self._ports.of(port.name)].append(port)
        labels = ("transport", "port")
        for name, text, figure in _PORT_GAUGES:
            family = GaugeMetricFamily(f"portkit_{name}", text, labels=labels)
            for key, group in by_name.items():
                family.add_metric(key, sum(figure(port) for port in group))
            yield family


_PORT_GAUGES: tuple[tuple[str, str, Callable[[PortStats], int]], ...] = (
    ("ports", "Ports that a run loop serves, or a peer can send to.", lambda _: 1),
    ("messages_waiting", "Messages in the queues of ports.", lambda port: port.pending),
    ("queue_limit", "Messages that may wait there.", lambda port: port.queue_limit),
    ("senders", "Rights to ports that peers hold.", lambda port: port.senders),
)
_LINK_GAUGES: tuple[tuple[str, str, Callable[[LinkStats], int]], ...] = (
    ("links", "Connections to other processes.", lambda _: 1),
    ("unsent_bytes", "Bytes that wait to be written.", lambda link: link.bytes_unsent),
    ("rights_exported", "Rights of peers to ports of here.", lambda link: link.rights_exported),
    ("rights_imported", "Rights to ports of peers.", lambda link: link.rights_imported),
    ("requests_open", "Requests without an answer so far.", lambda link: link.requests_open),
    (
        "requests_unanswered",
        "Requests of peers without an answer so far.",
        lambda link: link.requests_unanswered,
    ),
    ("memory_lent_bytes", "Memory that peers can read.", lambda link: link.memory_lent),
    ("memory_borrowed_bytes", "Memory of peers.", lambda link: link.memory_borrowed),
)


def _of_loops(loops: tuple[LoopStats, ...]) -> Iterator[Metric]:
    states = GaugeMetricFamily("portkit_run_loops", "Run loops of threads.", labels=("state",))
    running = [loop for loop in loops if loop.mode is not None]
    waiting = sum(loop.is_waiting for loop in running)
    states.add_metric(("idle",), len(loops) - len(running))
    states.add_metric(("waiting",), waiting)
    states.add_metric(("busy",), len(running) - waiting)
    yield states
    yield GaugeMetricFamily(
        "portkit_timers", "Timers of run loops.", value=sum(loop.timers for loop in loops)
    )
    yield GaugeMetricFamily(
        "portkit_calls_waiting",
        "Performed calls that a run loop has not come to.",
        value=sum(loop.calls_waiting for loop in loops),
    )


def _of_links(links: tuple[LinkStats, ...]) -> Iterator[Metric]:
    by_transport: defaultdict[str, list[LinkStats]] = defaultdict(list)
    for link in links:
        by_transport[link.transport].append(link)
    for name, text, figure in _LINK_GAUGES:
        family = GaugeMetricFamily(f"portkit_{name}", text, labels=("transport",))
        for transport, group in by_transport.items():
            family.add_metric((transport,), sum(figure(link) for link in group))
        yield family


def _of_totals(snapshot: Stats) -> Iterator[Metric]:
    labels = ("transport", "direction")
    messages = CounterMetricFamily("portkit_link_messages", "Messages over links.", labels=labels)
    size = CounterMetricFamily("portkit_link_bytes", "Bytes over links.", labels=labels)
    for carried in snapshot.traffic:
        messages.add_metric((carried.transport, "sent"), carried.messages_sent)
        messages.add_metric((carried.transport, "received"), carried.messages_received)
        size.add_metric((carried.transport, "sent"), carried.bytes_sent)
        size.add_metric((carried.transport, "received"), carried.bytes_received)
    yield messages
    yield size
    for name, text in _TOTALS.items():
        yield CounterMetricFamily(f"portkit_{name}", text, value=getattr(snapshot.totals, name))


_TOTALS = {
    "errors_reported": "What callbacks and hooks raised.",
    "messages_destroyed": "Messages that were unread when their port was invalidated.",
    "payloads_refused": "Payloads that a router did not understand.",
    "requests_dropped": "Requests that were let go of without an answer.",
    "requests_given_up": "Requests whose answers were waited for no more.",
    "links_opened": "Connections that were made.",
    "links_closed": "Connections that have ended.",
    "links_refused": "Connections closed because of what the peer is, or did.",
}

_lock = Lock()
_registered: dict[CollectorRegistry, tuple[tuple[Collector, ...], _Counting]] = {}


def register(registry: CollectorRegistry = REGISTRY, *, buckets: Iterable[float] = BUCKETS) -> None:
    """Have this process's metrics in ``registry``, and count messages from now on. Any thread.

    Nothing where that was done before.

    Args:
        registry: by default the one that ``prometheus_client`` shows.
        buckets: seconds up to which durations are counted together.

    Raises:
        ValueError: the registry has metrics of the same names; it is left as it was.
    """
    with _lock:
        if registry in _registered:
            return
        names = _Names()
        counting = _Counting(buckets, names)
        collectors = (_Collector(names), *counting.metrics)
        with ExitStack() as undoing:
            for collector in collectors:
                registry.register(collector)
                undoing.callback(registry.unregister, collector)
            undoing.pop_all()
        _registered[registry] = (collectors, counting)
    add_hook(counting)


def unregister(registry: CollectorRegistry = REGISTRY) -> None:
    """Undo :func:`register`; nothing where it was not called."""
    with _lock:
        found = _registered.pop(registry, None)
        if found is None:
            return
        collectors, counting = found
        remove_hook(counting)
        for collector in collectors:
            registry.unregister(collector)


def _after_fork_in_child() -> None:
    global _lock
    _lock = Lock()  # a thread that is not in the child may have held it


_fork.call_in_child(_after_fork_in_child)
