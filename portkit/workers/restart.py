"""Whether a worker that was lost is started again, and when."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Restart(BaseModel):
    """Starting lost workers again, each time after a longer pause.

    Args:
        max_restarts: how often one worker is, within a time; then it stays lost.
        within: seconds, that time.
        backoff: seconds of pause before the first restart within that time; doubled for each
            further one.
        max_backoff: seconds that no pause is longer than.

    Raises:
        ValueError: an argument is wrong (pydantic's ``ValidationError``).
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False
    )

    max_restarts: int = Field(default=3, ge=1)
    within: float = Field(default=60.0, gt=0)
    backoff: float = Field(default=0.1, ge=0)
    max_backoff: float = Field(default=5.0, ge=0)

    def pause(self, earlier: deque[float], now: float) -> float | None:
        """Seconds to wait before the next restart; None if there is to be none.

        Args:
            earlier: when the restarts before this one were; those long ago are removed.
            now: on the same clock.
        """
        while earlier and earlier[0] <= now - self.within:
            earlier.popleft()
        if len(earlier) >= self.max_restarts:
            return None
        # A float's exponent ends at 1023; long before that the pause is the longest.
        doublings = min(len(earlier), 64)
        return min(self.max_backoff, self.backoff * 2.0**doublings)
