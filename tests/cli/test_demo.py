"""The main job on folders of every kind; in this process."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portkit.cli.demo import command
from portkit.cli.demo.command import COMPLETE, INCOMPLETE, INTERRUPTED, WRONG_USAGE, run_demo
from portkit.cli.demo.digest import Digest, digest_file
from portkit.cli.demo.display import Display
from portkit.cli.demo.files import find_files, shown, standard_library
from tests.cli.helpers import row

Capture = pytest.CaptureFixture[str]


def hash_tree(path: Path, **options: Any) -> int:
    return run_demo(path, **{"workers": 2, "over": "mach", "verify": False, **options})


def refuse(error: OSError) -> None:
    raise AssertionError(error)


# Finding files.


def test_an_empty_folder(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "sub").mkdir()
    assert hash_tree(tmp_path) == INCOMPLETE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{tmp_path}: there are no files here, so there is nothing to do\n"


@pytest.mark.parametrize("content", [b"", b"content"])
def test_a_single_file(tmp_path: Path, capsys: Capture, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert hash_tree(file, verify=True) == COMPLETE
    out, err = capsys.readouterr()
    assert row(out, "files") == "1 of 1"
    assert row(out, "bytes").startswith(f"{len(content)} (")
    assert row(out, "verified").startswith("1 of 1")
    expected = hashlib.sha256(b".\0" + hashlib.sha256(content).digest())
    assert row(out, "sha-256") == expected.hexdigest()
    assert err == ""


def test_a_relative_path_gives_the_same(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.chdir(tmp_path / "a")
    digests: list[str] = []
    for path in (tmp_path / "a", ".", "../a", "../b/../a"):
        assert hash_tree(Path(path)) == COMPLETE
        digests.append(row(capsys.readouterr().out, "sha-256"))
    assert len(set(digests)) == 1


def test_only_regular_files_are_listed_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/d", "sub/c", "sub-2/e", "site-packages/f", "__pycache__/g"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "to-file").symlink_to("a")
    (tmp_path / "to-folder").symlink_to("sub")
    (tmp_path / "to-nothing").symlink_to("nothing")
    (tmp_path / "to-itself").symlink_to("to-itself")
    (tmp_path / "sub" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "fifo")
    names = [str(file.relative_to(tmp_path)) for file in find_files(tmp_path, refuse)]
    assert names == ["a", "b", "__pycache__/g", "site-packages/f", "sub/c", "sub/d", "sub-2/e"]


def test_of_the_standard_library_what_was_installed_later_is_left_out() -> None:
    files = find_files(standard_library(), refuse)
    assert standard_library() / "os.py" in files
    assert not any({"site-packages", "__pycache__"} & {*file.parts} for file in files)


def test_a_link_to_a_folder_or_a_file_may_be_the_path_itself(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "to-file").symlink_to("folder/file")
    assert find_files(tmp_path / "to-folder", refuse) == [tmp_path / "to-folder" / "file"]
    assert find_files(tmp_path / "to-file", refuse) == [tmp_path / "to-file"]


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, make_socket, None])
def test_what_would_block_or_never_end_is_not_opened(
    tmp_path: Path,
    capsys: Capture,
    make: Callable[[Path], None] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("special") if make else Path("/dev/zero")
    if make:
        make(path)
    assert hash_tree(path) == INCOMPLETE
    assert capsys.readouterr().err.startswith(f"{path}: neither a folder nor a regular file\n")


def test_a_path_that_went_after_it_was_checked(tmp_path: Path, capsys: Capture) -> None:
    gone = tmp_path / "gone"
    assert hash_tree(gone) == INCOMPLETE
    assert capsys.readouterr().err.startswith(f"{gone}: No such file or directory\n")


def test_a_folder_that_goes_while_it_is_listed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(path: Path, onerror: Callable[[OSError], None]) -> Any:
        for folder, folders, names in real(path, onerror=onerror):
            yield folder, folders, [*names, "gone"]

    real = os.walk
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "walk", walk)
    assert hash_tree(tmp_path) == INCOMPLETE
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'gone'}: No such file or directory",
        "incomplete: 1 not listed",
    ]


# Names.

NAMES: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b"\xff\xfe", "\\udcff\\udcfe"),
    "two lines": (b"new\nline", "new\\nline"),
    "escape sequence": (b"\x1b[31mred", "\\x1b[31mred"),
    "markup": (b"[red]x[/red]", "[red]x[/red]"),
    "wrong markup": (b"x[/red]", "x[/red]"),
    "emoji code": (b":smile:", ":smile:"),
    "accents": ("hé 日本".encode(), "hé 日本"),
    "backslash": (b"a\\b", "a\\b"),
    "spaces": (b"  ", "  "),
    "long": (b"x" * 250, "x" * 250),
}


def strange_file(folder: Path, name: bytes) -> Path:
    file = folder / os.fsdecode(name)
    file.parent.mkdir(exist_ok=True)  # closing markup has a slash in it
    file.write_bytes(b"content")
    return file


@pytest.mark.parametrize("name", [name for name, _ in NAMES.values()], ids=NAMES)
def test_strange_names_are_hashed(tmp_path: Path, capsys: Capture, name: bytes) -> None:
    strange_file(tmp_path, name)
    assert hash_tree(tmp_path, verify=True) == COMPLETE
    out, _ = capsys.readouterr()
    expected = hashlib.sha256(name + b"\0" + hashlib.sha256(b"content").digest())
    assert row(out, "sha-256") == expected.hexdigest()


@pytest.mark.parametrize(("name", "expected"), NAMES.values(), ids=NAMES)
def test_strange_names_are_told_as_they_are_on_one_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: bytes, expected: str
) -> None:
    file = strange_file(tmp_path, name)
    after(monkeypatch, command, "find_files", file.unlink)
    assert hash_tree(tmp_path) == INCOMPLETE
    assert capsys.readouterr().err.split("\n") == [
        f"{tmp_path}/{expected}: No such file or directory",
        "incomplete: 1 without a digest",
        "",
    ]


def test_shown_takes_strings_and_paths() -> None:
    assert shown("a\tb") == shown(Path("a\tb")) == "a\\tb"


# Files that change under the job's hands.


def after(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, action: Callable[[], object]
) -> None:
    """Have something happen right after a step of the job."""
    step = getattr(owner, name)

    def stepped(*arguments: Any) -> Any:
        result = step(*arguments)
        action()
        return result

    monkeypatch.setattr(owner, name, stepped)


def test_a_file_that_goes_after_it_was_listed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    after(monkeypatch, command, "find_files", (tmp_path / "b").unlink)
    assert hash_tree(tmp_path, verify=True) == INCOMPLETE
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"{tmp_path / 'b'}: No such file or directory",
        "incomplete: 1 without a digest",
    ]
    assert row(out, "files") == "2 of 3"
    assert row(out, "verified").startswith("2 of 2")


def test_a_file_that_changes_before_it_is_verified(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)

    def change() -> None:
        (tmp_path / "a").write_text("A")
        (tmp_path / "b").unlink()

    after(monkeypatch, Display, "summary", change)
    assert hash_tree(tmp_path, verify=True) == INCOMPLETE
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"{tmp_path / 'a'}: not verified: the digest differs",
        f"{tmp_path / 'b'}: not verified: No such file or directory",
        "incomplete: 2 not verified",
    ]
    assert row(out, "verified").startswith("1 of 3")


def test_interrupted_while_it_lists(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    after(monkeypatch, command, "find_files", interrupt)
    assert hash_tree(tmp_path) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted: the files were still being listed\n"


def test_a_transport_that_starts_no_workers(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "transport", lambda scheme: None)
    assert hash_tree(tmp_path, over="other") == WRONG_USAGE
    assert "workers cannot be started over 'other'" in capsys.readouterr().err


def test_more_workers_than_files(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert hash_tree(tmp_path, workers=40) == COMPLETE
    assert row(capsys.readouterr().out, "workers").endswith(" 1")


# Digests.


@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1_000_000])
def test_the_digest_of_a_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    expected = Digest(hashlib.sha256(content).digest(), size)
    assert digest_file(tmp_path / "file") == expected
    assert digest_file(tmp_path / "file", lambda: True) == expected


def test_a_digest_may_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    asked: list[bool] = []

    def goes_on() -> bool:
        asked.append(len(asked) < 2)
        return asked[-1]

    assert digest_file(tmp_path / "file", goes_on) is None
    assert asked == [True, True, False]


@pytest.mark.parametrize("path", [".", "no-such-file"])
def test_what_cannot_be_read_has_no_digest(path: str) -> None:
    with pytest.raises(OSError, match="directory"):
        digest_file(Path(path))
