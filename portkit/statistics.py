"""What goes on in this process, as far as portkit sees it: :func:`stats`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from portkit import _tally, _thread
from portkit.link import service, traffic
from portkit.link.link import Link
from portkit.local_port import LocalPort
from portkit.runloop import RunLoop, Timer

__all__ = ["LinkStats", "LoopStats", "PortStats", "Stats", "Totals", "TrafficStats", "stats"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PortStats:
    """A port of this process.

    Attributes:
        kind: its class, such as "MessagePort".
        transport: the scheme of its transport.
        name: its name, or None.
        address: at which others reach it, or None.
        thread: whose run loop serves it, or None.
        is_valid: whether messages can still arrive.
        pending: messages that wait in its queue.
        queue_limit: how many may do so.
        senders: how many peers hold a right to it, over links.
    """

    kind: str
    transport: str
    name: str | None
    address: str | None
    thread: str | None
    is_valid: bool
    pending: int
    queue_limit: int
    senders: int


@dataclass(frozen=True, slots=True)
class LoopStats:
    """A thread's run loop.

    Attributes:
        thread: the thread's name; "portkit service" sees to links that nobody else looks after.
        mode: in which it runs now; None where it does not.
        is_waiting: whether it sleeps, with nothing to do.
        ports: how many it serves.
        timers: how many it has.
        calls_waiting: performed calls that it has not come to.
        messages_waiting: in the queues of its ports.
    """

    thread: str
    mode: str | None
    is_waiting: bool
    ports: int
    timers: int
    calls_waiting: int
    messages_waiting: int


@dataclass(frozen=True, slots=True)
class LinkStats:
    """A connection to another process.

    Attributes:
        transport: the scheme of the transport that has it.
        peer: who is at the other end, as far as that is proved. What a peer says of itself may be
            in it.
        is_greeted: whether the handshake is over.
        messages_sent, messages_received: so far; answers count.
        bytes_sent, bytes_received: so far; data in shared memory does not count.
        bytes_unsent: that wait to be written.
        rights_exported: rights of the peer's to send to ports of this side.
        rights_imported: rights of this side to send to ports of the peer's.
        requests_sent, requests_received: so far.
        requests_open: that the peer has not answered.
        requests_unanswered: that this side has not answered.
        memory_lent: bytes of memory that the peer can read, be they in use or not.
        memory_borrowed: the same of the peer's.
        heartbeat: seconds of silence after which the peer counts as dead; None where the kernel
            tells of its end.
    """

    transport: str
    peer: str
    is_greeted: bool
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    bytes_unsent: int
    rights_exported: int
    rights_imported: int
    requests_sent: int
    requests_received: int
    requests_open: int
    requests_unanswered: int
    memory_lent: int
    memory_borrowed: int
    heartbeat: float | None


@dataclass(frozen=True, slots=True)
class TrafficStats:
    """What all links of a transport have carried since the process began, those that ended too.

    Attributes:
        transport: its scheme.
        messages_sent, messages_received: answers count.
        bytes_sent, bytes_received: data in shared memory does not count.
    """

    transport: str
    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What happened how often since this process began, or was forked.

    Attributes:
        errors_reported: what callbacks and hooks raised, to exception handlers or the log.
        messages_destroyed: that lay unread at a port when it was invalidated.
        payloads_refused: that a router did not understand.
        requests_dropped: that were let go of here without an answer.
        requests_given_up: of this process, whose answers were waited for no more.
        links_opened, links_closed: connections, in both directions.
        links_refused: closed because of what the peer is, or did.
    """

    errors_reported: int
    messages_destroyed: int
    payloads_refused: int
    requests_dropped: int
    requests_given_up: int
    links_opened: int
    links_closed: int
    links_refused: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of this process. Nobody is stopped for it: its figures are of about one moment.

    Attributes:
        pid: of the process.
        time: when it was taken, in seconds since the epoch.
        loops: the run loops of all threads that have one.
        ports: those that a run loop serves, or a peer can send to.
        links: the connections to other processes.
        traffic: of all links, by transport.
        totals: since the process began.
    """

    pid: int
    time: float
    loops: tuple[LoopStats, ...]
    ports: tuple[PortStats, ...]
    links: tuple[LinkStats, ...]
    traffic: tuple[TrafficStats, ...]
    totals: Totals

    def as_dict(self) -> dict[str, Any]:
        """The same as dicts, lists, text and numbers, as JSON has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def stats() -> Stats:
    """A snapshot of this process's run loops, ports and links. Any thread; it waits for nobody."""
    links = [client for client in service.clients() if isinstance(client, Link)]
    loops = [state.loop for state in _thread.states() if state.loop is not None]
    found: dict[int, tuple[LocalPort, str | None]] = {}
    for link in links:
        for export in _copy(link.table.exports.values()):
            if isinstance(port := export.port, LocalPort):
                found[id(port)] = (port, None)
    loop_stats: list[LoopStats] = []
    for loop in loops:
        thread = _name(loop)
        ports = [port for port in _copy(loop._ports) if isinstance(port, LocalPort)]
        found.update((id(port), (port, thread)) for port in ports)
        loop_stats.append(_of_loop(loop, thread, ports))
    return Stats(
        pid=os.getpid(),
        time=time.time(),
        loops=tuple(loop_stats),
        ports=tuple([_of_port(port, thread) for port, thread in found.values()]),
        links=tuple([_of_link(link) for link in links]),
        traffic=tuple(
            [TrafficStats(way, *carried) for way, carried in sorted(traffic.totals(links).items())]
        ),
        totals=Totals(
            errors_reported=_tally.errors_reported.value,
            messages_destroyed=_tally.messages_destroyed.value,
            payloads_refused=_tally.payloads_refused.value,
            requests_dropped=_tally.requests_dropped.value,
            requests_given_up=_tally.requests_given_up.value,
            links_opened=_tally.links_opened.value,
            links_closed=_tally.links_closed.value,
            links_refused=_tally.links_refused.value,
        ),
    )


def _copy(items: Iterable[T]) -> list[T]:
    """A list of what other threads change meanwhile, and which no lock is taken for.

    Copying is one step but for a garbage collection in its midst, which may run finalizers.
    """
    while True:
        try:
            return list(items)
        except RuntimeError:
            pass


def _name(loop: RunLoop) -> str:
    thread = _thread.find(loop.ident)
    return f"ident {loop.ident}" if thread is None else thread.name


def _of_loop(loop: RunLoop, thread: str, ports: list[LocalPort]) -> LoopStats:
    modes = _copy(loop._table.modes.values())
    items = {item for mode in modes for item in _copy(mode.items)}
    blocks = loop._blocks
    calls = {*_copy(blocks.inbox), *_copy(blocks.urgent)}
    for queue in _copy(blocks.queues.values()):
        calls.update([block for _, block in _copy(queue)])
    return LoopStats(
        thread=thread,
        mode=loop.current_mode,
        is_waiting=loop.is_waiting,
        ports=len(ports),
        timers=sum(isinstance(item, Timer) for item in items),
        calls_waiting=sum(not call.claimed for call in calls),
        messages_waiting=sum(port.pending for port in ports),
    )


def _of_port(port: LocalPort, thread: str | None) -> PortStats:
    address = port.address
    return PortStats(
        kind=type(port).__name__,
        transport=port.transport,
        name=port.name,
        address=None if address is None else str(address),
        thread=thread,
        is_valid=port.is_valid,
        pending=port.pending,
        queue_limit=port.queue_limit,
        senders=len(port._senders),
    )


def _of_link(link: Link) -> LinkStats:
    table = link.table
    return LinkStats(
        transport=link.node.transport,
        peer=str(link.sender or ""),
        is_greeted=link.incoming.greeted,
        messages_sent=link.sending.messages,
        messages_received=link.incoming.messages,
        bytes_sent=link.outbox.written,
        bytes_received=link.incoming.bytes_read,
        bytes_unsent=link.outbox.size,
        rights_exported=len(table.exports),
        rights_imported=table.imports,
        requests_sent=table.requests_sent,
        requests_received=table.requests_received,
        requests_open=table.requests_open,
        requests_unanswered=len(table.asked),
        memory_lent=link.lending.lent,
        memory_borrowed=link.lending.borrowed,
        heartbeat=link.node.settings.heartbeat,
    )
