"""Dealing files out to workers, a few each, and collecting what they answer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from portkit import InvalidPortError, PortMessage, RunLoop
from portkit.cli.demo.digest import CRASH, DIGEST, HASH, Digest
from portkit.workers import Worker, WorkerGroup

WINDOW = 16
"""Files that a worker has in hand: one being hashed, the others waiting so that it never idles."""
MOST_DEALS = 3
"""How often a file is dealt before it is given up, having cost that many workers their life."""


class HashJob:
    """The digests of files, by the workers of a group.

    Args:
        group: not started yet; its callbacks become this job's.
        files: what to hash.
        say: told in a line of everything that does not go as it should.
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
        self._deals: dict[Path, int] = {}
        self._in_hand: dict[Worker, set[Path]] = {}
        self._say = say
        self._crash = crash
        self._loop = RunLoop.current()
        group.on_message = self._receive
        group.on_worker_lost = self._lose

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
        with self._group as group:
            for worker in group.workers:
                self._in_hand[worker] = set()
                self._deal(worker)
            while self.done < self._total:
                self._loop.run()

    def _deal(self, worker: Worker) -> None:
        in_hand = self._in_hand[worker]
        while self._waiting and len(in_hand) < WINDOW and worker.is_alive:
            file = self._waiting.popleft()
            try:
                worker.port.send(os.fsencode(file), msgid=HASH, timeout=0)
            except InvalidPortError:
                self._waiting.appendleft(file)  # it is just ending; _lose will be called
                return
            in_hand.add(file)

    def _receive(self, worker: Worker, message: PortMessage) -> None:
        name, result = message.components[0], message.components[1]
        assert isinstance(name, bytes), "the workers are our own"
        assert isinstance(result, bytes), "the workers are our own"
        file = Path(os.fsdecode(name))
        self._in_hand[worker].discard(file)
        if message.msgid == DIGEST:
            size = int.from_bytes(message.components[2], "big")  # type: ignore[arg-type]
            self.digests[file] = Digest(result, size)
            self.hashed += size
            self.counts[worker.name] = self.counts.get(worker.name, 0) + 1
        else:
            self._fail(file, result.decode())
        if self._crash and self.done * 2 >= self._total:
            self._crash = False
            worker.port.send(msgid=CRASH)
        self._deal(worker)
        self._stop_if_done()

    def _lose(self, worker: Worker) -> None:
        self.lost.append(worker)
        files = self._in_hand.pop(worker, set())
        reason = str(worker.error or "it ended by itself").splitlines()[-1]
        self._say(f"{worker.name} was lost: {reason}; its {len(files)} files go to the others")
        for file in sorted(files):
            self._deals[file] = self._deals.get(file, 1) + 1
            if self._deals[file] > MOST_DEALS:
                self._fail(file, f"{MOST_DEALS} workers were lost with it")
            else:
                self._waiting.append(file)
        alive = [other for other in self._in_hand if other.is_alive]
        for other in alive:
            self._deal(other)
        if not alive:
            while self._waiting:
                self._fail(self._waiting.popleft(), "no worker is left")
        self._stop_if_done()

    def _fail(self, file: Path, reason: str) -> None:
        self.failures[file] = reason
        self._say(f"{file}: {reason}")

    def _stop_if_done(self) -> None:
        if self.done == self._total:
            self._loop.stop()
