"""Workers that check in: launched by a group, each with a port and a run loop of its own."""

from portkit.workers.check_in import CHECK_IN
from portkit.workers.group import WorkerGroup
from portkit.workers.restart import Restart
from portkit.workers.session import Session
from portkit.workers.worker import Worker

__all__ = ["CHECK_IN", "Restart", "Session", "Worker", "WorkerGroup"]
