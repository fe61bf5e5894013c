"""Every example runs as a program of its own, and prints exactly what lies beside it.

Of the names by which its processes find each other, nothing is left behind. Ctrl-C ends it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import PATIENCE, complaints, unmeasured
from tests.windows import check, display

__all__ = ["display"]

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
WINDOWS = {"qt_window": "qt", "tk_window": "tk"}


@pytest.fixture
def env(name: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """What an example runs in; those with windows have a display."""
    if name not in WINDOWS:
        return {**os.environ}
    check(WINDOWS[name])
    found: dict[str, str] = request.getfixturevalue("display")
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_prints_what_is_expected(name: str, env: dict[str, str], tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short: not tmp_path
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", EXAMPLES / f"{name}.py"],
            cwd=tmp_path,
            env={**env, "PORTKIT_RUNTIME_DIR": folder},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        left = [entry.name for entry in Path(folder).iterdir() if entry.name != "lock"]
    assert done.stdout == (EXAMPLES / "expected" / f"{name}.txt").read_text()
    assert complaints(done.stderr) == ""
    assert done.returncode == 0
    assert left == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_ends_an_example(name: str, env: dict[str, str], tmp_path: Path) -> None:
    """In its midst, and with all of its processes, to which a terminal sends it too."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / f"{name}.py"],
            cwd=tmp_path,
            env={**unmeasured(env), "PORTKIT_RUNTIME_DIR": folder, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=PATIENCE)  # until nobody has the pipe any more
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode in {0, -signal.SIGINT}


def test_examples_and_expectations_belong_together() -> None:
    assert PROGRAMS
    assert sorted(path.stem for path in (EXAMPLES / "expected").iterdir()) == PROGRAMS


def test_each_example_has_a_line_in_the_list_of_them() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)\.py`", page, re.MULTILINE)) == PROGRAMS


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_says_what_it_shows_and_never_sleeps(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.startswith('"""')
    assert "time.sleep" not in text, "wait for what is awaited, not for a while"
