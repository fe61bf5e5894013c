"""Where errors go that no caller is there to get: the loop's exception handler, or the log."""

from __future__ import annotations

import logging
from copy import copy
from threading import get_ident
from time import time
from typing import Any, TypedDict

from portkit import _tally, _thread

logger = logging.getLogger("portkit")

_FORMAT = "%s: %r"
_SAMPLE = logging.LogRecord(logger.name, logging.ERROR, __file__, 0, _FORMAT, None, None)


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
    args = (context["message"], context["source"])
    error = context["exception"]
    if _thread.find(get_ident()) is not None:
        logger.error(_FORMAT, *args, exc_info=error)
    elif logger.isEnabledFor(logging.ERROR):
        # Making a record asks for the current thread, which would register a dummy one for good
        # where a foreign thread asks, or one that is just ending. So this is a copy of another.
        record = copy(_SAMPLE)
        record.args = args
        record.created = time()
        record.msecs = record.created % 1 * 1000
        record.relativeCreated = _SAMPLE.relativeCreated + (record.created - _SAMPLE.created) * 1000
        record.thread = get_ident()
        record.threadName = f"ident {record.thread}"
        if error is not None:
            record.exc_info = (type(error), error, error.__traceback__)
        logger.handle(record)


def report(message: str, exception: BaseException | None, source: Any) -> None:
    """Give the error to the current thread's run loop, or log it where there is none."""
    loop = _thread.current().loop
    if loop is not None:
        loop._report(message, exception, source)
    else:
        _tally.errors_reported.add()
        log({"message": message, "exception": exception, "source": source})
