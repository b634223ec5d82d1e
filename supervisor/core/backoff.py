"""How long to wait before the next start, and when to stop trying.

Pure arithmetic. The jitter is a function of who waits, so that peers spread out while a replayed
trace stays the same.
"""

from collections.abc import Sequence

from supervisor.core.identity import InstanceId
from supervisor.core.plan import Backoff, GiveUp

_MASK = (1 << 64) - 1


def spread(host: str, instance: InstanceId, generation: int) -> float:
    """A fraction in [0, 1) that differs between hosts, peers and generations but never between runs.

    FNV-1a over the identity, finished by splitmix64's mixer: FNV alone leaves neighbours close.
    """
    state = 0xCBF29CE484222325
    for byte in f"{host}\0{instance}\0{generation}".encode():
        state = ((state ^ byte) * 0x100000001B3) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((state ^ (state >> 31)) >> 11) / (1 << 53)


def delay_seconds(rules: Backoff, failures: int, fraction: float) -> float:
    """The wait after the `failures`-th failure in a row (from 1); `fraction` in [0, 1) draws the jitter."""
    # The exponent is capped: factor ** 10_000 overflows a float long after the delay met its maximum.
    steady = min(rules.max_seconds, rules.initial_seconds * rules.factor ** min(failures - 1, 64))
    return steady * (1.0 - rules.jitter * fraction)


def has_given_up(rules: GiveUp | None, starts: Sequence[float], now: float) -> bool:
    """Whether so many starts lie inside the window that another one is not worth it."""
    if rules is None or len(starts) < rules.starts:
        return False
    return now - starts[-rules.starts] <= rules.within_seconds
