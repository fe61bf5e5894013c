"""This process as one that has neither names nor links yet."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portkit_transports.message import host as host_module
from portkit_transports.message.runtime_folder import VARIABLE


@contextmanager
def fresh_host() -> Iterator[Path]:
    """A runtime folder inside the ``with``, which this process and its children use.

    Its path is short, as a socket's has to be. All links are closed after it.
    """
    before = os.environ.get(VARIABLE)
    path = Path(tempfile.mkdtemp(prefix="pk-"))
    _forget_host()
    os.environ[VARIABLE] = str(path)
    try:
        yield path
    finally:
        gc.collect()  # what is dropped without having been invalidated takes its name along
        _forget_host()
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        shutil.rmtree(path, ignore_errors=True)


def _forget_host() -> None:
    host, host_module._host = host_module._host, None
    if host is not None:
        host.node.close()
