"""Workers that are processes: how they start, how they end, and what is told of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from portkit import (
    BecameInvalidError,
    CheckInTimeoutError,
    ReceiveTimeoutError,
    WorkerDiedError,
)
from portkit.workers import Session, WorkerGroup, processes
from tests.cli.helpers import PORTKIT, run
from tests.support import PATIENCE, Reports, eventually
from tests.workers.helpers import Events, beside, idle, run_until

OBEY = "tests.workers.targets:obey"

pytestmark = [pytest.mark.own_thread, pytest.mark.usefixtures("folder")]


def group_of(count: int = 1, target: Any = OBEY, **options: Any) -> WorkerGroup:
    options.setdefault("check_in_timeout", PATIENCE)
    return WorkerGroup(target, count=count, over="message", **options)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# Start, and messages both ways.


def test_processes_check_in_and_messages_go_both_ways() -> None:
    events = Events()
    with group_of(3, name="w", on_message=events.message) as group:
        pids = {worker.pid for worker in group.workers}
        assert len(pids | {os.getpid()}) == 4
        assert repr(group) == "<WorkerGroup over message: 3 of 3 workers alive>"
        for worker in group.workers:
            answer = worker.port.request(b"know", reply_timeout=PATIENCE).data or b""
            known = json.loads(answer)
            assert (known["pid"], known["name"], known["index"]) == (
                worker.pid,
                worker.name,
                worker.index,
            )
        group.broadcast(b"introduce")
        ports: list[Any] = []
        group.on_message = lambda worker, message: ports.extend(message.ports)
        run_until(lambda: len(ports) == 3)
        assert [port.request(b"x", reply_timeout=PATIENCE).data for port in ports] == [b"x"] * 3
    assert not any(worker.is_alive or worker.error for worker in group.workers)
    assert not any(exists(pid) for pid in pids if pid is not None)


def test_what_a_worker_process_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The group's path; a PYTHONPATH as it was; a token that no list shows; no input, no Ctrl-C."""
    (tmp_path / "mine.py").write_text("from tests.workers.targets import obey\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/as/it/was")
    with group_of(target="mine:obey") as group:
        answer = group.workers[0].port.request(b"know", reply_timeout=PATIENCE).data or b""
    known = json.loads(answer)
    assert known["path"] == [str(Path(entry).absolute()) for entry in sys.path]
    assert known["python_path"] == "/as/it/was"
    assert known["token is seen"] is False
    assert known["input"] == ""
    assert known["interrupts"] is True
    assert known["blocked"] is False
    assert known["libraries"] == []


def test_20_at_once_leave_nothing_behind() -> None:
    events = Events()
    with group_of(20, on_message=events.message) as group:
        reached = group.broadcast(b"echo hello")
        assert len(reached) == 20
        for worker in reached:
            assert worker.port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
        group.stop(PATIENCE)
    assert not any(exists(worker.pid or 0) for worker in group.workers)


def test_a_callable_cannot_be_given_to_a_process() -> None:
    with pytest.raises(TypeError, match=r"unpickle it: write 'module:function'"):
        group_of(target=idle)


def test_the_program_itself_cannot_be_imported() -> None:
    with pytest.raises(ValueError, match="a module of its own"):
        group_of(target="__main__:target")


def test_a_python_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(WorkerDiedError, match=r"could not be started: .*/no/python"):
        group_of(2).start()


def test_orders_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, *[f"/{n}/{'x' * 100}" for n in range(1000)]])
    with pytest.raises(WorkerDiedError, match=r"could not be started: .* shorten sys\.path"):
        group_of().start()


UNGUARDED = """
from portkit.workers import WorkerGroup

def target(session):
    session.run()

with WorkerGroup("unguarded:target", count=2, over="message", check_in_timeout=30.0):
    print("started")
"""


def test_a_program_that_starts_its_workers_without_end(tmp_path: Path) -> None:
    """Each would start more. It ends at the first, and says what to write."""
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    done = run(sys.executable, tmp_path / "unguarded.py")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "RuntimeError: importing 'unguarded' starts workers" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]


# Deaths before the check-in.

EARLY = {
    "tests.workers.targets:raise_at_once": "exit status 1: LookupError: no settings",
    "tests.workers.targets:exit_at_once": "exit status 3",
    "tests.workers.targets:return_at_once": "ended without checking in",
    "tests.workers.nothing_here:target": "No module named 'tests.workers.nothing_here'",
    "tests.workers.targets:nothing": "has no attribute 'nothing'",
    "tests.workers.targets:OBEY.nothing": "AttributeError",
    "tests.workers.targets:COMMANDS": "is a dict, not callable",
}


@pytest.mark.parametrize(("target", "what"), EARLY.items(), ids=EARLY)
def test_death_before_the_check_in_ends_the_start(target: str, what: str) -> None:
    group = group_of(2, target=target)
    with pytest.raises(WorkerDiedError) as caught:
        group.start()
    assert what in str(caught.value)
    assert not any(exists(worker.pid or 0) for worker in group.workers)


def test_the_error_holds_the_traceback_which_is_shown_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        group_of(target="tests.workers.targets:raise_at_once").start()
    first, second, *lines = str(caught.value).splitlines()
    assert first == ("worker-0 died before its check-in: exit status 1: LookupError: no settings")
    assert second == "The last lines on its standard error:"
    assert lines[:2] == ["first line", "Traceback (most recent call last):"]
    assert any("in raise_at_once" in line for line in lines)
    assert capfd.readouterr().err.splitlines() == lines


def test_workers_that_do_not_check_in_are_named_and_ended() -> None:
    group = group_of(2, target="tests.workers.targets:never_check_in", check_in_timeout=1.0)
    began = monotonic()
    with pytest.raises(CheckInTimeoutError, match="worker-0, worker-1 did not check in"):
        group.start()
    assert monotonic() - began < 10
    assert not any(exists(worker.pid or 0) for worker in group.workers)


# Deaths after it.

DEATHS = {
    "raise it": "exit status 1: told to: it",
    f"die {int(signal.SIGKILL)}": "killed by SIGKILL",
    f"die {int(signal.SIGSEGV)}": "killed by SIGSEGV",
    f"die {int(signal.SIGRTMIN) + 1}": f"killed by signal {int(signal.SIGRTMIN) + 1}",
}


@pytest.mark.parametrize(("command", "what"), DEATHS.items(), ids=DEATHS)
def test_death_after_the_check_in(command: str, what: str) -> None:
    """It is told once, after the worker's last message; the others go on."""
    events = Events()
    with group_of(2, on_message=events.message, on_worker_lost=events.worker_lost) as group:
        first, second = group.workers
        first.port.send(command.encode())
        run_until(lambda: events.lost)
        assert events.all == [("worker-0", b"last"), ("worker-0", None)]
        assert str(first.error).splitlines()[0] == f"worker-0 died after its check-in: {what}"
        assert not first.is_alive
        assert not first.port.is_valid
        assert second.port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
        assert not exists(first.pid or 0)
    assert events.lost == [first]


def test_all_messages_before_the_death_arrive() -> None:
    events = Events()
    with group_of(2, on_message=events.message, on_worker_lost=events.worker_lost) as group:
        group.broadcast(b"flood 2000")
        run_until(lambda: len(events.lost) == 2)
    for worker in group.workers:
        assert events.of(worker) == [*[str(n).encode() for n in range(2000)], None]


def test_all_messages_before_the_death_arrive_at_a_group_that_was_busy() -> None:
    """Its loop does not run when the worker dies, nor for a while after."""
    events = Events()
    with group_of(on_message=events.message, on_worker_lost=events.worker_lost) as group:
        worker = group.workers[0]
        worker.port.send(b"flood 500")
        assert eventually(lambda: not exists(worker.pid or 0))
        assert events.all == []
        run_until(lambda: events.lost)
        assert events.of(worker) == [*[str(n).encode() for n in range(500)], None]


def test_the_last_20_lines_of_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    events = Events()
    with group_of(on_worker_lost=events.worker_lost, on_message=events.message) as group:
        worker = group.workers[0]
        lines = [f"line {number}" for number in range(100)]
        worker.port.send(f"write {'|'.join(lines)}".encode())
        worker.port.send(b"die 9")
        run_until(lambda: events.lost)
    text = str(worker.error)
    assert text.splitlines()[0] == "worker-0 died after its check-in: killed by SIGKILL"
    assert text.splitlines()[2:] == lines[-40:]
    assert capfd.readouterr().err.splitlines() == lines


def test_a_child_of_the_worker_does_not_hide_its_end() -> None:
    """It inherited standard error, and may write there for ever."""
    events = Events()
    with group_of(on_message=events.message, on_worker_lost=events.worker_lost) as group:
        began = monotonic()
        group.broadcast(b"leave-child")
        run_until(lambda: events.lost)
        assert monotonic() - began < 10
        child = int(events.of(group.workers[0])[0] or b"")
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not is_running(child))


def refuse(pid: int) -> int:
    raise OSError("no descriptors for processes here")


def test_ends_are_seen_without_descriptors_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that have none."""
    monkeypatch.setattr(os, "pidfd_open", refuse)
    events = Events()
    with group_of(2, on_message=events.message, on_worker_lost=events.worker_lost) as group:
        first, second = group.workers
        first.port.send(b"die 9")
        run_until(lambda: events.lost)
        assert events.of(first) == [b"last", None]
        assert str(first.error) == "worker-0 died after its check-in: killed by SIGKILL"
    assert second.error is None
    assert not any(exists(worker.pid or 0) for worker in group.workers)


def test_a_process_that_cannot_be_attended_to_is_ended(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    def fail(*arguments: object) -> None:
        raise LookupError("injected")

    monkeypatch.setattr(processes, "_wait", fail)
    group = group_of()
    with pytest.raises(WorkerDiedError, match="killed by SIGKILL"):
        group.start()
    assert [type(error) for error in reports.take()] == [LookupError]
    assert not exists(group.workers[0].pid or 0)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_main_process_without_standard_streams(closed: str, tmp_path: Path) -> None:
    program = (
        "from portkit.workers import WorkerGroup\n"
        f"group = WorkerGroup({OBEY!r}, count=2, over='message', check_in_timeout=30.0)\n"
        "with group:\n"
        "    group.broadcast(b'write something')\n"
        "    answer = group.workers[1].port.request(b'echo x', reply_timeout=30.0).data\n"
        f"open({str(tmp_path / 'answer')!r}, 'wb').write(answer)\n"
    )
    done = run("sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer").read_bytes() == b"x"


def test_a_worker_that_is_killed_while_it_is_asked() -> None:
    events = Events()
    with group_of(on_message=events.message, on_worker_lost=events.worker_lost) as group:
        worker = group.workers[0]
        with pytest.raises(BecameInvalidError):
            worker.port.request(b"die 9", reply_timeout=PATIENCE)


# Stopping.


def test_stop_lets_workers_finish_what_they_were_sent() -> None:
    events = Events()
    with group_of(2, on_message=events.message) as group:
        for number in range(100):
            group.broadcast(b"introduce" if number % 10 else b"echo x")
    for worker in group.workers:
        assert len(events.of(worker)) == 90
        assert worker.error is None


@pytest.mark.parametrize(("how", "name"), [("", "SIGTERM"), (" stubbornly", "SIGKILL")])
def test_a_worker_that_hangs_is_ended_within_the_time_out(
    how: str, name: str, reports: Reports
) -> None:
    events = Events()
    group = group_of(on_message=events.message).start()
    first = group.workers[0]
    first.port.send(f"hang{how}".encode())
    run_until(lambda: events.all)
    began = monotonic()
    group.stop(2.0)
    assert monotonic() - began < 5
    assert str(first.error) == (
        f"worker-0 died after its check-in: killed by {name}, as it did not end within 1 s of "
        "being told to"
    )
    assert not exists(first.pid or 0)
    assert reports.take() == [first.error]


def test_stop_with_time_out_0_kills_nobody() -> None:
    """They find their main side gone."""
    group = group_of(2).start()
    with pytest.raises(ReceiveTimeoutError, match="worker-0, worker-1 did not stop within 0 s"):
        group.stop(0)
    group.stop(PATIENCE)
    assert not any(worker.error for worker in group.workers)
    assert not any(exists(worker.pid or 0) for worker in group.workers)


def test_a_group_of_a_worker_ends_with_it() -> None:
    events = Events()
    with group_of(target="tests.workers.targets:run_a_group", on_message=events.message) as group:
        run_until(lambda: events.all)
        inner = int(events.of(group.workers[0])[0] or b"")
        assert is_running(inner)
        os.kill(group.workers[0].pid or 0, signal.SIGKILL)
        group.on_worker_lost = events.worker_lost
        run_until(lambda: events.lost)
        assert eventually(lambda: not is_running(inner))


# The main process ends.

MAIN = """
import sys, time
from portkit import RunLoop
from portkit.workers import WorkerGroup
group = WorkerGroup("tests.workers.targets:obey", count=3, over="message", check_in_timeout=30.0)
group.start()
group.workers[1].port.send(b"hang stubbornly")
print(*[worker.pid for worker in group.workers], flush=True)
"""


@pytest.fixture
def main_process(request: pytest.FixtureRequest) -> Iterator[tuple[Any, list[int]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN + request.param], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 3
        yield process, pids
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()
        process.stdin.close()


@pytest.mark.parametrize("main_process", ["time.sleep(1000)"], indirect=True)
def test_no_orphan_when_the_main_process_is_killed(main_process: tuple[Any, list[int]]) -> None:
    process, pids = main_process
    assert all(is_running(pid) for pid in pids)
    process.kill()
    assert eventually(lambda: not any(is_running(pid) for pid in pids), 20.0)


@pytest.mark.parametrize("main_process", ["sys.stdin.readline()"], indirect=True)
def test_no_orphan_when_the_main_process_returns(main_process: tuple[Any, list[int]]) -> None:
    process, pids = main_process
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.wait(PATIENCE) == 0
    assert eventually(lambda: not any(is_running(pid) for pid in pids), 20.0)


@pytest.mark.parametrize(
    "main_process",
    ["import os\nif os.fork() == 0: time.sleep(6)\nelse: time.sleep(1000)"],
    indirect=True,
)
def test_a_forked_child_of_the_main_process_keeps_no_worker(
    main_process: tuple[Any, list[int]],
) -> None:
    process, pids = main_process
    began = monotonic()
    process.kill()
    assert eventually(lambda: not any(is_running(pid) for pid in pids), 20.0)
    assert monotonic() - began < 5.5


# Session.receive, and others at the door.


@pytest.mark.parametrize("over", ["mach", "message"])
def test_receive_hears_the_stop(over: str) -> None:
    events = Events()
    with WorkerGroup(
        "tests.workers.targets:receive_all",
        count=2,
        over=over,
        check_in_timeout=PATIENCE,
        on_message=events.message,
    ) as group:
        for number in range(50):
            group.broadcast(str(number).encode())
        assert group.workers[0].port.request(b"?", reply_timeout=PATIENCE).data == b"?"
    for worker in group.workers:
        numbers = [str(number).encode() for number in range(50)]
        assert events.of(worker) == [*numbers, b"told to stop"]


def test_receive_times_out_and_minds_a_delegate() -> None:
    outcome: list[str] = []

    def target(session: Session) -> None:
        for _ in range(2):
            try:
                session.receive(0.01)
            except ReceiveTimeoutError as error:
                outcome.append(str(error))
        session.port.delegate = print
        try:
            session.receive(0.01)
        except Exception as error:
            outcome.append(str(error))

    with WorkerGroup(target, count=1):
        assert eventually(lambda: len(outcome) == 3)
    assert outcome == [
        *["worker-0 received nothing within 0.01 s"] * 2,
        "worker-0's port has a delegate, which gets its messages: use run",
    ]


def test_the_door_refuses_other_processes(reports: Reports) -> None:
    """Who knows the name of the door knows no token."""
    with group_of() as group:
        door = str(group.door)
        done = beside(lambda: run(*PORTKIT, "worker", OBEY, "--main", door))
        assert done.returncode == 1
        assert done.stderr == (
            "portkit worker: the check-in was refused: this group starts its workers itself, and "
            "expects no others\n"
        )
        assert group.workers[0].port.request(b"echo x", reply_timeout=PATIENCE).data == b"x"
    assert len(reports.take()) == 1
