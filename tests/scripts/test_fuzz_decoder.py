"""The fuzzer runs, repeats by its seed, and tells a finding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import PATIENCE

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_decoder.py"

BROKEN = f"""
import runpy, sys
from portkit.link import decoder
decoder.Decoder._check_length = lambda *arguments: 1 / 0
sys.argv[1:] = ["--seconds", "{PATIENCE}", "--seed", "1"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def test_it_finds_nothing_in_the_decoder() -> None:
    done = run(str(SCRIPT), "--seconds", "1", "--seed", "7")
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("seed 7\n")
    assert "no finding" in done.stdout


def test_it_finds_what_is_broken_and_shows_the_bytes() -> None:
    done = run("-c", BROKEN)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    bytes.fromhex(done.stdout.splitlines()[-1])
