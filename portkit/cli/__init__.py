"""The ``portkit`` command."""

from portkit.cli.main import main

__all__ = ["main"]
