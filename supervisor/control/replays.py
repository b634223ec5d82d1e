"""Idempotency keys: the same key again is the same wish again, whatever happened in between.

Wishes are idempotent without a key while their operation runs. A key makes that hold after its end:
a client that repeats a restart because it never saw the answer gets the operation of the first one.
Keys live in memory: they are for retries, not for records.
"""

from collections import OrderedDict

from supervisor.control.problems import Problem

KEPT_KEYS = 1024

Key = tuple[int, str]
"""The uid of a client and the key it chose: clients cannot meet each other's keys."""


class Replays:
    """Which operation a key stands for."""

    def __init__(self, kept: int = KEPT_KEYS) -> None:
        self._kept = kept
        self._operations: OrderedDict[Key, tuple[str, str]] = OrderedDict()

    def operation(self, key: Key, fingerprint: str) -> str | None:
        """The operation that this key stands for, if it was used; raises `Problem` if for something else."""
        known = self._operations.get(key)
        if known is None:
            return None
        if known[0] != fingerprint:
            raise Problem(
                "key-reused",
                "cannot take the wish: its Idempotency-Key was used for a different request",
                "make a new key for each new wish",
            )
        return known[1]

    def remember(self, key: Key, fingerprint: str, operation: str) -> None:
        """A wish with this key is tracked by this operation. The oldest of too many keys is forgotten."""
        self._operations[key] = (fingerprint, operation)
        self._operations.move_to_end(key)
        while len(self._operations) > self._kept:
            self._operations.popitem(last=False)
