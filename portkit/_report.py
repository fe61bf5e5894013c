"""Where errors go that no caller is there to get: the loop's exception handler, or the log."""

from __future__ import annotations

import logging
from typing import Any, TypedDict

from portkit import _thread

logger = logging.getLogger("portkit")


class ErrorContext(TypedDict):
    """What an exception handler is told.

    Keys:
        message: what happened, in a sentence.
        exception: what was raised, or None.
        source: the port, timer, source, observer or callable it came from.
    """

    message: str
    exception: BaseException | None
    source: Any


def log(context: ErrorContext) -> None:
    """Log at ERROR, with the traceback."""
    logger.error("%s: %r", context["message"], context["source"], exc_info=context["exception"])


def report(message: str, exception: BaseException | None, source: Any) -> None:
    """Give the error to the current thread's run loop, or log it where there is none."""
    loop = _thread.current().loop
    if loop is not None:
        loop._report(message, exception, source)
    else:
        log({"message": message, "exception": exception, "source": source})
