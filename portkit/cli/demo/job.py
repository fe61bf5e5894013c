"""Dealing files out to workers, a few each, and collecting what they answer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from portkit import InvalidPortError, PortMessage, ReceiveTimeoutError, RunLoop
from portkit.cli.demo.digest import CRASH, DIGEST, HASH, Digest
from portkit.cli.demo.files import shown
from portkit.cli.demo.sides import Side
from portkit.workers import Worker, WorkerGroup

WINDOW = 16
"""Files that a worker has in hand: one being hashed, the others waiting so that it never idles."""
MOST_DEALS = 3
"""How often a file is dealt before it is given up: that many workers were lost while at it."""


class HashJob:
    """The digests of files, by the workers of a group.

    Args:
        group: not started yet; its callbacks become this job's.
        files: what to hash.
        say: told in a line of everything that does not go as it should.
        side: where the workers come from.
        crash: let a worker fail half-way.

    Attributes:
        digests: by file, those that are done.
        failures: by file, why it has no digest.
        hashed: how many bytes that is.
        lost: workers that ended before the job.
        counts: how many files each worker has done.
    """

    def __init__(
        self,
        group: WorkerGroup,
        files: Iterable[Path],
        *,
        say: Callable[[str], None],
        side: Side | None = None,
        crash: bool = False,
    ) -> None:
        self.digests: dict[Path, Digest] = {}
        self.failures: dict[Path, str] = {}
        self.hashed: int = 0
        self.lost: list[Worker] = []
        self.counts: dict[str, int] = {}
        self._group = group
        self._waiting = deque(files)
        self._total = len(self._waiting)
        self._losses: dict[Path, int] = {}
        # Of the workers that are not lost; their files in the order in which they hash them.
        self._in_hand: dict[Worker, dict[Path, None]] = {w: {} for w in group.workers}
        self._say = say
        self._side = side or Side()
        self._crash = crash
        self._loop = RunLoop.current()
        group.on_message = self._receive
        group.on_worker_lost = self._lose
        group.on_worker_restarted = self._take_back

    @property
    def total(self) -> int:
        """How many files there are."""
        return self._total

    @property
    def done(self) -> int:
        """How many files are through, with a digest or without."""
        return len(self.digests) + len(self.failures)

    def run(self) -> None:
        """Start the workers, run this thread's loop until every file is through, stop them.

        Raises:
            CheckInError: the workers could not be started.
            KeyboardInterrupt: the workers are stopped all the same.
        """
        with self._group:
            try:
                self._side.all_came()
                self._deal_to_all()
                while self.done < self._total:
                    self._loop.run()
            except BaseException:
                self._abandon()
                raise

    def _abandon(self) -> None:
        """Have the workers drop what they have in hand, which may be much, or large."""
        self._waiting.clear()
        try:
            self._group.stop(timeout=0)
        except ReceiveTimeoutError:
            pass  # they see that their main side is gone; leaving the group waits for them

    def _deal_to_all(self) -> None:
        for worker in list(self._in_hand):
            self._deal(worker)

    def _deal(self, worker: Worker) -> None:
        in_hand = self._in_hand[worker]
        while self._waiting and len(in_hand) < WINDOW and worker.is_alive:
            file = self._waiting.popleft()
            try:
                worker.port.send(os.fsencode(file), msgid=HASH, timeout=0)
            except InvalidPortError:
                self._waiting.appendleft(file)  # it is just ending; _lose will be called
                return
            in_hand[file] = None

    def _receive(self, worker: Worker, message: PortMessage) -> None:
        name, result = message.components[0], message.components[1]
        assert isinstance(name, bytes), "the workers are our own"
        assert isinstance(result, bytes), "the workers are our own"
        file = Path(os.fsdecode(name))
        self._in_hand[worker].pop(file, None)
        if message.msgid == DIGEST:
            size = int.from_bytes(message.components[2], "big")  # type: ignore[arg-type]
            self.digests[file] = Digest(result, size)
            self.hashed += size
            self.counts[worker.name] = self.counts.get(worker.name, 0) + 1
        else:
            self._fail(file, result.decode())
        if self._crash and self.done * 2 >= self._total and worker.is_alive:
            self._crash = False
            worker.port.send(msgid=CRASH)
        self._deal(worker)
        self._stop_if_done()

    def _lose(self, worker: Worker) -> None:
        self.lost.append(worker)
        files = list(self._in_hand.pop(worker))
        reason = "it ended by itself" if worker.error is None else _reason(worker.error)
        self._say(f"{worker.name} was lost: {reason}; it had {len(files)} files in hand")
        if files:
            self._suspect(files.pop(0))
        self._waiting.extendleft(reversed(files))
        if self._in_hand:
            self._deal_to_all()
        elif self._waiting and self._side.return_later:
            left = len(self._waiting)
            self._say(f"no worker is left for {left} files: waiting for one to come")
        elif self._waiting:
            self._say(f"no worker is left for {len(self._waiting)} files")
            self.failures |= dict.fromkeys(self._waiting, "no worker is left")
            self._waiting.clear()
        self._stop_if_done()

    def _take_back(self, worker: Worker) -> None:
        self._say(f"{worker.name} is back")
        self._in_hand[worker] = {}
        self._deal(worker)

    def _suspect(self, file: Path) -> None:
        """A worker was lost at this file: give it up after a few times, deal it last until then."""
        self._losses[file] = self._losses.get(file, 0) + 1
        if self._losses[file] < MOST_DEALS:
            self._waiting.append(file)
        else:
            self._fail(file, f"given up: {MOST_DEALS} workers were lost at it")

    def _fail(self, file: Path, reason: str) -> None:
        self.failures[file] = reason
        self._say(f"{shown(file)}: {reason}")

    def _stop_if_done(self) -> None:
        if self.done == self._total:
            self._loop.stop()


def _reason(error: Exception) -> str:
    """The error in a line: what follows "died after its check-in:", or the traceback's end."""
    first, *others = str(error).splitlines()
    return others[-1] if others and first.endswith(":") else first.partition(": ")[2] or first
