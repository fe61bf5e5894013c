"""What a worker's process is told when it is spawned: one line on its standard input.

Not its arguments and not its environment: others could read the token there, and the processes
that a worker starts would inherit it.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Orders(BaseModel):
    """The line, as JSON.

    Attributes:
        target: ``module:function``.
        main: the address of the group's door.
        index: the worker's number.
        name: its name in messages.
        token: what it proves with that it is this worker.
        check_in_timeout: seconds to wait for the group's answer.
        path: where it is to import from: the group's ``sys.path``.
        python_path: the group's ``PYTHONPATH``, for the processes that the worker starts.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    target: str
    main: str
    index: int = Field(ge=0)
    name: str
    token: str
    check_in_timeout: float | None
    path: list[str]
    python_path: str | None
