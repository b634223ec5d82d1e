"""An engine to try things with: acts are recorded instead of performed."""

import asyncio
from collections.abc import Sequence
from typing import Any

from supervisor.core.effects import Act, Check, Forget, Halt, Kill, ReleaseBarrier, Report, Signal, Spawn
from supervisor.core.events import Spawned
from supervisor.core.identity import InstanceId
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, create
from supervisor.runtime.engine import Engine

A = InstanceId("a", 0)


class Rig:
    """An engine over a host whose acts are recorded, and whose spawns succeed at once."""

    def __init__(self, instances: int = 1, *, strict: bool = True, min_uptime: float = 0.05) -> None:
        plan = HostPlan("h", {"a": PoolPlan("a", instances=instances, min_uptime_seconds=min_uptime)})
        self.acts: list[Act] = []
        self.reports: list[Report] = []
        loop = asyncio.get_running_loop()
        performers: dict[type, Any] = dict.fromkeys((Signal, Kill, Check, Forget, Halt), self.acts.append)
        performers |= {Spawn: self._spawn, ReleaseBarrier: self.acts.append}
        self.engine = Engine(create(plan, now=loop.time()), performers, [self._observe], strict=strict)

    def _spawn(self, act: Spawn) -> None:
        self.acts.append(act)
        self.engine.post(Spawned(act.instance, act.generation, 1000 + act.instance.index))

    def _observe(self, reports: Sequence[Report], host: Host, now: float) -> None:
        self.reports.extend(reports)

    @property
    def is_at_rest(self) -> bool:
        """Whether the engine has done everything: else it takes no event within the call that posts it."""
        return self.engine._resume is None

    @property
    def host(self) -> Host:
        """The state."""
        return self.engine.host
