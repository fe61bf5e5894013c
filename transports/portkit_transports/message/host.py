"""This process among the others of its host: its listening socket, its names, its links."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import stat
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from portkit import _fork
from portkit._report import logger
from portkit.errors import NameNotFoundError, PortError, TransportError
from portkit.link.acceptor import Acceptor
from portkit.link.node import Node, Settings
from portkit.message import Sender
from portkit_transports.message.channel import UnixChannel
from portkit_transports.message.directory import Directory
from portkit_transports.message.process import process_start_time
from portkit_transports.message.record import Record

if TYPE_CHECKING:
    from portkit.link.link import Link
    from portkit_transports.message.port import MessagePort

ALLOWED_UIDS = "PORTKIT_ALLOWED_UIDS"
"""Environment variable: numbers of users, separated by commas, that may connect beside our own."""
_BACKLOG = 512


class Listener:
    """The listening socket, served by the service thread; there while the process has names."""

    def __init__(self, host: Host, path: Path | None = None) -> None:
        path = path or host.directory.new_socket_path()
        self.name: str = path.name
        self.path: str = str(path)
        self._node = host.node
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listening.bind(self.path)
            Path(self.path).chmod(stat.S_IRUSR | stat.S_IWUSR)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise TransportError(
                f"the socket {self.path} cannot be made: {error.strerror}; check the folder, "
                "its file system, and the limit of open files"
            ) from error
        self._acceptor = Acceptor(listening, self._accepted)

    def _accepted(self, connection: socket.socket, address: object) -> None:
        self._node.accept(UnixChannel(connection))

    def close(self, *, unlink: bool = True) -> None:
        """Listen no more. Connections that were made go on."""
        if unlink:
            with suppress(OSError):  # the folder was removed, or swept
                Path(self.path).unlink()
        self._acceptor.close()


class Host:
    """What the ports of this process share.

    Attributes:
        directory: the names.
        node: the links.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.directory: Directory = Directory()
        # A process that is only stopped is not dead, and of the others the kernel tells.
        settings = (settings or Settings())._replace(heartbeat=None)
        self.node: Node = Node(settings, find=self._find, admits=_refusal, transport="message")
        self._lock = Lock()
        self._dialling = Lock()
        self._listener: Listener | None = None
        self._ports: weakref.WeakValueDictionary[bytes, MessagePort] = weakref.WeakValueDictionary()
        self._named: dict[bytes, Record] = {}

    def publish(self, port: MessagePort, name: str) -> Record:
        """Let the name stand for the port.

        Raises:
            NameInUseError: it stands for another that lives.
            TransportError: the runtime folder, or the socket in it, cannot be used.
        """
        with self._lock:
            if self._listener is None:
                self.directory.prepare()
                self._listener = Listener(self)
            elif not Path(self._listener.path).exists():
                self._restore(self._listener)
            listener = self._listener
            record = Record(
                name=name,
                socket=listener.name,
                port_id=secrets.token_bytes(16),
                incarnation=self.node.incarnation,
                pid=os.getpid(),
                start_time=process_start_time(os.getpid()),
            )
            try:
                self._ports[record.port_id] = port
                self.directory.claim(record)
                self._named[record.port_id] = record
            except BaseException:
                self._ports.pop(record.port_id, None)
                self._close_unused()
                raise
            return record

    def _restore(self, lost: Listener) -> None:
        """The folder was removed, or emptied: have it, the socket and the names back."""
        self.directory.prepare()
        self._listener = Listener(self, Path(lost.path))
        lost.close(unlink=False)
        for record in self._named.values():
            try:
                self.directory.claim(record)
            except PortError as error:
                logger.warning("the name %r could not be had back: %s", record.name, error)

    def withdraw(self, record: Record) -> None:
        """The name stands for the port no more."""
        with self._lock:
            self._ports.pop(record.port_id, None)
            self._named.pop(record.port_id, None)
            try:
                self.directory.remove(record)
            except TransportError as error:
                logger.warning("the name %r could not be taken back: %s", record.name, error)
            self._close_unused()

    def leave(self) -> None:
        """The process ends: take all names back. What is killed leaves them to be swept."""
        for record in list(self._named.values()):
            self.withdraw(record)

    def _close_unused(self) -> None:
        if not self._named and self._listener is not None:
            listener, self._listener = self._listener, None
            listener.close()

    def local(self, record: Record) -> MessagePort | None:
        """The port behind a record of this very process."""
        if record.incarnation != self.node.incarnation:
            return None
        return self._ports.get(record.port_id)

    def _find(self, port_id: bytes) -> MessagePort | None:
        return self._ports.get(port_id)

    def link_to(self, record: Record) -> Link:
        """The link to the process that has a name; made if there is none.

        Raises:
            NameNotFoundError: that process has ended.
            TransportError: it cannot be connected to.
        """
        with self._dialling:
            link = self.node.link_to(record.incarnation)
            if link is None:
                link = self.dial(record)
            return link

    def dial(self, record: Record) -> Link:
        """A new link to the process that has a name.

        Raises:
            NameNotFoundError, TransportError: as :meth:`link_to`.
        """
        channel = self._connect(record)
        link = self.node.dial(channel)
        link.incarnation = record.incarnation
        return link

    def _connect(self, record: Record) -> UnixChannel:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.setblocking(False)
            connection.connect(str(self.directory.path / record.socket))
        except BlockingIOError as error:
            connection.close()
            raise TransportError(
                f"process {record.pid} does not accept connections: its backlog is full. Try "
                "again, and see whether it is stopped"
            ) from error
        except (ConnectionRefusedError, FileNotFoundError) as error:
            connection.close()
            raise NameNotFoundError(
                f"the owner of {record.name!r}, process {record.pid}, has ended: start it again, "
                "or wait for the name"
            ) from error
        except OSError as error:
            connection.close()
            raise TransportError(
                f"process {record.pid} cannot be connected to: {error.strerror}"
            ) from error
        return UnixChannel(connection)


def _refusal(sender: Sender | None) -> str:
    """Why a peer is refused, or ""."""
    if sender is None:
        return "the kernel does not say who it is"
    if sender.uid == os.geteuid():
        return ""
    text = os.environ.get(ALLOWED_UIDS, "")
    try:
        allowed = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        return f"{ALLOWED_UIDS} holds numbers of users, separated by commas, and not {text!r}"
    if sender.uid not in allowed:
        return (
            f"user {sender.uid} may not connect to user {os.geteuid()}: add the number to "
            f"{ALLOWED_UIDS}"
        )
    return ""


_lock = Lock()
_host: Host | None = None


def host() -> Host:
    """This process's."""
    global _host
    with _lock:
        if _host is None:
            _host = Host()
        return _host


def configure(settings: Settings) -> None:
    """Set what is allowed on the links of this process, before its first MessagePort.

    Args:
        settings: every limit, and ``copy_out_of_line`` for peers that are not trusted to leave
            memory alone that they have lent.

    Raises:
        PortError: this process has made, or looked up, a MessagePort already.
    """
    global _host
    with _lock:
        if _host is not None:
            raise PortError(
                "MessagePorts are in use here: call configure() before the first of them"
            )
        _host = Host(settings)


def _at_exit() -> None:
    if _host is not None:
        _host.leave()


atexit.register(_at_exit)


def _after_fork_in_child() -> None:
    global _lock, _host
    _lock = Lock()
    _host = None


_fork.call_in_child(_after_fork_in_child)
