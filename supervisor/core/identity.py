"""Who is meant: the names by which everything in the core refers to an instance.

A pid never identifies anything here. A slot is an `InstanceId`; a process in it is the slot with its
generation. Facts that arrive late carry both and are dropped when the generation is over.
"""

from typing import NamedTuple


class InstanceId(NamedTuple):
    """One slot of a pool, written `emails/0`."""

    pool: str
    index: int  # type: ignore[assignment]  # nobody wants tuple.index of a slot

    def __str__(self) -> str:
        return f"{self.pool}/{self.index}"
