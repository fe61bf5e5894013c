"""What goes wrong for reasons outside the command."""

from __future__ import annotations


class CertsError(Exception):
    """What was asked for cannot be made; the message says why, and what to do."""
