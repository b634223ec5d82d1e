"""A process that writes goals into a journal as fast as it can, and says which are acknowledged.

Usage: python -m tests.store.scribe JOURNAL. Prints "N" after goal number N has been acknowledged; odd
goals drain, even ones bring up, in pool N % 7. Is meant to be killed.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from supervisor.core.effects import GoalChanged
from supervisor.core.events import Scope
from supervisor.core.phases import Goal
from supervisor.core.plan import HostPlan
from supervisor.core.state import create
from supervisor.store.journal import Journal

POOLS = 7


def goal(number: int) -> Goal:
    """What goal number N is."""
    return Goal.DRAINED if number % 2 else Goal.UP


async def write(path: Path) -> None:
    """Write until killed."""
    journal = Journal.open(path)
    host = create(HostPlan("scribe", {}))
    print("ready", flush=True)
    for number in itertools.count():
        report = GoalChanged(Scope(f"pool-{number % POOLS}"), goal(number), f"request-{number}", "scribe")
        journal.observe([report], host, 0.0)
        if await journal.durable() is None:
            print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
