"""The cost of one event of the core against the size of the host.

Prints microseconds per event for hosts of 10 to 10 000 instances, and the ratio to the smallest; writes
every sample to `build/bench-core.json`, in the form of a comparison. The events are those of a crash and
its respawn, a message of a worker, and a probe's answer; each run is the median of several, interleaved
so that a noisy moment hits all sizes alike.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

from supervisor.core.events import (
    Booted,
    CheckKind,
    CheckPassed,
    Exited,
    Spawned,
    Tick,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.plan import Backoff, HostPlan, PoolPlan, ProbePolicy, Readiness, RestartRules
from supervisor.core.state import Host, create

SIZES = (10, 100, 1000, 10_000)
WRITTEN = Path("build/bench-core.json")
ROUNDS = 15
CYCLES = 200
LIMIT = 2.0


class Fleet:
    """A host of one large pool, up and ready, and a clock."""

    def __init__(self, size: int) -> None:
        pool = PoolPlan(
            "pool",
            instances=size,
            readiness=Readiness.PROBE,
            readiness_probe=ProbePolicy(period_seconds=1e9),
            restart=RestartRules(backoff=Backoff(initial_seconds=0.0)),
        )
        self.host: Host = create(HostPlan("bench", {"pool": pool}))
        self.now = 0.0
        self.size = size
        step(self.host, Booted(), self.now)
        while (moment := next_deadline(self.host)) is not None and moment <= self.now:
            step(self.host, Tick(), self.now)
        for index in range(size):
            self._up(InstanceId("pool", index))

    def _up(self, key: InstanceId) -> None:
        generation = self.host.instances[key].generation
        step(self.host, Spawned(key, generation, 1000 + key.index), self.now)
        step(self.host, CheckPassed(key, generation, CheckKind.READINESS), self.now)

    def cycle(self, index: int) -> int:
        """A message, a crash, the respawn, its spawn and its readiness; how many events that were."""
        key = InstanceId("pool", index % self.size)
        generation = self.host.instances[key].generation
        self.now += 1.0
        step(self.host, Told(key, generation, in_flight=index % 3), self.now)
        step(self.host, Exited(key, generation, ExitStatus(code=1)), self.now)
        step(self.host, Tick(), self.now)
        self._up(key)
        return 5


def write(costs: dict[int, list[float]]) -> None:
    """As samples of one subject; a round is a turn."""
    sizes = {
        str(size): {"pitboss": {str(turn): cost for turn, cost in enumerate(values)}}
        for size, values in costs.items()
    }
    WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    WRITTEN.write_text(json.dumps({"samples": {"core event": sizes}}, indent=1) + "\n")


def main() -> int:
    """Measure and print; the exit code is 1 if the cost grows with the size."""
    fleets = {size: Fleet(size) for size in SIZES}
    costs: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size, fleet in fleets.items():
            begin = time.perf_counter()
            events = sum(fleet.cycle(index * 7919) for index in range(CYCLES))
            costs[size].append((time.perf_counter() - begin) / events * 1e6)
    base = median(costs[SIZES[0]])
    print("instances   us/event   ratio")
    for size in SIZES:
        print(f"{size:>9}   {median(costs[size]):8.1f}   {median(costs[size]) / base:5.2f}")
    write(costs)
    return int(median(costs[1000]) / base > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
