"""Libraries that only the ``bench`` extra installs."""

from __future__ import annotations

import importlib
from typing import Any


def optional(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def missing(module: Any) -> str:
    """Why contenders that need the module cannot be measured, or ""."""
    return "" if module else "not installed"
