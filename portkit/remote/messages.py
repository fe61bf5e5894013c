"""The messages between the two sides of a connection: their numbers, and what stands in them.

========  ======================================================================================
HELLO     to a port that is served: a :class:`Greeting`; the answer is the port of the root object
CALL      to an object's port: ``method depth``, a line feed and a list of one, the arguments by
          name; components that these name
NEXT      to a stream's port: how many items are wanted
RESULT    an answer: a list of one, the result; components that it names. To NEXT: the next items
FAILURE   an answer: a :class:`portkit.remote.failure.Failure`
END       an answer to NEXT: the last items
========  ======================================================================================
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from pydantic import Base64Bytes, BaseModel, ConfigDict


class Kind(IntEnum):
    """A message's ``msgid``."""

    RESULT = 0
    HELLO = 1
    CALL = 2
    NEXT = 3
    FAILURE = 4
    END = 5


VERSION = 1


class Greeting(BaseModel):
    """What the caller says before the first call."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    version: int = VERSION
    credentials: Base64Bytes = b""
