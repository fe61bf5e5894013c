"""What goes and comes beside arguments and results: the context in which they are coded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portkit._field_schema import Arrived, Departing
from portkit.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portkit.message import Component
    from portkit.port import Port
    from portkit.remote.connection import Connection
    from portkit.remote.method import Result


class Leaving(Departing):
    """Components that leave by a connection.

    Attributes:
        connection: it.
        error: why an object or an iterator cannot go: pydantic tells its own errors instead.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.error: BaseException | None = None

    def reference_to(self, value: Any, protocol: Any) -> Port:
        """The port that stands for an object."""
        try:
            return self.connection._exports.reference_to(value, protocol)
        except BaseException as error:
            self._keep(error)
            raise

    def stream_of(self, iterable: Any, items: Result) -> Port:
        """The port of an iterator."""
        try:
            return self.connection._exports.stream_of(iterable, items)
        except BaseException as error:
            self._keep(error)
            raise

    def _keep(self, error: BaseException) -> None:
        if isinstance(error, PortError) or not isinstance(error, Exception):
            self.error = error  # the latter are signal handlers', such as KeyboardInterrupt

    def raise_error(self) -> None:
        """Raise what has kept something from going, if anything has.

        Raises:
            PortError, BaseException: it; the latter where a signal handler has raised.
        """
        error, self.error = self.error, None
        if error is not None:
            self.clear()  # the error's frames have it, but what went before is held no more
            try:
                raise error from None
            finally:
                del error


class Coming(Arrived):
    """Components that came by a connection."""

    connection: Connection

    @classmethod
    def by(cls, connection: Connection, components: Iterable[Component]) -> Coming:
        """Those of a message."""
        coming = cls(components)
        coming.connection = connection
        return coming
