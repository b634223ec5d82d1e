"""How late the daemon's loop was. Decides what "the last minute" is; knows nothing of who was late."""

from collections.abc import Callable

WINDOW_SECONDS = 60.0


class Lag:
    """The longest wait of the last minute, in two half windows; nobody has to wake up to forget."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._latest = 0.0
        self._before = 0.0

    def note(self, seconds: float) -> None:
        """Something that was due waited this long."""
        self._turn()
        self._latest = max(self._latest, seconds)

    def longest(self) -> float:
        """Seconds."""
        self._turn()
        return max(self._latest, self._before)

    def _turn(self) -> None:
        half, now = WINDOW_SECONDS / 2, self._clock()
        if now - self._since >= half:
            self._before = self._latest if now - self._since < WINDOW_SECONDS else 0.0
            self._latest, self._since = 0.0, now
