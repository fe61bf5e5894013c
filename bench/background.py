"""A thread beside the one that measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def background(body: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """Run ``body`` on a thread; at the end call ``stop``, which makes it return, and join it.

    It is a daemon thread, so that one that is stuck when somebody loses patience keeps nobody.
    """
    thread = Thread(target=body, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(5.0)
