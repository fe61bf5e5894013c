"""The job's bookkeeping, with workers that fail in every way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from portkit import CheckInError, MachPort, PortMessage
from portkit.cli.demo.digest import HASH, digest_file, hash_files
from portkit.cli.demo.job import MOST_DEALS, WINDOW, HashJob
from portkit.workers import Session, WorkerGroup
from tests.support import PATIENCE

pytestmark = pytest.mark.own_thread


def files_in(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number:03}" for number in range(count)]
    for file in files:
        file.write_text(file.name)
    return files


def dying_at(*poisons: Path) -> Callable[[Session], None]:
    """A target whose workers hash files, and die of some."""

    def target(session: Session) -> None:
        def run() -> None:
            hash_it = session.port.delegate

            def hash_or_die(message: PortMessage) -> None:
                if message.msgid == HASH and Path(os.fsdecode(message.data or b"")) in poisons:
                    raise SystemExit("poisoned")
                hash_it(message)

            session.port.delegate = hash_or_die
            original_run()

        original_run = session.run
        session.run = run  # type: ignore[method-assign]
        hash_files(session)

    return target


def job_of(
    target: Callable[[Session], None], files: list[Path], *, workers: int, crash: bool = False
) -> tuple[HashJob, list[str]]:
    said: list[str] = []
    group = WorkerGroup(target, count=workers, check_in_timeout=PATIENCE)
    return HashJob(group, files, say=said.append, crash=crash), said


def test_every_file_gets_its_digest(tmp_path: Path) -> None:
    files = files_in(tmp_path, 100)
    job, said = job_of(hash_files, files, workers=3)
    job.run()
    assert job.digests == {file: digest_file(file) for file in files}
    assert job.hashed == 300
    assert sum(job.counts.values()) == job.done == job.total == 100
    assert said == []


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    files = files_in(tmp_path, 20)
    files[3].unlink()
    job, said = job_of(hash_files, files, workers=2)
    job.run()
    assert job.failures == {files[3]: "No such file or directory"}
    assert len(job.digests) == 19
    assert said == [f"{files[3]}: No such file or directory"]


def test_a_file_that_kills_is_given_up_and_no_other(tmp_path: Path) -> None:
    """Those that only waited in a dead worker's hand are not blamed."""
    files = files_in(tmp_path, 200)
    job, said = job_of(dying_at(files[5]), files, workers=MOST_DEALS + 1)
    job.run()
    assert job.failures == {files[5]: f"given up: {MOST_DEALS} workers were lost at it"}
    assert set(job.digests) == {*files} - {files[5]}
    assert len(job.lost) == MOST_DEALS
    assert len(said) == MOST_DEALS + 1


def test_a_file_that_kills_is_dealt_last_again(tmp_path: Path) -> None:
    """Two workers that both die of it have done all the others by then."""
    files = files_in(tmp_path, 100)
    job, said = job_of(dying_at(files[0]), files, workers=2)
    job.run()
    assert set(job.failures) == {files[0]}
    assert job.failures[files[0]] == "no worker is left"
    assert len(job.digests) == 99
    assert said[-1] == "no worker is left for 1 files"


def test_workers_that_die_of_everything(tmp_path: Path) -> None:
    files = files_in(tmp_path, 100)
    job, said = job_of(dying_at(*files), files, workers=2)
    job.run()
    assert len(job.failures) == 100
    assert len(job.lost) == 2
    assert [line.split(";")[0] for line in said] == [
        *[f"{worker.name} was lost: SystemExit: poisoned" for worker in job.lost],
        "no worker is left for 100 files",
    ]


def test_a_worker_that_is_lost_while_others_start(tmp_path: Path) -> None:
    """Nothing has been dealt then, and the others are about to come."""
    lost = Event()

    def target(session: Session) -> None:
        if session.index == 0:
            session.check_in()
            raise SystemExit("early")
        assert lost.wait(PATIENCE)
        hash_files(session)

    files = files_in(tmp_path, 40)
    job, said = job_of(target, files, workers=3)

    def say(line: str) -> None:
        said.append(line)
        lost.set()

    job._say = say
    job.run()
    assert len(job.digests) == 40
    assert said == ["worker-0 was lost: SystemExit: early; it had 0 files in hand"]


def test_workers_that_only_check_in(tmp_path: Path) -> None:
    """Some are lost while the others start, some with files in hand."""

    def target(session: Session) -> None:
        session.check_in()

    job, said = job_of(target, files_in(tmp_path, 40), workers=3)
    job.run()
    assert len(job.failures) == 40
    assert [line.split(";")[0] for line in said] == [
        *[f"{worker.name} was lost: it ended by itself" for worker in job.lost],
        "no worker is left for 40 files",
    ]
    assert len(job.lost) == 3


def test_workers_that_cannot_be_started(tmp_path: Path) -> None:
    def target(session: Session) -> None:
        raise ValueError("broken")

    job, _ = job_of(target, files_in(tmp_path, 3), workers=2)
    with pytest.raises(CheckInError, match="ValueError: broken"):
        job.run()
    assert job.done == 0


@pytest.mark.parametrize("count", [1, 2, WINDOW, 100])
def test_a_crash_that_was_asked_for(tmp_path: Path, count: int) -> None:
    job, said = job_of(hash_files, files_in(tmp_path, count), workers=2, crash=True)
    job.run()
    assert len(job.digests) == count
    assert len(job.lost) == 1
    assert "was lost: SystemExit: told to crash; it had " in said[0]


def test_an_interrupt_drops_what_is_in_hand(tmp_path: Path) -> None:
    """Files that take minutes are given up at once, and no more are dealt."""
    gone = tmp_path / "gone"
    large = files_in(tmp_path, 40)
    for file in large:
        os.truncate(file, 20 << 30)

    def say(line: str) -> None:
        raise KeyboardInterrupt

    group = WorkerGroup(hash_files, count=2)
    job = HashJob(group, [gone, *large], say=say)
    began = monotonic()
    with pytest.raises(KeyboardInterrupt):
        job.run()
    assert monotonic() - began < 4.5
    assert not any(worker.is_alive for worker in group.workers)
    assert job.done == 1


def test_an_answer_that_nobody_waits_for_any_more(tmp_path: Path) -> None:
    """The main side may go between a worker's look at it and its answer; that is no error."""
    (file,) = files_in(tmp_path, 1)
    answered = Event()

    class Gone(MachPort):
        """Found valid by whoever looks, and invalid when it is sent to."""

        is_valid = True

    def target(session: Session) -> None:
        session.check_in()
        gone = session._main = Gone()
        gone.invalidate()
        session.loop.perform(session.port.send, os.fsencode(file))
        hash_files(session)
        answered.set()

    with WorkerGroup(target, count=1):
        pass
    assert answered.is_set()


def test_an_interrupt_while_files_are_still_dealt(tmp_path: Path) -> None:
    """Answers that come during the stop must not bring new work, or it would go on to the end."""
    files = files_in(tmp_path, 1000)
    files[10].unlink()

    def say(line: str) -> None:
        raise KeyboardInterrupt

    job = HashJob(WorkerGroup(hash_files, count=2), files, say=say)
    with pytest.raises(KeyboardInterrupt):
        job.run()
    assert job.done < 200
