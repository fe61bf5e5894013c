"""What DNS-SD needs of the zeroconf library: questions, announcements, and its cache."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Any, NamedTuple, Self

from portkit.errors import TransportError
from portkit_transports.socket.service_record import SERVICE_TYPE

try:
    import ifaddr
    from zeroconf import (  # type: ignore[attr-defined]  # public, if not in its __all__
        DNSOutgoing,  # pyright: ignore[reportPrivateImportUsage]
        DNSPointer,  # pyright: ignore[reportPrivateImportUsage]
        DNSQuestion,  # pyright: ignore[reportPrivateImportUsage]
        DNSQuestionType,
        DNSRecord,  # pyright: ignore[reportPrivateImportUsage]
        DNSService,  # pyright: ignore[reportPrivateImportUsage]
        InterfaceChoice,
        IPVersion,
        RecordUpdate,
        RecordUpdateListener,
        Zeroconf,
        current_time_millis,
    )
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
except ImportError as _error:
    raise TransportError(
        "names on the network need the library zeroconf: pip install 'portkit[discovery]', "
        "or use StaticNameServer"
    ) from _error

__all__ = [
    "AsyncServiceInfo",
    "Claim",
    "Multicast",
    "find_interfaces",
    "nearest",
    "own_addresses",
]

_QUERY = 0
_PTR, _ANY = 12, 255
_IN = 1
_COPY = 1000.0
"""Milliseconds for which the same packet is taken for a copy, and a few more."""
_MOST_COPIES = 3


class Claim(NamedTuple):
    """Somebody says to have a name.

    Attributes:
        instance: the full name, in small letters.
        server: the host name, in small letters.
        number: the port number.
    """

    instance: str
    server: str
    number: int


Interface = str | int
"""An IP address, or the number of an interface with IPv6."""
Arrived = Callable[[str, Claim | None], None]


def find_interfaces(wanted: Sequence[str]) -> list[Interface]:
    """Interfaces as the library wants them.

    Args:
        wanted: IP addresses, and names such as "eth0".

    Raises:
        TransportError: there is no such interface.
    """
    found: list[Interface] = []
    for text in wanted:
        matches = [
            adapter.index if isinstance(ip.ip, tuple) else ip.ip
            for adapter in ifaddr.get_adapters()
            for ip in adapter.ips
            if text == _text_of(ip) or (text == adapter.name and _text_of(ip) != "::1")
        ]  # there is no multicast to ::1
        if not matches:
            known = {adapter.name for adapter in ifaddr.get_adapters() if adapter.ips}
            raise TransportError(
                f"there is no interface {text!r}: give an IP address of this machine, or one of "
                f"{', '.join(sorted(known))}"
            )
        found += [match for match in matches if match is not None and match not in found]
    return found


def own_addresses(interfaces: Sequence[str] | None, *, v4: bool, v6: bool) -> list[str]:
    """The addresses at which a port that listens on all of them is reached.

    Args:
        interfaces: as :func:`find_interfaces`; None for all but loopback, if there are others.
        v4: whether it listens on IPv4.
        v6: whether it listens on IPv6.
    """
    found = [
        (text, adapter.name)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if (v6 if ":" in (text := _text_of(ip)) else v4)
    ]
    if interfaces is not None:
        return [text for text, name in found if text in interfaces or name in interfaces]
    outside = [text for text, _ in found if not text.startswith("127.") and text != "::1"]
    return outside or [text for text, _ in found]


def nearest(addresses: Sequence[str]) -> str:
    """That of a port's addresses at which to try it.

    It lies in a network of this machine, and is none of its own if another does: bridges of
    containers have the same address on every machine.
    """
    own = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    networks = [ip_network(f"{_text_of(ip)}/{ip.network_prefix}", strict=False) for ip in own]
    near = [
        address
        for address in addresses
        if any(ip_address(address) in network for network in networks)
    ]
    others = set(near).difference([_text_of(ip) for ip in own])
    return next((address for address in near if address in others), [*near, *addresses][0])


def _text_of(ip: ifaddr.IP) -> str:
    return ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip


class Multicast:
    """The library, opened on the running event loop for the length of an ``async with``.

    Args:
        interfaces: of :func:`find_interfaces`, or None for all.
        arrived: called with the full name of which something arrives, in small letters, and what
            is claimed, if it is a claim; right before the cache has it.

    Raises:
        TransportError: the network cannot be used so.
    """

    def __init__(self, interfaces: list[Interface] | None, arrived: Arrived) -> None:
        try:
            self._service = _open(interfaces)
        except (OSError, RuntimeError) as error:
            raise TransportError(
                f"names on the network cannot be used here: {error}; give interfaces= that have "
                "multicast, or use StaticNameServer"
            ) from error
        self._zeroconf: Zeroconf = self._service.zeroconf
        self._arrived = arrived
        self._announced: list[AsyncServiceInfo] = []

    async def __aenter__(self) -> Self:
        await self._zeroconf.async_wait_for_start()
        self._zeroconf.async_add_listener(_Listener(self._arrived), None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for info in self._announced:
            self._take_back_answers(info)
        await self._service.async_close()  # says goodbye

    def close_in_child(self) -> None:
        """In a forked child: let go of the sockets.

        The objects that own them keep their numbers, which from now on stand for nothing.
        """
        engine = self._zeroconf.engine
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for wrapped in (*engine.readers, *engine.senders):
            fd = wrapped.transport.get_extra_info("socket").fileno()
            if fd >= 0:
                os.dup2(null, fd, inheritable=False)
        os.close(null)

    # What is said.

    def probe(self, info: AsyncServiceInfo) -> None:
        """Ask who has the name, so that an owner answers at once, to all."""
        probe = DNSOutgoing(_QUERY)
        probe.add_question(DNSQuestion(info.name, _ANY, _IN))
        probe.add_authorative_answer(info.dns_pointer(override_ttl=_any_ttl()))
        self._zeroconf.async_send(probe)

    async def announce(self, info: AsyncServiceInfo) -> asyncio.Future[Any]:
        """Answer for a service from now on, and tell everybody; done when that was done thrice."""
        self._announced.append(info)
        return asyncio.ensure_future(
            await self._zeroconf.async_register_service(info, cooperating_responders=True)
        )

    def repeat(self, info: AsyncServiceInfo) -> None:
        """Tell everybody once more."""
        self._zeroconf.async_send(self._zeroconf.generate_service_broadcast(info, None))

    async def say_goodbye(self, info: AsyncServiceInfo) -> None:
        """Answer for a service no more, and tell everybody."""
        self._announced.remove(info)
        self._take_back_answers(info)
        await (await self._zeroconf.async_unregister_service(info))

    def _take_back_answers(self, info: AsyncServiceInfo) -> None:
        """Do not give, after the goodbye, answers that were put off until now.

        The library would, and the service would seem to be there for another two minutes.
        """
        records = (info.dns_pointer(), info.dns_service(), info.dns_text())
        for name in ("out_queue", "out_delay_queue"):  # which another version may call otherwise
            for group in getattr(getattr(self._zeroconf, name, None), "queue", ()):
                for record in records:
                    group.answers.pop(record, None)

    def browse(self) -> float:
        """Ask for all services. Returns when, for :meth:`uncertain`."""
        question = DNSOutgoing(_QUERY)
        question.add_question(DNSQuestion(SERVICE_TYPE, _PTR, _IN))
        nobody = DNSPointer(SERVICE_TYPE, _PTR, _IN, _any_ttl(), SERVICE_TYPE)
        question.add_answer_at_time(nobody, 0)  # said to be known, of which there is none
        self._zeroconf.async_send(question)
        return current_time_millis()

    async def look_up(self, info: AsyncServiceInfo, seconds: float) -> bool:
        """Complete ``info``, from the cache or within ``seconds`` from the network."""
        if info.load_from_cache(self._zeroconf):
            return True
        if seconds <= 0:
            return False
        to_all = DNSQuestionType.QM  # an answer by unicast gets to one process of the host
        if await info.async_request(self._zeroconf, seconds * 1000.0, to_all):
            return True
        if not self._services(info.name):
            self.forget(info.name)
        return False

    # The cache.

    def claims(self, instance: str) -> list[Claim]:
        """Who says to have a name."""
        return [_claim(record) for record in self._services(instance)]

    def _services(self, instance: str) -> list[DNSService]:
        return [record for record in self._live(instance) if isinstance(record, DNSService)]

    def instances(self) -> list[str]:
        """The full names of all services."""
        return [pointer.alias for pointer in self._pointers()]

    def uncertain(self, since: float | None = None) -> list[str]:
        """The full names of services that may have ended: nothing but the name is known.

        Args:
            since: those that answered a question of :meth:`browse` are there.
        """
        return [
            pointer.alias
            for pointer in self._pointers()
            if (since is None or pointer.created < since) and not self._services(pointer.alias)
        ]

    async def doubt(self, instance: str) -> None:
        """Believe no more what was said of a service, once its owner would be heard saying it.

        The library takes what it hears again within a second for a copy of the packet before.
        """
        for _ in range(_MOST_COPIES):
            heard = max([service.created for service in self._services(instance)], default=0.0)
            age = current_time_millis() - heard
            if age >= _COPY:
                break
            await asyncio.sleep((_COPY - age) / 1000.0)
        self.forget(instance)

    def forget(self, instance: str) -> None:
        """Believe no more what was said of a service."""
        cache = self._zeroconf.cache
        key = instance.lower()
        pointers = [
            record
            for record in cache.async_entries_with_name(SERVICE_TYPE)
            if isinstance(record, DNSPointer) and record.alias.lower() == key
        ]
        cache.async_remove_records([*cache.async_entries_with_name(instance), *pointers])

    def _live(self, name: str) -> list[DNSRecord]:
        now = current_time_millis()
        found = self._zeroconf.cache.async_entries_with_name(name)
        return [record for record in found if not record.is_expired(now)]

    def _pointers(self) -> list[DNSPointer]:
        return [record for record in self._live(SERVICE_TYPE) if isinstance(record, DNSPointer)]


def _claim(record: DNSService) -> Claim:
    return Claim(record.key, record.server.lower(), record.port)


def _any_ttl() -> int:
    """A time that means nothing, for a packet that is not the copy of another process's."""
    return secrets.randbelow(1 << 20) + 1


class _Listener(RecordUpdateListener):
    """Tells of every record."""

    def __init__(self, arrived: Arrived) -> None:
        self._arrived = arrived

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Records arrived."""
        for update in records:
            record = update.new
            if isinstance(record, DNSService) and record.ttl:
                self._arrived(record.key, _claim(record))
            else:
                self._arrived(record.key, None)


def _open(interfaces: list[Interface] | None) -> AsyncZeroconf:
    if interfaces is not None:
        return AsyncZeroconf(interfaces=interfaces)
    try:
        return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)
    except (OSError, RuntimeError):
        return AsyncZeroconf(interfaces=InterfaceChoice.All)  # there is no IPv6 here
