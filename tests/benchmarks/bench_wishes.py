"""The longest step of the core for what concerns a whole pool: nobody else is heard while a step is taken.

Prints, for hosts of 1000 and 10 000 instances, how long the step of the wish itself takes and the
longest step of what follows, in milliseconds of processor time, and what the whole costs for each
instance. Processes start and end at once here: only the core is measured. Garbage is collected between
the wishes, so that its pauses, which belong to nobody, are not counted.
"""

import gc
import sys
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from supervisor.core.effects import Effect, Kill, Signal, Spawn
from supervisor.core.events import (
    Booted,
    DrainRequested,
    Event,
    Exited,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    Spawned,
    StartRequested,
    StopRequested,
    Tick,
    Urgency,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.plan import Backoff, Condition, HostPlan, PoolPlan, RestartRules, RolloutRules
from supervisor.core.state import create

SIZES = (1000, 10_000)
ROUNDS = 5
LIMIT_MS = 2.0
"""DESIGN section 3: so long may anything hold the loop at 1000 instances."""

POOL = Scope("pool")
WISHES: tuple[Callable[[str], Event], ...] = (
    lambda name: StopRequested(Wish(POOL, name)),
    lambda name: StartRequested(Wish(POOL, name)),
    lambda name: DrainRequested(Wish(POOL, name)),
    lambda name: ResumeRequested(Wish(POOL, name)),
    lambda name: RestartRequested(Wish(POOL, name)),
    lambda name: SignalRequested(Wish(POOL, name), "SIGHUP"),
    lambda name: StopRequested(Wish(POOL, name), Urgency.KILL),
    lambda name: ResumeRequested(Wish(Scope(), name)),
    lambda name: ShutdownRequested(Wish(Scope(), name), deadline_seconds=60.0),
)
Row = tuple[str, float, float, float]


class Crowd:
    """A pool of this size, behind one instance on which it depends and that is held until it has gone."""

    def __init__(self, size: int) -> None:
        soon = RestartRules(backoff=Backoff(initial_seconds=0.0))
        pools = (
            PoolPlan("base", restart=soon),
            PoolPlan(
                "pool",
                instances=size,
                restart=soon,
                depends_on={"base": Condition.READY},
                rollout=RolloutRules(max_unavailable=10, min_ready_seconds=0.0),
            ),
        )
        self.host = create(HostPlan("bench", {pool.name: pool for pool in pools}))
        self.now = 0.0
        self.size = size

    def timed(self, event: Event) -> tuple[float, tuple[Effect, ...]]:
        """One step, and how many milliseconds of processor time it took."""
        began = time.thread_time()
        effects = step(self.host, event, self.now)
        return (time.thread_time() - began) * 1e3, effects

    def live(self, event: Event) -> Row:
        """Take an event and all that follows: its step, the longest step after it, microseconds each."""
        first, effects = self.timed(event)
        longest, whole, inbox, until = 0.0, first, deque(answers(effects)), self.now + 200.0
        while True:
            due = next_deadline(self.host)
            if not inbox and (due is None or due > until):
                break
            if not inbox:
                self.now = max(self.now, due or 0.0)
            took, effects = self.timed(inbox.popleft() if inbox else Tick())
            longest, whole = max(longest, took), whole + took
            inbox.extend(answers(effects))
        return type(event).__name__, first, longest, whole * 1e3 / self.size


def answers(effects: tuple[Effect, ...]) -> list[Event]:
    """Processes start at once, and end at the first signal that is meant to end them."""
    events: list[Event] = []
    for one in effects:
        if isinstance(one, Spawn):
            events.append(Spawned(one.instance, one.generation, 1000))
        elif isinstance(one, Kill) or (isinstance(one, Signal) and one.signal == "SIGTERM"):
            events.append(Exited(one.instance, one.generation, ExitStatus(code=0)))
    return events


def life(size: int) -> list[Row]:
    """A whole life: boot, every wish, the end."""
    crowd, rows = Crowd(size), []
    for number, make in enumerate((lambda _: Booted(), *WISHES)):
        gc.collect()
        gc.disable()
        rows.append(crowd.live(make(f"op{number}")))
        gc.enable()
    return rows


def main() -> int:
    """Measure and print; the exit code is 1 if a step at the smaller size takes too long."""
    late = 0
    print("what                       instances   its step   longest after   us each")
    for size in SIZES:
        lives = [life(size) for _ in range(ROUNDS if size == SIZES[0] else 1)]
        for rows in zip(*lives, strict=True):
            first, longest, each = (median(row[place] for row in rows) for place in (1, 2, 3))
            print(f"{rows[0][0]:<26} {size:>9} {first:>7.2f} ms {longest:>12.2f} ms {each:>9.1f}")
            late |= size == SIZES[0] and max(first, longest) > LIMIT_MS
    return late


if __name__ == "__main__":
    sys.exit(main())
