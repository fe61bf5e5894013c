"""Files of pre-shared keys: for one user alone, whole or not there, never replaced."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from portkit.errors import AuthenticationError, TransportError
from portkit_transports.socket.key_file import MAX_FILE
from portkit_transports.socket.shared_key import PreSharedKey
from tests.support import PATIENCE

KEY = PreSharedKey(id="laptop", secret=SecretBytes(b"0123456789abcdef"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "laptop.key"


def put(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


@pytest.fixture(params=[0, 0o022, 0o277, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_a_key_comes_back(path: Path) -> None:
    KEY.write(path)
    assert PreSharedKey.read(path) == KEY
    assert PreSharedKey.read(str(path)) == KEY


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    st.binary(min_size=16, max_size=1024),
)
@settings(max_examples=30)
def test_every_key_comes_back(name: str, secret: bytes) -> None:
    key = PreSharedKey(id=name, secret=SecretBytes(secret))
    with tempfile.TemporaryDirectory() as folder:
        key.write(Path(folder, "key"))
        assert PreSharedKey.read(Path(folder, "key")) == key


def test_nobody_else_can_read_it(umask: None, path: Path) -> None:
    KEY.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*path.parent.iterdir()] == [path]


def test_a_file_is_never_replaced(path: Path) -> None:
    put(path, b"something dear")
    with pytest.raises(TransportError, match=r"is there already.*choose another path") as raised:
        KEY.write(path)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == b"something dear"
    assert [*path.parent.iterdir()] == [path]


def test_a_symbolic_link_is_not_followed_to_write(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(TransportError, match="is there already"):
        KEY.write(path)
    assert not path.exists()


def test_of_many_writers_one_wins(path: Path) -> None:
    keys = [PreSharedKey.generate(f"writer-{number}") for number in range(8)]
    start = threading.Barrier(len(keys))
    lost: list[TransportError] = []

    def write(key: PreSharedKey) -> None:
        start.wait(PATIENCE)
        try:
            key.write(path)
        except TransportError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(lost) == len(keys) - 1
    assert PreSharedKey.read(path) in keys
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("call", ["fsync", "link", "fchmod"])
def test_what_cannot_be_written_leaves_nothing(
    call: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(TransportError, match="No space left on device; choose a folder"):
        KEY.write(path)
    assert not [*path.parent.iterdir()]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"cannot write the pre-shared key.*choose a folder"):
        KEY.write(tmp_path / "missing" / "key")


# Reading.


def contents() -> bytes:
    return json.dumps({"id": "laptop", "secret": b"0123456789abcdef".hex()}).encode()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_one_s_own_is_read(mode: int, path: Path) -> None:
    put(path, contents(), mode)
    assert PreSharedKey.read(path) == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_can_reach_is_refused(mode: int, path: Path) -> None:
    put(path, contents(), mode)
    with pytest.raises(AuthenticationError, match=f"'chmod 600 {path}'") as raised:
        PreSharedKey.read(path)
    assert f"mode {mode:04o}" in str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    put(path, contents())
    os.chown(path, 4242, -1)
    with pytest.raises(AuthenticationError, match="belongs to user 4242, who knows it"):
        PreSharedKey.read(path)


def test_a_symbolic_link_to_a_key_is_followed(path: Path) -> None:
    KEY.write(path)
    link = path.with_name("link")
    link.symlink_to(path)
    assert PreSharedKey.read(link) == KEY


def test_a_key_that_is_not_there(path: Path) -> None:
    with pytest.raises(TransportError, match=r"No such file.*generate\(id\)\.write\(path\)"):
        PreSharedKey.read(path)


def test_what_is_no_plain_file_is_refused(path: Path) -> None:
    os.mkfifo(path, 0o600)  # nobody writes to it: opening must not wait
    for other in (path, path.parent, Path("/dev/zero")):
        with pytest.raises(TransportError, match="no plain file"):
            PreSharedKey.read(other)


def test_a_large_file_is_not_read(path: Path) -> None:
    put(path, contents() + b" " * (MAX_FILE - len(contents())))
    assert PreSharedKey.read(path) == KEY
    put(path, contents() + b" " * MAX_FILE)
    with pytest.raises(TransportError, match=f"of up to {MAX_FILE} bytes"):
        PreSharedKey.read(path)


RUBBISH: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "Invalid JSON"),
    "no JSON": (b"laptop:30313233343536373839616263646566\n", "Invalid JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "Invalid JSON"),
    "a list": (b"[]", "valid dictionary|object"),
    "deep": (b"[" * 4000, "Invalid JSON"),
    "no id": (b'{"secret": "30313233343536373839616263646566"}', "id: Field required"),
    "no secret": (b'{"id": "laptop"}', "secret: Field required"),
    "wrong id": (b'{"id": "", "secret": "30313233343536373839616263646566"}', "id: "),
    "no hex": (b'{"id": "x", "secret": "3031323334353637383961626364656"}', "secret: "),
    "spaces": (b'{"id": "x", "secret": "30 31 32 33 34 35 36 37 38 39 61 62"}', "secret: "),
    "short": (
        b'{"id": "x", "secret": "303132333435363738396162636465"}',
        "16 to 1024 random bytes",
    ),
    "a number": (b'{"id": "x", "secret": 30313233343536373839616263646566}', "secret: "),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_is_refused_and_not_shown(name: str, path: Path) -> None:
    data, reason = RUBBISH[name]
    put(path, data)
    with pytest.raises(TransportError, match=reason) as raised:
        PreSharedKey.read(path)
    text = str(raised.value)
    assert text.startswith(f"{path} holds no pre-shared key: ")
    assert "'portkit certs key ID' makes one, or PreSharedKey.generate" in text
    assert raised.value.__context__ is None, "it knows what is in the file"
    assert "3233343536" not in "".join(traceback.format_exception(raised.value))


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@example(contents()[:-1])
@settings(max_examples=50)
def test_whatever_is_in_the_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder, "key"), data)
        with pytest.raises(TransportError, match="holds no pre-shared key"):
            PreSharedKey.read(Path(folder, "key"))
