"""``portkit demo`` as its users have it: a process, its output and its exit status."""

from __future__ import annotations

import codecs
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Self

import pytest

import portkit
from portkit.cli.demo.sides import _CHECK_IN_TIMEOUT
from tests.cli.helpers import PORTKIT, demo, environment, row, run
from tests.support import PATIENCE, eventually, unmeasured


def digest_of_tree(root: Path) -> str:
    tree = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        name = os.fsencode(file.relative_to(root))
        tree.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return tree.hexdigest()


def test_the_standard_library_by_default() -> None:
    done = demo()
    assert done.returncode == 0
    assert done.stderr == ""
    count, total = row(done.stdout, "files").split(" of ")
    assert count == total
    assert int(count) > 100
    assert "over mach: worker-0 " in row(done.stdout, "workers")
    assert re.fullmatch(r"\d+ \(.*B\)", row(done.stdout, "bytes"))
    assert re.fullmatch(r"[0-9a-f]{64}", row(done.stdout, "sha-256"))


OVER = pytest.mark.parametrize("over", ["mach", "message", "socket"])


@OVER
def test_10000_files_are_hashed_and_verified(tree: Path, over: str) -> None:
    done = demo(tree, "--verify", "--workers", "4", "--over", over)
    assert done.returncode == 0
    assert done.stderr == ""
    assert row(done.stdout, "files") == "10000 of 10000"
    assert row(done.stdout, "sha-256") == digest_of_tree(tree)
    assert row(done.stdout, "verified").startswith("10000 of 10000 digests agree")
    counts = re.findall(r"worker-\d (\d+)", row(done.stdout, "workers"))
    assert sum(map(int, counts)) == 10_000


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ("mach", "SystemExit: told to crash"),
        ("message", "exit status 1: told to crash"),
        ("socket", "SystemExit: told to crash"),
    ],
)
def test_a_lost_worker_costs_nothing(tree: Path, over: str, reason: str) -> None:
    done = demo(tree, "--crash", "--verify", "--workers", "3", "--over", over)
    assert done.returncode == 3
    # What a process of its own says of its end, it may say in the midst of other lines.
    told, own = re.subn("(?<!: )told to crash", "", done.stderr)
    assert own == (0 if over == "mach" else 1)
    first, last = [line for line in told.splitlines() if line]
    assert re.fullmatch(rf"worker-\d was lost: {reason}; it had \d+ files in hand", first)
    assert last == "complete, although workers were lost: 1"
    assert row(done.stdout, "files") == "10000 of 10000"
    assert row(done.stdout, "sha-256") == digest_of_tree(tree)
    assert row(done.stdout, "verified").startswith("10000 of 10000")


def test_when_all_workers_are_lost_it_says_so(tree: Path) -> None:
    done = demo(tree, "--crash", "--workers", "1")
    assert done.returncode == 1
    lost, none_left, last = done.stderr.splitlines()
    assert lost.startswith("worker-0 was lost: SystemExit: told to crash")
    count = re.fullmatch(r"no worker is left for (\d+) files", none_left)
    assert count is not None
    assert last == f"incomplete: {count[1]} without a digest"
    assert row(done.stdout, "files") == f"{10_000 - int(count[1])} of 10000"


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize(
    ("over", "reason"),
    [("message", "killed by SIGKILL"), ("socket", "its connection ended: .+")],
)
def test_a_worker_that_is_killed_half_way_costs_nothing(tree: Path, over: str, reason: str) -> None:
    """By ``kill -9``, while the main side cannot help it."""
    options = ("--over", over, "--verify", "--workers", "3")
    with OnTerminal(*PORTKIT, "demo", tree, *options) as command:
        command.read_until(re.compile(r"[1-9]\d*/10000"))
        command.process.send_signal(signal.SIGSTOP)
        workers = children_of(command.process.pid)
        assert len(workers) == 3
        os.kill(workers[1], signal.SIGKILL)
        command.process.send_signal(signal.SIGCONT)
        shown = command.read_until(None)
        assert command.process.stdout is not None
        output = command.process.stdout.read().decode()
        assert command.process.wait(PATIENCE) == 3
    assert re.search(rf"worker-\d was lost: {reason}; it had \d+ files in hand", shown)
    assert "complete, although workers were lost: 1" in shown
    assert row(output, "files") == "10000 of 10000"
    assert row(output, "sha-256") == digest_of_tree(tree)
    assert row(output, "verified").startswith("10000 of 10000")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_worker_that_ends_before_its_check_in_is_not_waited_for(tmp_path: Path) -> None:
    """Over a socket as well, where the group itself knows nothing of processes."""
    (tmp_path / "file").touch()
    command = (*PORTKIT, "demo", tmp_path, "--over", "socket", "--workers", "2")
    with OnTerminal(*command) as demo:
        assert eventually(lambda: children_of(demo.process.pid))
        demo.process.send_signal(signal.SIGSTOP)
        os.kill(children_of(demo.process.pid)[0], signal.SIGKILL)
        demo.process.send_signal(signal.SIGCONT)
        began = monotonic()
        shown = demo.read_until(None)
        assert demo.process.wait(PATIENCE) == 1
        assert monotonic() - began < _CHECK_IN_TIMEOUT / 2
    line = "portkit demo: a worker's process ended before all had checked in: killed by SIGKILL"
    assert line in shown


def test_when_it_is_killed_its_workers_end(tmp_path: Path) -> None:
    """Also those that are in a large file; and no private key is left behind."""
    temporary, folder = tmp_path / "temporary", tmp_path / "large"
    temporary.mkdir()
    folder.mkdir()
    variables = {"TMPDIR": str(temporary)}
    command = (*PORTKIT, "demo", large_files(folder), "--over", "socket", "--workers", "2")
    with OnTerminal(*command, **variables) as killed:
        killed.read_until("0 bytes")
        workers = children_of(killed.process.pid)
        assert len(workers) == 2
        killed.process.kill()
        assert eventually(lambda: not any(Path(f"/proc/{one}").exists() for one in workers))
    assert list(temporary.iterdir()) == []


# Ctrl-C.


def large_files(folder: Path) -> Path:
    """Files that take minutes to hash, and no room on the disk."""
    for name in range(40):
        with (folder / str(name)).open("wb") as file:
            file.truncate(20 << 30)
    return folder


class OnTerminal:
    """A command whose standard error is a pseudo-terminal; its standard output is a pipe."""

    def __init__(self, *command: str | Path, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        variables = environment(TERM="xterm", COLUMNS="100", **variables)
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=unmeasured(variables),
            process_group=0,
        )
        os.close(theirs)
        self.seen = ""
        # A read may end inside a character.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)

    def interrupt(self) -> None:
        """As the terminal does at a Ctrl-C: everyone in the foreground gets it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def read_until(self, text: str | re.Pattern[str] | None) -> str:
        """Read what is shown until ``text`` is there, or else to the end."""
        wanted = re.compile(re.escape(text)) if isinstance(text, str) else text
        while wanted is None or not wanted.search(self.seen):
            try:
                data = os.read(self._ours, 4096)
            except OSError:  # Linux's way to say that the other side was closed
                data = b""
            if not data:
                assert text is None, f"{text!r} was not shown, but {self.seen!r}"
                break
            self.seen += self._decode(data)
        return self.seen


STARTING, HASHING = "0/40", "0 bytes"


@pytest.mark.parametrize(
    ("moment", "times", "over"),
    [
        (STARTING, 1, "mach"),
        (STARTING, 1, "message"),
        (STARTING, 20, "mach"),
        (STARTING, 20, "socket"),
        (HASHING, 1, "mach"),
        (HASHING, 1, "socket"),
        (HASHING, 20, "mach"),
        (HASHING, 20, "message"),
    ],
)
def test_interrupted(tmp_path: Path, moment: str, times: int, over: str) -> None:
    """It says how far it was and ends soon, though each of its workers is in a large file."""
    folder = large_files(tmp_path)
    with OnTerminal(*PORTKIT, "demo", folder, "--workers", "2", "--over", over) as command:
        command.read_until(moment)
        began = monotonic()
        for _ in range(times):
            command.interrupt()
        shown = command.read_until(None)
        # The last of many may strike when Python is gone but for its process.
        expected = {130} if times == 1 else {130, -signal.SIGINT}
        assert command.process.wait(PATIENCE) in expected, shown
        assert monotonic() - began < 4.5
    assert "Traceback" not in shown
    assert "interrupted: 0 of 40 files were through" in shown


def test_interrupted_while_it_verifies(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 200 << 20)
    with OnTerminal(*PORTKIT, "demo", tmp_path, "--verify", "--workers", "1") as command:
        command.read_until("verifying")
        command.process.send_signal(signal.SIGINT)
        shown = command.read_until(None)
        assert command.process.wait(PATIENCE) == 130
    assert "Traceback" not in shown
    assert "interrupted: 1 of 1 files were through" in shown


# Terminals and pipes.


def test_the_bar_moves(tree: Path) -> None:
    with OnTerminal(*PORTKIT, "demo", tree, "--verify") as command:
        shown = command.read_until(None)
        assert command.process.wait(PATIENCE) == 0
    for what in ("hashing", "verifying"):
        counts = [int(n) for n in re.findall(rf"{what} [^\n\r]*?(\d+)/10000", shown)]
        assert counts == sorted(counts)
        assert counts[-1] == 10_000
        assert len(set(counts)) > 3


def test_no_bar_where_there_is_no_terminal(tree: Path) -> None:
    done = demo(tree / "00", stderr=subprocess.STDOUT)
    assert "hashing" not in done.stdout
    assert "\x1b" not in done.stdout


def test_a_narrow_terminal_cuts_nothing_off(tree: Path) -> None:
    done = demo(tree / "00", env=environment(COLUMNS="20"))
    assert row(done.stdout, "sha-256") == digest_of_tree(tree / "00")


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_a_pipe_that_nobody_reads(tree: Path, both: bool) -> None:
    """As in ``portkit demo | head -0``."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        done = demo(
            tree / "00", "--verify", stdout=write_fd, stderr=write_fd if both else subprocess.PIPE
        )
    finally:
        os.close(write_fd)
    assert done.returncode == 1
    if not both:
        assert done.stderr == ""


# What cannot be read.

_AS_OTHERS_ARE = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; gone with the next exec
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def restricted(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python as a user whom permissions bind, which root is not."""
    return run(sys.executable, "-c", _AS_OTHERS_ARE, *arguments)


@pytest.fixture
def permissions(tmp_path: Path) -> None:
    closed = tmp_path / "probe"
    closed.touch(mode=0)
    probe = restricted("-c", "import sys; open(sys.argv[1])", closed)
    closed.unlink()
    if "PermissionError" not in probe.stderr:
        pytest.skip("permissions do not bind this user")


def test_an_unreadable_file(permissions: None, tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).write_text(name)
    (tmp_path / "2").chmod(0)
    done = restricted("-m", "portkit", "demo", tmp_path, "--verify")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{tmp_path / '2'}: Permission denied",
        "incomplete: 1 without a digest",
    ]
    assert row(done.stdout, "files") == "2 of 3"
    assert row(done.stdout, "verified").startswith("2 of 2")


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600], ids=["nothing", "no list", "no entry"])
def test_an_unreadable_folder(permissions: None, tmp_path: Path, mode: int) -> None:
    """Its names cannot be listed; or they can, and what is behind them cannot be seen."""
    (tmp_path / "1").write_text("1")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "2").write_text("2")
    folder.chmod(mode)
    done = restricted("-m", "portkit", "demo", tmp_path)
    folder.chmod(0o700)
    assert done.returncode == 1
    where = folder / "2" if mode == 0o600 else folder
    assert done.stderr.splitlines() == [
        f"{where}: Permission denied",
        "incomplete: 1 not listed",
    ]
    assert row(done.stdout, "files") == "1 of 1"


# The command itself.


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_without_its_libraries_it_says_what_to_install(library: str, tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {library!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from portkit.cli import main\n"
        "main()\n"
    )
    done = run(sys.executable, tmp_path / "without.py", "demo")
    assert done.returncode == 1
    assert done.stderr == (
        f'portkit: the command line needs {library}: pip install "portkit[cli]"\n'
    )


def test_the_version() -> None:
    done = run(*PORTKIT, "--version")
    assert (done.returncode, done.stdout) == (0, f"portkit {portkit.__version__}\n")


def test_without_enough_descriptors_it_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    program = (
        "import resource, runpy\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))\n"
        "runpy.run_module('portkit', run_name='__main__')\n"
    )
    began = monotonic()
    done = run(sys.executable, "-c", program, "demo", tmp_path, "--workers", "50")
    assert done.returncode == 1
    assert "before its check-in" in done.stderr
    assert "Too many open files" in done.stderr
    assert monotonic() - began < 4.5
