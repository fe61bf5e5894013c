"""Where the ``portkit`` command begins."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    try:
        from portkit.cli.app import app  # noqa: PLC0415 - its libraries may not be installed
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit(f'portkit: the command line needs {error.name}: pip install "portkit[cli]"')
    except KeyboardInterrupt:  # importing takes a moment, and a Ctrl-C in it deserves no traceback
        sys.exit(128 + signal.SIGINT)
    app()
