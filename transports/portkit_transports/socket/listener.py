"""Listening for TCP connections, and seeing to it that only those become links who may."""

from __future__ import annotations

import socket
from typing import Any

from portkit._report import logger
from portkit.errors import PortError
from portkit.link import frames
from portkit.link.acceptor import Acceptor
from portkit.link.node import Node
from portkit_transports.socket.connection import host_of, network_of
from portkit_transports.socket.handshake import Handshake, ServerHandshake
from portkit_transports.socket.security import Security


class Listener:
    """A listening socket.

    Args:
        listening: the socket, which is the listener's from now on.
        node: where links go.
        security: what those who connect have to prove.
    """

    def __init__(self, listening: socket.socket, node: Node, security: Security) -> None:
        self._node = node
        self._security = security
        self._handshakes: dict[Handshake, str] = {}
        self._acceptor = Acceptor(listening, self._accepted)

    def _accepted(self, connection: socket.socket, address: Any) -> None:
        host = host_of(connection)
        reason = self._refusal(host)
        if reason:
            _refuse(connection, host, reason)
            return
        try:
            handshake = ServerHandshake(
                connection, self._security, self._node.settings.greeting_timeout, self._over
            )
        except (PortError, OSError) as error:  # such as certificates that are gone
            logger.warning("%s was refused: %s", host, error)
            connection.close()
            return
        self._handshakes[handshake] = network_of(host)
        try:
            handshake.start()
        except BaseException:
            self._handshakes.pop(handshake, None)
            handshake.cancel()
            raise

    def _refusal(self, host: str) -> str:
        """Why a connection from there is too many, or ""."""
        settings = self._node.settings
        others = [*self._handshakes.values(), *map(network_of, self._node.awaited_hosts())]
        if len(others) >= settings.max_handshakes:
            return f"{settings.max_handshakes} connections are in their handshake already"
        same = others.count(network_of(host))
        if same >= settings.max_handshakes_per_host:
            return f"{same} connections from {host} are in their handshake already"
        return ""

    def _over(self, handshake: Handshake, error: PortError | None) -> None:
        if handshake.is_refused:  # it counts as long as it is there
            handshake.gone = lambda: self._handshakes.pop(handshake, None)
        else:
            self._handshakes.pop(handshake, None)
        if error is None:
            self._node.accept(handshake.channel)
        else:
            assert isinstance(handshake, ServerHandshake), "these are what is begun here"
            # As text: who keeps the record would keep the error, and by it the open connection.
            logger.warning("%s was refused: %s", handshake.claim, str(error))

    def close(self) -> None:
        """Listen no more; connections in their handshake are given up, others go on."""
        self._acceptor.close(self._cancel)

    def _cancel(self) -> None:
        while self._handshakes:
            self._handshakes.popitem()[0].cancel()
        for link in self._node.links:  # such as those that the port did not know of when it ended
            link.check_needed()


def _refuse(connection: socket.socket, host: str, reason: str) -> None:
    logger.warning("%s was refused: %s", host, reason)
    try:
        connection.setblocking(False)
        connection.send(frames.refusal(f"the port refuses the connection: {reason}"))
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    connection.close()
