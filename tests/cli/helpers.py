"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import PATIENCE

PORTKIT = (sys.executable, "-m", "portkit")


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would change the width or the colours of output."""
    inherited = {name: value for name, value in os.environ.items() if name not in _CHANGING}
    return {**inherited, **variables}


_CHANGING = {"COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


def demo(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``portkit demo`` as a process of its own, to its end."""
    return run(*PORTKIT, "demo", *arguments, **options)


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    options.setdefault("env", environment())
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.run(command, text=True, timeout=PATIENCE, check=False, **options)


def row(output: str, name: str) -> str:
    """The value in the summary's row of that name."""
    (value,) = [line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith(name)]
    return value
