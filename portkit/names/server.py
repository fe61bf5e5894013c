"""The name server: what every way of finding ports by name offers (N1)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from portkit.port import Port


class NameServer(ABC):
    """Finds ports by the names that their owners registered (NSPortNameServer, N1).

    A name stands for one port at a time; a port may have many names. A name ends when its owner
    unregisters it, invalidates the port or dies (N5). :func:`~portkit.names.check_name` says what
    can be a name. Every method may be called from any thread.

    Every method raises ``TransportError`` where the server cannot be asked, and ``TypeError`` or
    ``ValueError`` for what can be no name.
    """

    @abstractmethod
    def register(self, name: str, port: Port) -> None:
        """Let others find ``port`` under ``name``. Registering the same port again is no error.

        Raises:
            NameInUseError: another port that lives has the name (N1). A dead owner's is taken over.
            AuthenticationError: the name is another user's.
            InvalidPortError: the port is invalid.
            TransportError: the server cannot offer ports of that kind.
        """

    @abstractmethod
    def lookup(self, name: str) -> Port:
        """A port that sends to the one registered under ``name``. Does not wait for it to appear.

        Raises:
            NameNotFoundError: no port that lives has the name (N1).
            AuthenticationError: the name is another user's, and who owns it is not trusted.
        """

    @abstractmethod
    def unregister(self, name: str) -> None:
        """Take back a name that this process registered; its port lives on.

        Raises:
            NameNotFoundError: the name is not registered (N1).
            AuthenticationError: somebody else registered it; only the owner may remove it (N2).
        """

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the ports that live, sorted."""

    @abstractmethod
    def wait_for(self, name: str, timeout: float | None) -> Port:
        """As :meth:`lookup`, once the name is registered.

        Args:
            name: the name to wait for.
            timeout: seconds to wait; 0 or less looks once, None waits for ever.

        Raises:
            ReceiveTimeoutError: nobody registered the name in time.
            AuthenticationError: as :meth:`lookup`.
        """
