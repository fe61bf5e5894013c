"""Names that somebody has written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portkit import (
    Address,
    AuthenticationError,
    Backoff,
    InvalidPortError,
    MachPort,
    NameInUseError,
    NameNotFoundError,
    PortError,
    ReceiveTimeoutError,
    SocketPort,
    TransportError,
)
from portkit_transports.socket import PreSharedKey, StaticNameServer
from tests.ports.helpers import Background
from tests.support import PATIENCE


@pytest.fixture
def port(no_leftovers: None) -> Iterator[SocketPort]:
    """A port that listens."""
    with SocketPort() as port:
        yield port


def address_of(port: SocketPort) -> Address:
    """Where it listens."""
    assert port.address is not None
    return port.address


def number_of(port: SocketPort) -> int:
    """The number at which it listens."""
    return int(address_of(port).target.rpartition(":")[2])


def write(path: Path, text: str) -> None:
    """Replace the file at once, as editors do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class TestLookup:
    def test_by_name(self, port: SocketPort) -> None:
        server = StaticNameServer({"clock": address_of(port), "Größe, x": "socket://h:1"})
        server.lookup("clock").send(b"hello", timeout=PATIENCE)
        assert port.receive(PATIENCE).data == b"hello"
        assert server.lookup("clock") == server.wait_for("clock", 0) == server.lookup("clock")
        assert server.names() == ["Größe, x", "clock"]

    def test_with_what_was_given(self) -> None:
        key = PreSharedKey.generate("k")
        with SocketPort(key=key) as port:
            names = {"clock": str(address_of(port))}
            server = StaticNameServer(names, key=key, reconnect=Backoff(), connect_timeout=5.0)
            server.lookup("clock").send(b"hello", timeout=PATIENCE)
            assert port.receive(PATIENCE).data == b"hello"
            with pytest.raises(AuthenticationError):
                StaticNameServer(names).lookup("clock").send(b"", timeout=PATIENCE)

    def test_not_written_down(self) -> None:
        server = StaticNameServer({"clock": "socket://h:1"})
        with pytest.raises(NameNotFoundError, match=r"write it there, .*known: clock"):
            server.lookup("clok")
        for timeout in (0, PATIENCE, None):  # which would be too long
            with pytest.raises(ReceiveTimeoutError, match="does not change any more"):
                server.wait_for("clok", timeout)

    def test_a_dead_port_is_found(self) -> None:
        with SocketPort() as port:
            server = StaticNameServer({"clock": address_of(port)})
        with pytest.raises(PortError, match="refused"):
            server.lookup("clock").send(b"", timeout=PATIENCE)

    @pytest.mark.parametrize("bad", ["", "a\0b", 7])
    def test_no_name(self, bad: Any, port: SocketPort) -> None:
        server = StaticNameServer({})
        for call in (server.lookup, server.unregister, lambda name: server.wait_for(name, 0)):
            with pytest.raises((TypeError, ValueError), match="name"):
                call(bad)
        with pytest.raises((TypeError, ValueError), match="name"):
            server.register(bad, port)


class TestRegister:
    def test_where_it_is_written(self, port: SocketPort) -> None:
        server = StaticNameServer({"clock": address_of(port), "too": address_of(port)})
        for name in ("clock", "clock", "too"):
            server.register(name, port)
        server.unregister("clock")
        with pytest.raises(AuthenticationError, match="taking it out of the names given"):
            server.unregister("clock")
        assert server.names() == ["clock", "too"]
        server.unregister("too")
        with pytest.raises(NameNotFoundError, match="the names given"):
            server.unregister("three")

    def test_elsewhere(self, port: SocketPort) -> None:
        number = number_of(port)
        server = StaticNameServer(
            {
                "other": "socket://127.0.0.1:1",
                "host": f"socket://127.0.0.2:{number}",
                "family": f"socket://[::1]:{number}",
            }
        )
        for name in server.names():
            with pytest.raises(NameInUseError, match="have it listen there, or write its address"):
                server.register(name, port)
        with pytest.raises(TransportError, match=rf"not in .*: write it .*127\.0\.0\.1:{number}"):
            server.register("new", port)

    def test_a_host_by_name_is_believed(self, port: SocketPort) -> None:
        server = StaticNameServer({"clock": f"socket://clock.example.com:{number_of(port)}"})
        server.register("clock", port)

    @pytest.mark.parametrize(
        ("listens", "written", "fits"),
        [
            ("0.0.0.0", "127.0.0.1", True),
            ("0.0.0.0", "127.9.9.9", True),
            ("0.0.0.0", "192.0.2.1", False),
            ("0.0.0.0", "[::1]", False),
            ("::", "127.0.0.1", True),
            ("::", "[::1]", True),
            ("::", "[2001:db8::1]", False),
        ],
    )
    def test_at_all_addresses(self, listens: str, written: str, fits: bool) -> None:
        with SocketPort((listens, 0), key=PreSharedKey.generate("k")) as port:
            server = StaticNameServer({"clock": f"socket://{written}:{number_of(port)}"})
            if fits:
                server.register("clock", port)
            else:
                with pytest.raises(NameInUseError):
                    server.register("clock", port)

    def test_what_cannot_be(self, port: SocketPort) -> None:
        server = StaticNameServer({"clock": address_of(port)})
        with pytest.raises(TransportError, match="make a SocketPort"):
            server.register("clock", MachPort())
        with SocketPort(None) as silent, pytest.raises(TransportError, match="does not listen"):
            server.register("clock", silent)
        server.register("clock", port)
        port.invalidate()
        with pytest.raises(InvalidPortError):
            server.register("clock", port)
        with pytest.raises(AuthenticationError):
            server.unregister("clock")


class TestFile:
    def test_is_read_again(self, tmp_path: Path, port: SocketPort) -> None:
        path = tmp_path / "names.toml"
        write(path, '[names]\n"a.b" = "socket://h:1"\n')
        server = StaticNameServer.from_file(path)
        assert server.names() == ["a.b"]
        waiting = Background(lambda: server.wait_for("clock", PATIENCE))
        write(path, f'[names]\nclock = "{address_of(port)}"\n')
        waiting.result().send(b"hello", timeout=PATIENCE)
        assert server.names() == ["clock"]
        with pytest.raises(ReceiveTimeoutError, match=r"into .*names\.toml"):
            server.wait_for("nobody", 0.01)

    def test_what_was_read_holds(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "names.toml"
        write(path, '[names]\nclock = "socket://h:1"\n')
        server = StaticNameServer.from_file(str(path))
        for text in ("[names", None):
            caplog.clear()
            if text is None:
                path.unlink()
            else:
                write(path, text)
            for _ in range(3):
                assert server.names() == ["clock"]
            assert caplog.text.count("names read before hold") == 1
        write(path, '[names]\nnew = "socket://h:1"\n')
        assert server.names() == ["new"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[names", "is no TOML"),
            ("", r"names: Field required.*under \[names\] write"),
            ("names = 3", "names: Input should be"),
            ("[names]\nclock = 7", "names: clock: Input should be a valid string"),
            ("[names]\n[other]\n", "other: Extra inputs"),
            ('[names]\nclock = "h:7000"', "the name 'clock' in .*is not socket"),
            ('[names]\nclock = "message:x"', "is not socket"),
            ('[names]\nclock = "socket://h"', "names no host and port"),
            ('[names]\nclock = "socket://:70"', "names no host"),
            ('[names]\nclock = "socket://h:0"', "from 1 to 65535"),
            ('[names]\nclock = "socket://h:65536"', "from 1 to 65535"),
            ('[names]\nclock = "no address"', "is not an address"),
            ('[names]\nclock = "socket:\\u0001"', "the name 'clock'"),
            ('[names]\n"" = "socket://h:1"', "cannot be empty"),
            ("#" * (1 << 20) + "#", "shorten it"),
        ],
    )
    def test_wrong(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "names.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            StaticNameServer.from_file(path)

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "names.toml"
        path.write_bytes(b"\xff")
        with pytest.raises(ValueError, match="is no TOML"):
            StaticNameServer.from_file(path)

    def test_not_there(self, tmp_path: Path) -> None:
        for path in (tmp_path / "nothing", tmp_path):
            with pytest.raises(TransportError, match="make the file, or name another"):
                StaticNameServer.from_file(path)


class TestEnvironment:
    def test_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORTKIT_NAMES", " a = socket://h:1 ,b=socket://[::1]:2,")
        assert StaticNameServer.from_environment().names() == ["a", "b"]
        monkeypatch.setenv("OTHER", "c=socket://h:1")
        assert StaticNameServer.from_environment("OTHER").names() == ["c"]

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PORTKIT_NAMES", raising=False)
        server = StaticNameServer.from_environment()
        assert server.names() == []
        with pytest.raises(NameNotFoundError, match=r"\$PORTKIT_NAMES.*known: none"):
            server.lookup("a")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a", "'a', which is not name=socket"),
            ("a=h:1", "the name 'a' in .PORTKIT_NAMES"),
            ("=socket://h:1", "cannot be empty"),
            ("a=socket://h:1,a=socket://h:2", "'a' twice"),
        ],
    )
    def test_wrong(self, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
        monkeypatch.setenv("PORTKIT_NAMES", text)
        with pytest.raises(ValueError, match=said):
            StaticNameServer.from_environment()


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"tls": 1}, TypeError), ({"reconnect": 1}, TypeError), ({"connect_timeout": 0}, ValueError)],
)
def test_wrong_arguments(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        StaticNameServer({}, **options)


def test_an_address_is_text() -> None:
    wrong: Any = {"clock": ("127.0.0.1", 7000)}
    with pytest.raises(TypeError, match="the name 'clock'"):
        StaticNameServer(wrong)
