"""Where the ``portkit`` command begins."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from portkit.cli.app import app  # noqa: PLC0415 - its libraries may not be installed
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit(f'portkit: the command line needs {error.name}: pip install "portkit[cli]"')
    except KeyboardInterrupt:  # importing takes a moment, and a Ctrl-C in it deserves no traceback
        sys.exit(128 + signal.SIGINT)
    app()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """The first Ctrl-C ends the command in good order; more of them would only disturb that."""
    signal.signal(signal.SIGINT, _disregard)
    raise KeyboardInterrupt


def _disregard(_signal: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN: a signal that comes just before that is set gets a traceback from Python."""
