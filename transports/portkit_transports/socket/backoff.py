"""How long to pause before trying again to connect."""

from __future__ import annotations

import random
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Backoff(BaseModel):
    """Connecting again after a connection was lost, each time after a longer pause.

    Args:
        initial: seconds of pause before the first attempt.
        maximum: seconds that no pause is longer than.
        factor: by which each pause is longer than the one before.
        jitter: the part of each pause that is drawn at random, so that many do not come at once.
        attempts: how many in a row may fail before it is given up; None for no end.

    Raises:
        ValueError: an argument is wrong (pydantic's ``ValidationError``).
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False
    )

    initial: float = Field(default=0.1, ge=0)
    maximum: float = Field(default=10.0, ge=0)
    factor: float = Field(default=2.0, ge=1)
    jitter: float = Field(default=0.5, ge=0, le=1)
    attempts: int | None = Field(default=None, ge=1)

    def pause(self, failed: int, draw: random.Random | None = None) -> float | None:
        """Seconds before the next attempt; None if there is to be none.

        Args:
            failed: how many attempts have failed in a row.
            draw: where chance comes from; by default the module ``random``.
        """
        if self.attempts is not None and failed >= self.attempts:
            return None
        # A float's exponent ends at 1023; long before that the pause is the longest.
        whole = min(self.maximum, self.initial * self.factor ** min(failed, 64))
        chance = random.random() if draw is None else draw.random()  # noqa: S311 - no secret
        return whole * (1.0 - self.jitter * chance)
