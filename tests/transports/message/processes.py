"""Where this was before other transports used it."""

from tests.transports.processes.child import Child

__all__ = ["Child"]
