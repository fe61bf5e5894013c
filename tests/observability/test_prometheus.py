"""What a scrape says: the snapshot of the process, and counts and durations of messages."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from portkit import (
    MachPort,
    MessagePort,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    SendTimeoutError,
    hooks,
    prometheus,
)
from tests.observability.helpers import busy
from tests.observability.peers import peer, reach
from tests.ports.helpers import served
from tests.support import LoopThread, Reports, eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """The text of a scrape, parsed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.text = generate_latest(registry).decode()
        self._samples: Samples = {}
        self.types: dict[str, str] = {}
        for family in text_string_to_metric_families(self.text):
            self.types[family.name] = family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self._samples, f"{key} is there twice"
                self._samples[key] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Of one sample; 0 where it is missing."""
        return self._samples.get((f"portkit_{name}", frozenset(labels.items())), 0.0)

    def labels(self, name: str, label: str) -> set[str]:
        """All values of a label."""
        return {
            dict(labels)[label]
            for found, labels in self._samples
            if found == f"portkit_{name}" and label in dict(labels)
        }


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """One with portkit's metrics."""
    registry = CollectorRegistry()
    prometheus.register(registry)
    yield registry
    prometheus.unregister(registry)
    assert hooks.installed == ()
    assert generate_latest(registry) == b""


def deliver(port: MachPort) -> None:
    port.fileno()
    while port.pending:
        port.process()


def test_messages_and_their_durations(registry: CollectorRegistry) -> None:
    with MachPort(lambda message: None) as port:
        port.send(b"")
        port.send_many([b""] * 3)
        deliver(port)
    with MachPort() as port:
        port.send(b"")
        port.receive(0)
    scrape = Scrape(registry)
    sent = {"transport": "mach", "port": "", "kind": "send"}
    assert scrape.value("messages_sent_total", **sent) == 5
    assert scrape.value("messages_delivered_total", **sent) == 4
    assert scrape.value("messages_received_total", **sent) == 1
    assert scrape.value("send_seconds_count", **sent) == 3
    assert scrape.value("delivery_seconds_count", **sent) == 4
    assert scrape.value("delivery_seconds_bucket", le="+Inf", **sent) == 4
    assert 0 < scrape.value("send_seconds_sum", **sent) < 60
    assert scrape.types["portkit_send_seconds"] == "histogram"
    assert scrape.types["portkit_messages_sent"] == "counter"


def test_requests_and_answers(registry: CollectorRegistry) -> None:
    with served(lambda message: b"") as port:
        port.request(b"")
        labels = {"transport": "mach", "port": ""}
        assert eventually(
            lambda: Scrape(registry).value("messages_delivered_total", kind="request", **labels)
        )
    scrape = Scrape(registry)
    assert scrape.value("messages_sent_total", kind="request", **labels) == 1
    assert scrape.value("messages_sent_total", kind="answer", **labels) == 1


def test_failures_by_the_class_of_the_error(registry: CollectorRegistry, reports: Reports) -> None:
    def fail(message: PortMessage) -> None:
        raise LookupError

    with MachPort(queue_limit=2) as port:
        with pytest.raises(ReceiveTimeoutError):
            port.request(b"", reply_timeout=0)
        with pytest.raises(SendTimeoutError):
            port.send_many([b"1", b"2"], timeout=0)
    with served(fail) as port, pytest.raises(ReplyDroppedError):
        port.request(b"")
    scrape = Scrape(registry)
    labels = {"transport": "mach", "port": ""}
    failures = {
        (kind, error): scrape.value("send_failures_total", kind=kind, error=error, **labels)
        for kind in ("send", "request")
        for error in ("SendTimeoutError", "ReceiveTimeoutError", "ReplyDroppedError")
    }
    assert {key: value for key, value in failures.items() if value} == {
        ("request", "ReceiveTimeoutError"): 1,
        ("request", "ReplyDroppedError"): 1,
        ("send", "SendTimeoutError"): 1,
    }
    assert scrape.value("messages_sent_total", kind="send", **labels) == 1  # one had room
    failed = scrape.value("delivery_failures_total", kind="request", error="LookupError", **labels)
    assert failed == 1
    assert scrape.value("errors_reported_total") >= 1
    assert scrape.value("requests_dropped_total") >= 1
    assert scrape.value("requests_given_up_total") >= 1
    assert len(reports.take()) == 1


def test_loops_and_ports(registry: CollectorRegistry) -> None:
    with LoopThread() as thread, MachPort(lambda message: None, queue_limit=7) as port:
        thread.loop.add_port(port)
        before = Scrape(registry)
        with busy(thread.loop):
            thread.loop.perform(int)
            port.send_many([b""] * 3)
            scrape = Scrape(registry)
    assert scrape.value("run_loops", state="busy") == 1
    waiting = before.value("calls_waiting")  # of the loops of other tests
    assert scrape.value("calls_waiting") == waiting + 1
    labels = {"transport": "mach", "port": ""}
    assert scrape.value("messages_waiting", **labels) == 3
    assert scrape.value("ports", **labels) == before.value("ports", **labels) >= 1
    assert scrape.value("queue_limit", **labels) >= 7
    assert scrape.types["portkit_messages_waiting"] == "gauge"


def test_a_named_port(registry: CollectorRegistry) -> None:
    with LoopThread() as thread, MessagePort("metrics-named", lambda message: b"") as port:
        thread.loop.add_port(port)
        with MessagePort.remote("metrics-named") as remote:
            remote.request(b"")
            labels = {"transport": "message", "port": "metrics-named"}
            assert eventually(
                lambda: Scrape(registry).value("messages_delivered_total", kind="request", **labels)
            )
            scrape = Scrape(registry)
    assert scrape.value("messages_sent_total", kind="request", **labels) == 1
    assert scrape.value("ports", **labels) == 1


def test_links_and_what_they_carried_also_when_they_are_gone(registry: CollectorRegistry) -> None:
    labels = {"transport": "message"}

    def carried(direction: str) -> tuple[float, float]:
        scrape = Scrape(registry)
        return (
            scrape.value("link_messages_total", direction=direction, **labels),
            scrape.value("link_bytes_total", direction=direction, **labels),
        )

    before = carried("sent"), carried("received")
    with peer("answering") as address, reach(address) as port:
        for _ in range(5):
            port.request(b"x" * 50)
        with pytest.raises(ReceiveTimeoutError):
            port.request(b"", msgid=2, reply_timeout=0)
        scrape = Scrape(registry)
        assert scrape.value("links", **labels) == 1
        assert scrape.value("rights_imported", **labels) == 1
        during = carried("sent"), carried("received")
    assert during[0][0] - before[0][0] == 6
    assert during[1][0] - before[1][0] == 5
    assert during[0][1] - before[0][1] > 250
    assert during[1][1] - before[1][1] > 500
    assert eventually(lambda: Scrape(registry).value("links", **labels) == 0)
    after = carried("sent"), carried("received")
    assert after[0] >= during[0]  # counters never fall
    assert after[1] >= during[1]
    assert Scrape(registry).value("links_closed_total") >= 1


def test_labels_do_not_grow_without_end(registry: CollectorRegistry, reports: Reports) -> None:
    count = prometheus.MOST_NAMES + 20

    def fail(message: PortMessage) -> None:
        raise type(f"Error{message.msgid}", (Exception,), {})

    with MachPort(fail, queue_limit=count) as port:
        port.send_many([PortMessage(msgid=number) for number in range(count)])
        port.fileno()
        while port.pending:
            port.process()
    for number in range(count):
        remote = MessagePort.remote(f"metrics-nobody-{number}")
        with remote, pytest.raises(LookupError):
            remote.send(b"")
    scrape = Scrape(registry)
    for name, label in [("delivery_failures_total", "error"), ("send_failures_total", "port")]:
        values = scrape.labels(name, label)
        assert "other" in values
        assert len(values) <= prometheus.MOST_NAMES + 2
    assert len(reports.take()) == count


def test_names_are_shown_as_they_are(registry: CollectorRegistry) -> None:
    name = 'quo"te \\ and\nline'
    with pytest.raises(LookupError), MessagePort.remote(name.replace("\n", "")) as remote:
        remote.send(b"")
    assert name.replace("\n", "") in Scrape(registry).labels("send_failures_total", "port")


def test_registered_once_in_each_registry(registry: CollectorRegistry) -> None:
    other = CollectorRegistry()
    prometheus.register(other, buckets=(1.0, 2.0))
    prometheus.register(other)
    try:
        assert len(hooks.installed) == 2
        with MachPort() as port:
            port.send(b"")
        labels = {"transport": "mach", "port": "", "kind": "send"}
        assert Scrape(other).value("messages_sent_total", **labels) == 1
        assert Scrape(other).labels("send_seconds_bucket", "le") == {"1.0", "2.0", "+Inf"}
        assert Scrape(registry).value("messages_sent_total", **labels) == 1
    finally:
        prometheus.unregister(other)
        prometheus.unregister(other)


def test_a_registry_with_such_names_is_left_as_it_was() -> None:
    other = CollectorRegistry()
    taken = Counter("portkit_send_failures", "Somebody else's.", registry=other)
    with pytest.raises(ValueError, match="portkit_send_failures"):
        prometheus.register(other)
    assert not hooks.installed
    assert [metric.name for metric in other.collect()] == ["portkit_send_failures"]
    other.unregister(taken)
    prometheus.register(other)
    prometheus.unregister(other)
    assert not list(other.collect())


def test_by_many_threads_at_once(registry: CollectorRegistry) -> None:
    with served(lambda message: b"") as port:

        def ask() -> None:
            for _ in range(100):
                port.request(b"")

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            Scrape(registry)
        for thread in threads:
            thread.join()
    labels = {"transport": "mach", "port": "", "kind": "request"}
    assert Scrape(registry).value("messages_sent_total", **labels) == 400


def test_what_is_missing_is_named() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "try: import portkit.prometheus\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "portkit[prometheus]" in done.stdout
