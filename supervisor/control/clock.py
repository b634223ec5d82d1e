"""Monotonic moments as wall-clock times; the only place where the control plane knows what day it is."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

STEP_SECONDS = 0.5
"""A smaller difference between the clocks is slewing and jitter; a larger one is a stepped clock."""


class WallClock:
    """Turns monotonic seconds into RFC 3339, the same moment always into the same text.

    The difference between the two clocks is kept until the wall clock is stepped.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._now = now
        self._wall = wall
        self._offset = wall() - now()

    def text(self, moment: float) -> str:
        """UTC with milliseconds: "2026-01-31T12:00:00.250Z"."""
        offset = self._wall() - self._now()
        if abs(offset - self._offset) > STEP_SECONDS:
            self._offset = offset
        then = datetime.fromtimestamp(self._offset + moment, UTC)
        return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
