"""Keys and certificates that live as long as the benchmarks run; both peers have one."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

from bench.optional import missing, optional

_certs = optional("portkit.cli.certs.folder")
missing_certificates = missing(optional("cryptography"))


@cache
def certificates() -> Path:
    """A folder with ``ca.pem``, and ``server`` and ``client`` ``.pem`` and ``-key.pem``."""
    kept = tempfile.TemporaryDirectory(prefix="bench-")
    atexit.register(kept.cleanup)
    folder = _certs.CertsFolder(Path(kept.name))
    folder.init("bench", 1)
    for name in ("server", "client"):
        folder.issue(name, ["127.0.0.1"], 1)
    return Path(kept.name)
