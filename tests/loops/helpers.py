"""Programs whose main thread runs another event loop: signals and windows are the main thread's."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from tests.support import PATIENCE

_BEGIN = """
import asyncio, os, signal, sys
from threading import Thread
from portkit import *
"""


def output_of(
    *parts: str,
    meanwhile: Callable[[subprocess.Popen[str]], object] = lambda _: None,
    env: dict[str, str] | None = None,
    **options: Any,
) -> str:
    """What a program prints, errors too, that consists of these parts."""
    code = "\n".join([_BEGIN, *[textwrap.dedent(part) for part in parts]])
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        **options,
    )
    with process:
        try:
            meanwhile(process)
            output: str = process.communicate(timeout=PATIENCE)[0]
        except BaseException:
            process.kill()
            raise
    return output


def interrupt_when_ready(process: subprocess.Popen[str]) -> None:
    """Send SIGINT once the program has printed "ready"."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(2)
