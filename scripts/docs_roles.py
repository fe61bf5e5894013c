"""A hook of mkdocs: docstrings' roles, such as ``:meth:`~a.b.C.run```, become plain code."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(?:~[\w.]*\.)?([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """The page with its roles replaced."""
    return ROLE.sub(r"<code>\1</code>", html)
