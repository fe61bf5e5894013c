"""What goes and comes beside arguments and results: the context in which they are coded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit._field_schema import Arrived, Departing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portkit.message import Component
    from portkit.remote.connection import Connection


class Leaving(Departing):
    """Components that leave by a connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection: Connection = connection


class Coming(Arrived):
    """Components that came by a connection."""

    connection: Connection

    @classmethod
    def by(cls, connection: Connection, components: Iterable[Component]) -> Coming:
        """Those of a message."""
        coming = cls(components)
        coming.connection = connection
        return coming
