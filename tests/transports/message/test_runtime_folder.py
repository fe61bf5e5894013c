"""The runtime folder: where it is, whom it trusts, and what it says when the system refuses."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portkit import AuthenticationError, TransportError
from portkit_transports.message.directory import Directory
from portkit_transports.message.record import Record, file_name
from tests.ports.helpers import in_child
from tests.transports.message.directory_helpers import entries, listening

STRANGER = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "names")


@pytest.fixture
def record(directory: Directory) -> Iterator[Record]:
    """A record, not claimed, whose socket listens. The folder is there."""
    with listening(directory) as record:
        yield record


# Where it is.


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PORTKIT_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return monkeypatch


def test_the_variable_decides(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("PORTKIT_RUNTIME_DIR", "/chosen/for/portkit")
    environment.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Directory().path == Path("/chosen/for/portkit")
    assert Directory(tmp_path).path == tmp_path


def test_a_relative_path_stays_where_it_was(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.chdir(tmp_path)
    environment.setenv("PORTKIT_RUNTIME_DIR", "names")
    chosen, given = Directory(), Directory(Path("names"))
    environment.chdir("/")
    assert chosen.path == given.path == tmp_path / "names"


def test_then_the_sessions_folder(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("PORTKIT_RUNTIME_DIR", "")
    environment.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Directory().path == tmp_path / "portkit"


@pytest.mark.parametrize("session", [None, "", "relative", "/does/not/exist"])
def test_then_the_folder_for_temporary_files(
    environment: pytest.MonkeyPatch, tmp_path: Path, session: str | None
) -> None:
    if session is not None:
        environment.setenv("XDG_RUNTIME_DIR", session)
    assert Directory().path == tmp_path / f"portkit-{os.geteuid()}"


@as_root
def test_somebody_elses_session_is_left_alone(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = tmp_path / "session"
    session.mkdir()
    os.chown(session, STRANGER, STRANGER)
    environment.setenv("XDG_RUNTIME_DIR", str(session))
    assert Directory().path == tmp_path / f"portkit-{os.geteuid()}"


def test_without_any_folder_the_variable_is_named(environment: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    environment.setattr("tempfile.gettempdir", none)
    with pytest.raises(TransportError, match="PORTKIT_RUNTIME_DIR"):
        Directory()


# Whom it trusts.


def refused(directory: Directory, *said: str) -> None:
    """Every use of the folder is refused, with words that name it and help."""
    record = Record("name", "1-0123456789abcdef.sock", bytes(16), bytes(16), 1, 0)
    calls: list[Callable[[], object]] = [
        directory.prepare,
        lambda: directory.claim(record),
        lambda: directory.find("name"),
        lambda: directory.wait_for("name", 0),
        lambda: directory.remove(record),
        directory.names,
        directory.sweep,
    ]
    for call in calls:
        with pytest.raises(TransportError) as raised:
            call()
        for words in (str(directory.path), *said):
            assert words in str(raised.value)


def test_a_symbolic_link_is_refused(directory: Directory, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    directory.path.symlink_to(real)
    refused(directory, "symbolic link", "PORTKIT_RUNTIME_DIR")
    assert not list(real.iterdir())


def test_a_dangling_link_is_refused(directory: Directory, tmp_path: Path) -> None:
    directory.path.symlink_to(tmp_path / "nowhere")
    refused(directory, "symbolic link")
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_refused(directory: Directory) -> None:
    directory.path.touch()
    refused(directory, "no folder", "PORTKIT_RUNTIME_DIR")


@as_root
def test_another_users_folder_is_refused(directory: Directory) -> None:
    directory.path.mkdir(mode=0o700)
    os.chown(directory.path, STRANGER, STRANGER)
    refused(directory, f"belongs to user {STRANGER}", "PORTKIT_RUNTIME_DIR")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(directory: Directory, mode: int) -> None:
    directory.path.mkdir()
    directory.path.chmod(mode)
    refused(directory, f"{mode:04o}", f"chmod 700 {directory.path}")
    directory.path.chmod(0o700)
    directory.prepare()


def test_a_folder_that_others_may_read_is_left_as_it_is(directory: Directory) -> None:
    directory.path.mkdir()
    directory.path.chmod(0o755)
    with listening(directory) as record:
        directory.claim(record)
    assert directory.path.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_others_could_replace_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    directory = Directory(shared / "names")
    with pytest.raises(TransportError, match=r"replace.*chmod o-w"):
        directory.prepare()
    shared.chmod(0o1777)
    directory.prepare()


# Whose names it trusts.


@as_root
def test_another_users_record_is_refused(directory: Directory, record: Record) -> None:
    directory.claim(record)
    path = directory.path / file_name("name")
    os.chown(path, STRANGER, STRANGER)
    calls: list[Callable[[], object]] = [
        lambda: directory.find("name"),
        lambda: directory.wait_for("name", 0),
        lambda: directory.claim(record),
    ]
    for call in calls:
        with pytest.raises(AuthenticationError, match=f"user {STRANGER}") as raised:
            call()
        assert str(path) in str(raised.value)
    assert directory.names() == []
    assert not directory.remove(record)
    directory.sweep()
    assert path.exists()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_record_that_others_may_write_is_refused(
    directory: Directory, record: Record, mode: int
) -> None:
    directory.claim(record)
    (directory.path / file_name("name")).chmod(mode)
    with pytest.raises(AuthenticationError, match=f"mode {mode:04o}"):
        directory.find("name")
    assert directory.names() == []


@as_root
def test_a_record_that_may_not_be_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o711)
        directory = Directory(Path(parent) / "names")
        with listening(directory) as record:
            directory.claim(record)
        os.chown(directory.path, STRANGER, STRANGER)

        def stranger() -> object:
            os.seteuid(STRANGER)
            return directory.find("name")

        answer = in_child(stranger)
    assert answer.startswith("AuthenticationError")
    assert f"user {STRANGER}" in answer


@as_root
def test_another_users_leftovers_are_not_swept(directory: Directory) -> None:
    directory.prepare()
    left = directory.path / "tmp.1-0123456789abcdef"
    left.touch()
    os.chown(left, STRANGER, STRANGER)
    directory.sweep()
    assert left.exists()


# What the system refuses.


def test_a_missing_parent_is_told(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "missing" / "names")
    with pytest.raises(TransportError, match=r"does not exist.*PORTKIT_RUNTIME_DIR") as raised:
        directory.prepare()
    assert str(directory.path) in str(raised.value)


def test_a_folder_removed_meanwhile_is_told(directory: Directory) -> None:
    with listening(directory) as record:
        directory.claim(record)
    for path in directory.path.iterdir():
        path.unlink()
    directory.path.rmdir()
    with pytest.raises(TransportError, match="there is no runtime folder"):
        directory.claim(record)
    assert directory.names() == []


@pytest.fixture
def small() -> Iterator[Path]:
    """The root of a file system of 16 KiB, with a path that leaves room for a socket's."""
    path = Path(tempfile.mkdtemp(prefix="pk-"))
    options = "size=16k,mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        path.rmdir()
        pytest.skip("file systems cannot be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
    path.rmdir()


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


def test_a_read_only_file_system_is_told(small: Path) -> None:
    directory = Directory(small / "names")
    remount(small, "ro")
    with pytest.raises(TransportError, match=r"read-only.*PORTKIT_RUNTIME_DIR") as raised:
        directory.prepare()
    assert str(directory.path) in str(raised.value)
    remount(small, "rw")
    with listening(directory) as record:
        directory.claim(record)
        remount(small, "ro")
        assert directory.find("name") == record
        assert directory.names() == ["name"]
        for call in (directory.claim, directory.remove):
            with pytest.raises(TransportError, match=r"read-only.*PORTKIT_RUNTIME_DIR"):
                call(record._replace(port_id=bytes(16)))
        remount(small, "rw")


def test_a_full_file_system_is_told_and_keeps_what_was_there(small: Path) -> None:
    directory = Directory(small / "names")
    with listening(directory) as record:
        directory.claim(record)
        before = entries(directory)
        filler = small / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(64 * 1024))
        with pytest.raises(TransportError, match=r"full.*PORTKIT_RUNTIME_DIR") as raised:
            directory.claim(record._replace(name="other"))
        assert str(directory.path) in str(raised.value)
        assert entries(directory) == before
        assert directory.names() == ["name"]
        filler.unlink()
        directory.claim(record._replace(name="other"))
        assert directory.names() == ["name", "other"]


def test_a_limit_on_the_size_of_files_is_told(directory: Directory, record: Record) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        directory.claim(record)

    answer = in_child(limited)
    assert answer.startswith("TransportError")
    assert "ulimit -f" in answer
    assert entries(directory) == {"lock", record.socket}


def test_having_too_many_files_open_is_told_and_kills_nobody(
    directory: Directory, record: Record
) -> None:
    directory.claim(record)

    def exhausted() -> bool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        return directory.is_live(record)

    answer = in_child(exhausted)
    assert answer.startswith("TransportError")
    assert "ulimit -n" in answer
    assert directory.names() == ["name"]
