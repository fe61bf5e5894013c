"""Window systems for tests, or one clear sentence why there are none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

REQUIRED = os.environ.get("PORTKIT_REQUIRE_WINDOWS", "").split()
"""Toolkits, "qt" or "tk", without which tests fail instead of being skipped: .ci/run says so."""


def _why_not(toolkit: str) -> str:
    if toolkit == "qt":
        missing = "PySide6: pip install 'portkit[qt]'"
        return "" if importlib.util.find_spec("PySide6") else missing
    if importlib.util.find_spec("_tkinter") is None:
        return "tkinter: apt install python3-tk"
    if shutil.which("Xvfb") is None:
        return "a display that shows nothing: apt install xvfb"
    return ""


def check(toolkit: str) -> None:
    """Skip the test where the toolkit is not there, or fail it where it has to be."""
    reason = _why_not(toolkit)
    if reason and toolkit not in REQUIRED:
        pytest.skip(f"needs {reason}")
    assert not reason, f"PORTKIT_REQUIRE_WINDOWS names {toolkit}, but it needs {reason}"


@pytest.fixture(scope="session")
def display() -> Iterator[dict[str, str]]:
    """The environment of programs with windows, which nobody sees."""
    env = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "QT_LOGGING_RULES": "default.warning=false",  # of what that platform cannot do
    }
    if shutil.which("Xvfb") is None:
        yield env
        return
    read, write = os.pipe()
    with open(read) as numbers:  # noqa: PTH123 - a pipe has no path
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        env["DISPLAY"] = f":{numbers.readline().strip()}"
    try:
        yield env
    finally:
        server.terminate()
        server.wait()
