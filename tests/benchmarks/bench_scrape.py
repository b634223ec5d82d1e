"""What a scrape and a look at the health of many pools cost the loop: the longest turn, in CPU time.

The control server runs in this process, with the most pools that a manifest may have; reading the
answer is in the same loop and counts too. CPU time of the thread, because wall
time on a shared machine is that of the others too. Numbers depend on the machine: compare them only
within one run.
"""

import asyncio
import gc
import sys
import time

from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.telemetry.metrics import Metrics
from tests.control.plant import Plant, plant

SHAPES = ((500, 1), (1, 1000))
"""Pools, and instances of each."""

LOOKS = (
    ("first scrape", "/metrics"),
    ("second scrape", "/metrics"),
    ("health", "/health"),
    ("readiness", "/readyz"),
)


class Turns:
    """Turns the loop without end and keeps the longest turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = 0.0
        self._handle: asyncio.Handle | None = None

    def begin(self) -> None:
        """Measure from now on."""
        self._last = time.thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = time.thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def end(self) -> None:
        """Measure no more."""
        if self._handle is not None:
            self._handle.cancel()


async def look(one: Plant, path: str) -> tuple[float, int]:
    """The longest turn in seconds while this is answered, and the size of the answer."""
    turns = Turns()
    reader, writer = await one.connect()
    turns.begin()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    size = 0
    while data := await reader.read(65536):
        size += len(data)
    turns.end()
    writer.close()
    return turns.longest, size


async def measure(pools: int, instances: int) -> None:
    """The rows of one shape of host."""
    names = [f"pool-{number:04d}" for number in range(pools)]
    host_plan = HostPlan("bench", {name: PoolPlan(name, instances) for name in names})
    metrics = Metrics(version="1")
    async with plant(host_plan, metrics=lambda wanted: metrics.scrape(openmetrics=wanted)) as one:
        metrics((), one.engine.host, 0.0)
        for name, path in LOOKS:
            one.engine.host.revision += 1
            longest, size = await look(one, path)
            print(
                f"{pools:4d} pools of {instances:4d}: {name:<14} longest turn {longest * 1000:6.2f} ms"
                f"   {size / 1000:7.0f} kB"
            )


def main() -> int:
    """Measure and print; always 0."""
    # As pitbossd does it; else a full collection falls into the first scrape.
    gc.collect()
    gc.freeze()
    for pools, instances in SHAPES:
        asyncio.run(measure(pools, instances))
    return 0


if __name__ == "__main__":
    sys.exit(main())
