"""portkit between processes: what a port costs that another process may send to."""

from __future__ import annotations

from threading import Event
from typing import Any

from bench.ipc.address import Address, new_address
from bench.ipc.ours import port_class, serve
from bench.ipc.server import ACK, Control
from bench.ipc.spawn import spawned
from bench.model import Sample
from portkit import Port, PortMessage


def memory(count: int, *, exported: bool = True) -> Sample:
    """By how much owner and holder grow for each of so many anonymous ports.

    Two owners that differ only in how many ports they have are compared: what a link needs once
    is not a port's.
    """
    few = count // 10 + 1
    how = "export" if exported else ""
    with (
        new_address() as address,
        spawned(serve_holder, address) as holder,
        spawned(serve_owner, address, few, how) as small_owner,
    ):
        before = holder.memory()
        with spawned(serve_owner, address, count, how) as owner:
            return {
                "owner": max(0, owner.memory() - small_owner.memory()) / (count - few),
                "holder": max(0, holder.memory() - before) / count,
            }


def serve_holder(address: Address, control: Control) -> None:
    """Keep all ports that come."""
    held: list[Port] = []

    def hold(message: PortMessage) -> bytes:
        held.extend(message.ports)
        return ACK

    serve(address, control, hold)


def serve_owner(address: Address, control: Control, count: str, how: str) -> None:
    """Make so many ports; send each to the holder, or none."""
    stopped = Event()
    owned: list[Any] = []
    with port_class().remote(address.path) as holder:
        holder.request(b"")
        for _ in range(int(count)):
            port = port_class()()
            owned.append(port)
            if how:
                holder.request([port])
        control.ready(stop=stopped.set)
        stopped.wait()
        for port in owned:
            port.invalidate()
