"""DNS-SD over multicast: services published and found, with the zeroconf library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from portkit import _fork
from portkit._report import logger
from portkit._text import printable
from portkit.errors import NameInUseError
from portkit_transports.socket.async_thread import AsyncThread
from portkit_transports.socket.multicast import (
    AsyncServiceInfo,
    Claim,
    Multicast,
    find_interfaces,
    nearest,
    own_addresses,
)
from portkit_transports.socket.service_record import (
    MAX_ADDRESSES,
    SERVICE_TYPE,
    Service,
    instance_of,
    label_in,
    label_of,
    name_of,
    read_service,
)

_PROBES = 3
_INTERVAL = 0.25
"""Seconds between asking for a name and taking it for free (RFC 6762, 8.1)."""
_PUBLISH = 4.0
"""Seconds that all of that may take, with pauses before and after."""
_BROWSE = 1.5
"""Seconds in which all that is on the network answers: it may hold an answer back for 1.2."""
_FRESH = 60.0
"""Seconds after which what is on the network is asked for again, lest announcements got lost."""
_LONGEST_PAUSE = 60.0
"""Seconds between questions for a name that nobody has, once it was asked for often."""
_REPEAT = 1.25
"""Seconds after which the winner of a conflict repeats what it has: caches hold on for 1."""


@dataclass(slots=True, eq=False)
class _Published:
    """A service of this responder.

    Attributes:
        service: what it is.
        info: its records.
        lost: what to call should another win the name.
        confirmed: whether :meth:`Responder.publish` has returned.
        error: how the name was lost.
        tasks: announcements under way.
    """

    service: Service
    info: AsyncServiceInfo
    lost: Callable[[str], None]
    confirmed: bool = False
    error: str = ""
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold a task while it runs: one that nobody holds may be collected."""
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("what was to be said of %r was not", self.service.name, exc_info=error)


class Responder(AsyncThread):
    """Publishes and finds services, on a thread of its own.

    Args:
        interfaces: IP addresses or names of the interfaces to use; None for all.
        ttl: seconds for which others may go on believing in a service that they hear nothing of.

    Raises:
        TransportError: the network cannot be used so.
    """

    def __init__(self, interfaces: Sequence[str] | None, ttl: int) -> None:
        self._ttl = ttl
        self._wanted = interfaces
        self._interfaces = None if interfaces is None else find_interfaces(interfaces)
        self._published: dict[str, _Published] = {}
        self._probed: set[str] = set()
        self._watched: dict[str, set[asyncio.Event]] = {}
        self._browsed: float | None = None
        self._network: Multicast
        super().__init__("portkit dns-sd", "the name server")
        _fork.close_in_child(self)

    # Calls of other threads.

    def publish(self, service: Service, lost: Callable[[str], None]) -> None:
        """Publish a service, if nobody else has the name. Takes a second, or two.

        Args:
            service: what it is. The same one again is no error.
            lost: called with a sentence, on the responder's thread, should another win the name
                later: two networks that became one may both have had it.

        Raises:
            NameInUseError: another service has the name.
            TransportError: the responder is closed.
        """
        self.call(partial(self._publish, service, lost), _PUBLISH)

    def withdraw(self, service: Service) -> None:
        """Take a service back, and tell the network. Takes no lock and does not wait."""
        self.call_soon(self._withdraw, service)

    def find(self, name: str, timeout: float) -> Service | None:
        """The service with that name, or None if nobody answers within ``timeout`` seconds.

        What is known already is believed; with a ``timeout`` of 0 nobody is asked.

        Raises:
            ValueError: what answers is no port; says why.
            TransportError: the responder is closed.
        """
        return self.call(partial(self._find, name, timeout), timeout)

    def wait(self, name: str, timeout: float | None) -> Service | None:
        """As :meth:`find`, once there is one; what is no port is logged and passed over."""
        return self.call(partial(self._wait, name, timeout), timeout)

    def names(self, timeout: float) -> list[str]:
        """The names that are published; asks the network if that was not done lately.

        Raises:
            TransportError: the responder is closed.
        """
        return self.call(partial(self._names, timeout), timeout)

    def own_addresses(self, *, v6: bool) -> tuple[str, ...]:
        """Where a port is reached that listens at all IPv4 addresses, and those of IPv6."""
        return tuple(own_addresses(self._wanted, v4=True, v6=v6))[:MAX_ADDRESSES]

    def nearest(self, service: Service) -> str:
        """Where to connect to."""
        return nearest(service.addresses)

    def close_in_child(self) -> None:
        """In a forked child: let go of the sockets, which are the parent's."""
        self._network.close_in_child()

    # All below runs on the thread.

    async def serve(self, began: Callable[[], None], end: asyncio.Event) -> None:
        """As :meth:`AsyncThread.serve`."""
        async with Multicast(self._interfaces, self._arrived) as self._network:
            began()
            await end.wait()
            for published in self._published.values():
                _cancel(published)  # an announcement after the goodbye would undo it

    async def _publish(self, service: Service, lost: Callable[[str], None]) -> None:
        key = label_of(service.name).lower()
        other = self._published.get(key)
        if other is not None and other.service == service:
            return
        if other is not None or key in self._probed:
            raise NameInUseError(
                f"the name {service.name!r} is registered with this name server already: choose "
                "another, or unregister it (the case of letters makes no other name)"
            )
        published = _Published(service, self._records(service), lost)
        self._probed.add(key)
        try:
            await self._probe(published.info, service)
            self._published[key] = published
        finally:
            self._probed.discard(key)
        try:
            published.keep(await self._network.announce(published.info))
            await asyncio.sleep(_INTERVAL)  # whoever asked at the same time announces it now, too
        except BaseException:
            self._withdraw(service)
            raise
        if published.error:
            raise NameInUseError(published.error)
        published.confirmed = True

    def _records(self, service: Service) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE_TYPE,
            instance_of(label_of(service.name)),
            port=service.number,
            properties=service.text,
            server=service.server,
            host_ttl=self._ttl,
            other_ttl=self._ttl,
            parsed_addresses=list(service.addresses),
        )

    async def _probe(self, info: AsyncServiceInfo, service: Service) -> None:
        """Ask whether somebody has the name.

        The library's own way believes its cache, in which the dead live on for 19 minutes, and
        has answers sent by unicast, of which one process alone of a host gets each.
        """
        await self._network.doubt(info.name)
        heard = self._listen_for(info.name)
        try:
            for _ in range(_PROBES):
                self._network.probe(info)
                deadline = monotonic() + _INTERVAL
                while await _is_set(heard, deadline - monotonic()):
                    for claim in self._network.claims(info.name):
                        if claim.server != service.server:
                            raise NameInUseError(_taken(service.name, claim))
        finally:
            self._listen_no_more(info.name, heard)

    def _withdraw(self, service: Service) -> None:
        key = label_of(service.name).lower()
        published = self._published.get(key)
        if published is None or published.service != service:
            return
        del self._published[key]
        _cancel(published)
        self._network.forget(published.info.name)
        published.keep(self._loop.create_task(self._network.say_goodbye(published.info)))

    async def _find(self, name: str, seconds: float) -> Service | None:
        label = label_of(name)
        own = self._published.get(label.lower())
        if own is not None:
            return own.service
        info = AsyncServiceInfo(SERVICE_TYPE, instance_of(label))
        if not await self._network.look_up(info, seconds):
            return None
        return read_service(name, info.text, info.parsed_scoped_addresses(), info.port)

    async def _wait(self, name: str, seconds: float | None) -> Service | None:
        instance = instance_of(label_of(name))
        deadline = None if seconds is None else monotonic() + seconds
        heard = self._listen_for(instance)
        pause = 1.0
        refused = ""
        try:
            while True:
                remaining = _left(deadline)
                heard.clear()
                try:
                    found = await self._find(name, min(remaining, _BROWSE))
                except ValueError as error:
                    found = None
                    if str(error) != refused:
                        refused = str(error)
                        logger.warning("what has the name %r is passed over: %s", name, error)
                if found is not None or remaining <= 0:
                    return found
                await _is_set(heard, min(_left(deadline), pause))
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._listen_no_more(instance, heard)

    async def _names(self, seconds: float) -> list[str]:
        now = monotonic()
        browsed = self._browsed is not None and now - self._browsed < _FRESH
        if not browsed or self._network.uncertain():
            asked = self._network.browse()
            await asyncio.sleep(min(_BROWSE, seconds))
            for instance in self._network.uncertain(asked):
                self._network.forget(instance)  # the dead
            self._browsed = now
        names = {published.service.name for published in self._published.values()}
        for instance in self._network.instances():
            try:
                label = label_in(instance)
                if label.lower() not in self._published:
                    names.add(name_of(label))
            except ValueError as error:
                logger.debug("a name on the network is passed over: %s", error)
        return sorted(names)

    # What arrives.

    def _listen_for(self, instance: str) -> asyncio.Event:
        event = asyncio.Event()
        self._watched.setdefault(instance.lower(), set()).add(event)
        return event

    def _listen_no_more(self, instance: str, event: asyncio.Event) -> None:
        events = self._watched[instance.lower()]
        events.discard(event)
        if not events:
            del self._watched[instance.lower()]

    def _arrived(self, instance: str, claim: Claim | None) -> None:
        """Something came from the network; it is in the cache in a moment."""
        for event in self._watched.get(instance, ()):
            event.set()
        if claim is not None:
            published = self._published.get(instance.partition(".")[0])
            if published is not None and published.info.key == instance:
                self._compare(published, claim)

    def _compare(self, published: _Published, claim: Claim) -> None:
        """Another says the name is its own: the greater server name has it (RFC 6762, 9)."""
        service = published.service
        if claim.server == service.server:
            return
        if claim.server < service.server:
            logger.warning("%s: it is to give it up", _taken(service.name, claim))
            if len(published.tasks) <= 1:
                published.keep(self._loop.create_task(self._repeat(published.info)))
            return
        published.error = _taken(service.name, claim)
        self._withdraw(service)
        if published.confirmed:
            published.lost(published.error)

    async def _repeat(self, info: AsyncServiceInfo) -> None:
        for _ in range(2):  # the other's goodbye takes out of caches what is common to both
            await asyncio.sleep(_REPEAT)
            self._network.repeat(info)


def _taken(name: str, claim: Claim) -> str:
    return (
        f"the name {name!r} is taken on the network, by port {claim.number} of "
        f"{printable(claim.server[:80])}: choose another, or have its owner unregister it"
    )


def _cancel(published: _Published) -> None:
    for task in list(published.tasks):
        task.cancel()


def _left(deadline: float | None) -> float:
    return _LONGEST_PAUSE if deadline is None else deadline - monotonic()


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event comes within ``seconds``; it is cleared."""
    if seconds <= 0:
        return False
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    event.clear()
    return True
