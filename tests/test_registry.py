"""Transports by scheme: open_port, connect_port, plug-ins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import portkit
from portkit import Address, MachPort, TransportError, connect_port, open_port, registry
from portkit_transports.mach import transport as mach_transport
from tests.ports.helpers import Recorder

GOOD = """
class Transport:
    port_class = int
    opened = []
    def open(self, address, delegate=None, **options):
        return ("opened", str(address), delegate, options)
    def connect(self, address, **options):
        return ("connected", str(address), options)
transport = Transport()
"""

InstallPlugin = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallPlugin:
    """Install a distribution with one transport."""

    def install(scheme: str, source: str, value: str = "") -> None:
        module = f"plugin_{scheme}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            f"[portkit.transports]\n{scheme} = {value or f'{module}:transport'}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


class TestBuiltIn:
    @pytest.mark.parametrize("address", ["mach:", Address(scheme="mach")])
    def test_open(self, address: str | Address) -> None:
        delegate = Recorder()
        with open_port(address, delegate, queue_limit=3) as port:
            assert type(port) is MachPort
            assert port.delegate is delegate
            assert port.queue_limit == 3

    def test_open_with_a_name(self) -> None:
        with pytest.raises(TransportError, match="no name"):
            open_port("mach:office")

    @pytest.mark.parametrize("address", ["mach:", "mach:office"])
    def test_connect(self, address: str) -> None:
        with pytest.raises(TransportError, match="hand the MachPort"):
            connect_port(address)

    def test_unknown_option(self) -> None:
        with pytest.raises(TypeError):
            open_port("mach:", speed=5)

    def test_is_found_without_metadata(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a zipapp."""
        monkeypatch.setattr(registry, "entry_points", lambda group: [])
        assert registry.schemes() == sorted(registry._BUILT_IN)
        with open_port("mach:") as port:
            assert isinstance(port, MachPort)

    def test_entry_points_and_built_in_table_agree(self) -> None:
        found = {name: point.load() for name, point in registry._found().items()}
        for scheme, value in registry._BUILT_IN.items():
            assert registry._found()[scheme].value == value
        assert found["mach"] is mach_transport

    def test_port_classes(self) -> None:
        for name, scheme in registry.OFFERED.items():
            if name.endswith("Port"):
                assert getattr(portkit, name) is registry.transport(scheme).port_class


class TestUnknown:
    @pytest.mark.parametrize("call", [open_port, connect_port])
    def test_near_miss(self, call: Callable[[str], Any]) -> None:
        with pytest.raises(TransportError, match=r"did you mean 'mach'\?") as caught:
            call("mack:")
        assert caught.value.code == -4

    @pytest.mark.parametrize("call", [open_port, connect_port])
    def test_nothing_like_it(self, call: Callable[[str], Any]) -> None:
        with pytest.raises(TransportError, match="install") as caught:
            call("quantum:")
        assert "mach" in str(caught.value)
        assert "did you mean" not in str(caught.value)

    @pytest.mark.parametrize("call", [open_port, connect_port])
    @pytest.mark.parametrize("address", ["", "mach", ":", "9p:x", "Mach:", " mach:", "mach\n:"])
    def test_not_an_address(self, call: Callable[[str], Any], address: str) -> None:
        with pytest.raises(ValueError, match="scheme:target"):
            call(address)

    @pytest.mark.parametrize("call", [open_port, connect_port])
    @pytest.mark.parametrize("address", [None, 5, b"mach:"])
    def test_not_even_a_str(self, call: Callable[[Any], Any], address: Any) -> None:
        with pytest.raises(TypeError, match="address"):
            call(address)


class TestPlugins:
    def test_one_is_found_and_used(self, install: InstallPlugin) -> None:
        install("pigeon", GOOD)
        assert "pigeon" in registry.schemes()
        opened: Any = open_port("pigeon:roof", "delegate", grain=1)
        assert opened == ("opened", "pigeon:roof", "delegate", {"grain": 1})
        connected: Any = connect_port("pigeon:roof", grain=2)
        assert connected == ("connected", "pigeon:roof", {"grain": 2})
        with pytest.raises(TransportError, match=r"did you mean 'pigeon'\?"):
            open_port("pidgeon:roof")

    @pytest.mark.parametrize(
        "broken",
        [
            (GOOD, "no_such_module:transport", "no_such_module"),
            (GOOD, "{module}:no_such_name", "no_such_name"),
            ("import no_such_dependency", "", "no_such_dependency"),
            ("raise RuntimeError('bad day')", "", "bad day"),
            ("this is no python", "", "invalid syntax"),
            ("transport = 5", "", "port_class"),
        ],
        ids=["no module", "no name", "no dependency", "raises", "no python", "no transport"],
    )
    @pytest.mark.parametrize("call", [open_port, connect_port])
    def test_broken_ones_are_named(
        self, install: InstallPlugin, call: Callable[[str], Any], broken: tuple[str, str, str]
    ) -> None:
        source, value, said = broken
        scheme = f"broken{abs(hash((broken, call)))}"
        install(scheme, source, value.format(module=f"plugin_{scheme}"))
        with pytest.raises(TransportError, match=scheme) as caught:
            call(f"{scheme}:")
        assert said in str(caught.value)
        with open_port("mach:") as port:  # others are not affected
            assert port.is_valid


def test_only_what_is_used_is_loaded() -> None:
    """Importing portkit loads no transport, and nothing that only addresses need."""
    code = (
        "import sys, portkit\n"
        "assert not [m for m in sys.modules if m.startswith(('portkit_transports', 'pydantic'))]\n"
        "portkit.MachPort\n"
        "assert 'portkit_transports.mach' in sys.modules\n"
        "assert 'pydantic' not in sys.modules\n"
        "portkit.Address\n"
        "assert 'pydantic' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
