"""The ends of workers, on their way from whoever finds out to the loop of their group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from portkit._report import report
from portkit.errors import LoopEndedError
from portkit.runloop import COMMON_MODES, RunLoop
from portkit.runloop.blocks import Block
from portkit.workers.delivery import deliver_waiting
from portkit.workers.ending import Ending, died
from portkit.workers.worker import Worker

CHECK_IN_MODE = "portkit.workers.check-in"
"""Only the door is served while the group waits for check-ins."""
STOP_MODE = "portkit.workers.stop"
"""The workers' last messages are served while the group waits for their end."""


class Ends:
    """The queue of workers that have ended and were not seen to yet.

    Args:
        lose: called on the group's loop for each, after the worker's last message.

    Attributes:
        loop: the group's loop; set before any worker is started.
    """

    __slots__ = ("_lose", "_waiting", "loop")

    def __init__(self, lose: Callable[[Worker, Ending | None], None]) -> None:
        self._lose = lose
        self._waiting: deque[tuple[Worker, Ending | None]] = deque()
        self.loop: RunLoop | None = None

    def put(self, worker: Worker, ending: Ending | None) -> None:
        """A worker has ended. Any thread."""
        self._waiting.append((worker, ending))
        try:
            self._wake()
        except LoopEndedError:
            self.report_unseen()

    def _wake(self) -> None:
        assert self.loop is not None, "start set it"
        self.loop._put(_SeeToEnded(self), wake=True)

    def report_unseen(self) -> None:
        """The group's thread has ended: nobody sees to workers any more."""
        while True:
            try:
                worker, ending = self._waiting.popleft()
            except IndexError:  # another worker's thread may be at this too
                return
            if ending is not None:
                error = ending.cause or died(worker, ending)
                report("a worker died after its group's thread had ended", error, worker)

    def see_to(self) -> None:
        """On the group's loop: see to the workers that have ended.

        A worker leaves the queue last: a Ctrl-C that strikes here leaves it to the stop that
        follows.
        """
        while self._waiting:
            ended = self._waiting[0]
            worker, ending = ended
            main_port = worker._main_port
            if main_port is not None:
                # What it sent before its end comes before the news of its end.
                if main_port.pending:
                    self._wake()  # goes on from here where on_message runs the loop
                    deliver_waiting(main_port)
                main_port.invalidate()  # not worker's: it may be back, and have another
            if self._waiting and self._waiting[0] is ended:
                self._waiting.popleft()
                self._lose(worker, ending)


class _SeeToEnded(Block):
    """Has the group's loop see to workers that have ended; as a rule they were seen to already."""

    __slots__ = ()

    def __init__(self, ends: Ends) -> None:
        super().__init__(Ends.see_to, (ends,), (COMMON_MODES, CHECK_IN_MODE, STOP_MODE))

    def abandon(self, error: LoopEndedError) -> None:
        """The group's thread has ended."""
        self.args[0].report_unseen()
