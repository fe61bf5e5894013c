"""This process's side of all links of one transport: who it is, what it allows, who is there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from threading import Lock, local
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from portkit import _fork
from portkit._context import detached
from portkit._report import logger
from portkit.errors import AuthenticationError, PortError, TransportError
from portkit.link import greeting, service
from portkit.link.channel import Channel
from portkit.link.decoder import Limits
from portkit.link.heartbeat import Heartbeats
from portkit.link.link import Link
from portkit.local_port import LocalPort
from portkit.runloop import RunLoop, Timer

if TYPE_CHECKING:
    from portkit.message import Sender


class Settings(NamedTuple):
    """What is allowed on the links of a node; every number is an upper bound.

    Attributes:
        limits: what a peer may send.
        outbox_limit: bytes that may wait to be written to one link before senders wait.
        out_of_line: bytes from which on data travels out of line, where it can.
        pool_limit: bytes of shared memory that this side lends to one peer, if that accepts it.
        copy_out_of_line: copy such data when it arrives, for peers that may write to it later.
        max_links: connections at the same time.
        max_links_per_process: of one peer process, where the kernel says which it is.
        max_handshakes: connections at the same time that have not proved who they are yet.
        max_handshakes_per_host: of these, from one IP address; of IPv6, from one network (/64).
        max_rights: ports that one peer may open by address.
        max_rights_per_port: how often it may have the same one open at the same time.
        greeting_timeout: seconds in which a new connection must have been greeted.
        heartbeat: seconds of silence after which a peer counts as dead; None for never. On one host
            it is not looked at: there the kernel tells of a peer's end.
        unread_limit: bytes of answers and other frames, for which senders do not wait, that may
            lie unread by a peer before it loses its link.
    """

    limits: Limits = Limits()
    outbox_limit: int = 1 << 20
    out_of_line: int = 1 << 18
    pool_limit: int = 1 << 30
    copy_out_of_line: bool = False
    max_links: int = 4096
    max_links_per_process: int = 64
    max_handshakes: int = 1024
    max_handshakes_per_host: int = 128
    max_rights: int = 1 << 16
    max_rights_per_port: int = 64
    greeting_timeout: float = 5.0
    heartbeat: float | None = 10.0
    unread_limit: int = 1 << 28


ANYONE = bytes(16)
"""The incarnation that stands for whichever process is there."""


class _Reading(local):
    """Of each thread.

    Attributes:
        others: whether it reads the other links of a peer that opened a right again.
    """

    others: bool = False


_reading = _Reading()


class Node:
    """One side of links.

    Args:
        settings: what is allowed.
        find: the local port with an id, or None.
        admits: called with who is at the other end; says why it is refused, or "".
        keeps: whether a link stays that carries no right either way.
        transport: the scheme of the transport that has it.

    Attributes:
        incarnation: 16 bytes drawn at random: which process this is.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        find: Callable[[bytes], LocalPort | None] = lambda _: None,
        admits: Callable[[Sender | None], str] = lambda _: "",
        keeps: Callable[[], bool] = lambda: True,
        transport: str = "",
    ) -> None:
        self.settings: Settings = settings
        self.transport: str = transport
        self.incarnation: bytes = secrets.token_bytes(16)
        self._find = find
        self._admits = admits
        self.keeps: Callable[[], bool] = keeps
        self._lock = Lock()
        self._links: dict[Link, None] = {}
        self._awaited: dict[Link, float] = {}
        self._watching: RunLoop | None = None
        silence = settings.heartbeat
        self._heartbeats: Heartbeats | None = None if silence is None else Heartbeats(silence)
        self._generation = _fork.generation

    @property
    def links(self) -> tuple[Link, ...]:
        """Those that are open now, and those that are being greeted."""
        return tuple(self._links)

    def greeting(self) -> bytes:
        """This side's record for the handshake."""
        return greeting.greeting(self.incarnation, os.getpid(), self.settings.limits)

    def find(self, port_id: bytes, incarnation: bytes) -> LocalPort | None:
        """The port that a peer asks for by its address, unless it means another process's."""
        return self._find(port_id) if incarnation in (self.incarnation, ANYONE) else None

    def accept(self, channel: Channel) -> Link:
        """A link for a connection that a peer made; the peer has to greet."""
        link = self._add(Link(self, channel, dialled=False))
        try:
            self.check_peer(link)
        except AuthenticationError as error:
            link.refuse(error)
        else:
            link.reading.look_after()
            _read_what_came(link, channel)
        return link

    def dial(self, channel: Channel) -> Link:
        """A link for a connection that this side made."""
        link = self._add(Link(self, channel, dialled=True))
        service.look_after(link.reading)
        _read_what_came(link, channel)
        return link

    def awaited_hosts(self) -> list[str]:
        """The IP addresses of those who connected and have not greeted yet."""
        return [link.sender.host for link in list(self._awaited) if link.sender is not None]

    def link_to(self, incarnation: bytes) -> Link | None:
        """The open link to a process, if there is one."""
        for link in self.links:  # a copy: others come and go meanwhile
            if link.incarnation == incarnation and not link.is_closed:
                return link
        return None

    def _add(self, link: Link) -> Link:
        timeout = self.settings.greeting_timeout
        with self._lock:
            self._links[link] = None
            self._awaited[link] = monotonic() + timeout
            loop = service.loop()
            if loop is not None and loop is not self._watching:
                # One timer for all, which goes on while links come: a new one wakes the thread.
                self._watching = loop
                timer = detached(Timer, timeout / 4, self._look_for_greetings, repeats=True)
                loop.add_timer(timer)
        return link

    def _look_for_greetings(self, timer: Timer) -> None:
        now = monotonic()
        late = [link for link, deadline in list(self._awaited.items()) if now >= deadline]
        for link in late:
            self._awaited.pop(link, None)
            link.refuse(
                TransportError(f"the peer did not greet within {self.settings.greeting_timeout} s")
            )
        with self._lock:
            if not self._awaited:
                self._watching = None
                timer.invalidate()

    def check_peer(self, link: Link) -> None:
        """Whether to have the link at all.

        Raises:
            AuthenticationError: no; it says why, to the peer as well.
        """
        reason = self._admits(link.sender)
        if not reason and len(self._links) > self.settings.max_links:
            reason = f"it has {self.settings.max_links} connections already"
        if not reason and link.sender is not None and link.sender.pid is not None:
            same = [other for other in self.links if other.sender == link.sender]
            if len(same) > self.settings.max_links_per_process:
                reason = (
                    f"process {link.sender.pid} has {self.settings.max_links_per_process} "
                    "connections already"
                )
        if reason:
            raise AuthenticationError(f"process {os.getpid()} refuses the connection: {reason}")

    def greeted(self, link: Link) -> None:
        """The handshake is over."""
        self._awaited.pop(link, None)
        loop = service.loop()
        if loop is not None and self._heartbeats is not None:
            self._heartbeats.add(link, loop)
            if link.is_closed:  # perhaps before it was added
                self._heartbeats.remove(link)

    def opened_again(self, link: Link, number: int) -> None:
        """A peer opens a right again: what it sent by another link comes before, or never."""
        is_first = not _reading.others
        _reading.others = True
        try:
            for other in self.links:
                if (
                    other is not link
                    and other.incarnation == link.incarnation
                    and _proved(other) == _proved(link)
                ):
                    if is_first:  # else all are being read: one by one, and not in each other
                        other.incoming.read()
                    other.table.end_earlier(number)
        finally:
            if is_first:
                _reading.others = False

    def closed(self, link: Link) -> None:
        """The link has ended."""
        self._awaited.pop(link, None)
        if self._heartbeats is not None:
            self._heartbeats.remove(link)
        with self._lock:
            self._links.pop(link, None)

    def close(self) -> None:
        """End all links."""
        for link in self.links:
            try:
                link.close()
            except PortError as error:
                logger.warning("%r could not be closed: %s", link, error)


def _read_what_came(link: Link, channel: Channel) -> None:
    """Read what came with the end of the transport's own handshake: no descriptor tells of it."""
    if channel.has_unread:
        service.call(link.read)


def _proved(link: Link) -> tuple[object, ...]:
    """Who is at the other end, wherever it connected from."""
    sender = link.sender
    return () if sender is None else (sender.pid, sender.uid, sender.names, sender.key_id)
