"""What the storm will do and when, drawn from the seed alone.

Who is met by a fault depends on who lives then; so each deed carries dice of its own, thrown in advance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

WEIGHTS = {
    "kill": 26,
    "kill-child": 6,
    "hold": 10,
    "freeze-daemon": 4,
    "break-command": 6,
    "starve": 3,
    "strike-starter": 4,
    "fill-disk": 2,
    "step-clock": 4,
    "drain": 9,
    "stop": 9,
    "start": 5,
    "restart": 12,
    "signal": 4,
    "steer": 8,
    "repeat": 6,
    "look": 5,
    "host-wide": 1,
}
"""How often each kind of deed comes up, against the others."""

PER_SECOND = 3.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One deed to come, seconds after the beginning of its round."""

    at: float
    kind: str
    dice: tuple[float, ...]


class Hand:
    """The dice of one deed, taken one by one."""

    def __init__(self, dice: Sequence[float]) -> None:
        self._left = list(dice)

    def share(self) -> float:
        """A number from 0 to 1."""
        return self._left.pop(0)

    def between(self, low: float, high: float) -> float:
        """A number in this range."""
        return low + (high - low) * self.share()

    def one_of(self, choices: Sequence[T]) -> T:
        """One of these; there must be one."""
        return choices[min(int(self.share() * len(choices)), len(choices) - 1)]


def plan(seed: str, seconds: float) -> list[Planned]:
    """The deeds of one round."""
    random = Random(seed)
    found: list[Planned] = []
    at = 0.0
    while (at := at + random.expovariate(PER_SECOND)) < seconds:
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        found.append(Planned(at, kind, tuple(random.random() for _ in range(8))))
    return found
