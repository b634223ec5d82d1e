"""Who may have one of the places of a listener: how many there are, and who makes way when all are taken.

A newcomer takes the place of whoever keeps the server waiting longest: with a request that does not
arrive, an answer that is not read, or no further request. Who is being answered is left alone. So a
crowd of slow clients does not lock out the operator who comes to look. What is spoken is not known here.
"""

import logging
from collections.abc import Collection
from typing import Protocol

log = logging.getLogger(__name__)

SECONDS_BETWEEN_COMPLAINTS = 60.0


class Guest(Protocol):
    """Who has a place."""

    @property
    def waited_for_since(self) -> float | None:
        """Since when the server waits for this client, in seconds of the loop; None while it does not."""

    def make_way(self) -> None:
        """Be gone at once."""


class Places:
    """The `most` places of the listener called `name`. Times are in seconds of the loop."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._quiet_until = 0.0

    def admit(self, guests: Collection[Guest], now: float) -> bool:
        """Whether there is a place for one more beside these, if need be after one of them made way."""
        if len(guests) < self._most:
            return True
        slow = [(since, guest) for guest in guests if (since := guest.waited_for_since) is not None]
        self._complain(len(slow), now)
        if slow:
            min(slow, key=lambda one: one[0])[1].make_way()
        return bool(slow)

    def _complain(self, slow: int, now: float) -> None:
        if now >= self._quiet_until:
            self._quiet_until = now + SECONDS_BETWEEN_COMPLAINTS
            log.warning(
                "all %d places on %s are taken, %d of them by clients that are slow; "
                "who comes gets the place of the slowest",
                self._most,
                self._name,
                slow,
            )
