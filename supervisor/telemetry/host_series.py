"""The series that are read from the host when somebody scrapes: gauges of instances, pools, the host.

Decides which facts of the state become which series. It goes over the host in steps, between which
the caller may let the loop turn and the host may change: each instance and each pool is shown as it
was at some moment of the scrape. What happened, and how often, is counted in `metrics`.
"""

from collections.abc import Iterator, Mapping

from supervisor.core.health import pool_health
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Phase
from supervisor.core.state import Host
from supervisor.telemetry.exposition import STEP, Families, Labels, filled, number, series

Samples = Mapping[InstanceId, tuple[float, int]]
"""CPU seconds and resident bytes of the main process of each instance."""

_INSTANCE_FAMILIES = (
    "pitboss_instance_up",
    "pitboss_backoff_seconds",
    "pitboss_instance_cpu_seconds_total",
    "pitboss_instance_memory_bytes",
)
_SERIES = [series(name, ("pool", "instance")) for name in _INSTANCE_FAMILIES]
_POOLS_A_STEP = STEP // 4

Prefixes = tuple[bytes, bytes, bytes, bytes]


class HostSeries:
    """Writes into `families`, but for the lines of the metrics that every instance has: these it returns.

    `backoff` holds the delay of each instance that waits for its next start; `metrics` writes it.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._prefixes: dict[InstanceId, Prefixes] = {}
        self._census_seen: dict[str, tuple[int, ...]] = {}
        self.backoff: dict[InstanceId, float] = {}

    def keep(self, host: Host) -> None:
        """Forget the instances and pools that are gone."""
        for known in (self.backoff, self._prefixes):
            for instance in [one for one in known if one not in host.instances]:
                del known[instance]
        self._census_seen.clear()

    def read(self, host: Host, samples: Samples, now: float, lines: dict[str, bytes]) -> Iterator[bytes]:
        """Go over the host; yields after each step. `lines` gets the text of the per-instance families."""
        in_flight: dict[str, int] = {}
        depth: dict[str, int] = {}
        columns: tuple[list[bytes], ...] = ([], [], [], [])
        since, until = set[Labels](), set[Labels]()
        instances = tuple(host.instances.values())
        for start in range(0, len(instances), STEP):
            for instance in instances[start : start + STEP]:
                self._instance(instance, samples, columns)
                pool = instance.id.pool
                if instance.in_flight:
                    in_flight[pool] = in_flight.get(pool, 0) + instance.in_flight
                if instance.queue_depth:
                    depth[pool] = depth.get(pool, 0) + instance.queue_depth
                if instance.stop is not None and instance.rung is not None:
                    self._stage(instance, now, since, until)
            yield b""
        self._families.keep("pitboss_stage_seconds", since.__contains__)
        self._families.keep("pitboss_stage_remaining_seconds", until.__contains__)
        for name, column in zip(_INSTANCE_FAMILIES, columns, strict=True):
            lines[name] = b"".join(column)
        yield b""
        yield from self._pools(host, in_flight, depth)

    def _instance(self, instance: Instance, samples: Samples, columns: tuple[list[bytes], ...]) -> None:
        up, backoff, cpu, memory = self._prefixes.get(instance.id) or self._prefix(instance.id)
        ups, backoffs, cpus, memories = columns
        ups.append(up + (b"1\n" if instance.ready else b"0\n"))
        if instance.phase is Phase.BACKOFF and instance.id in self.backoff:
            backoffs.append(backoff + number(self.backoff[instance.id]).encode() + b"\n")
        else:
            backoffs.append(backoff + b"0\n")
        sample = samples.get(instance.id)
        if sample is not None and instance.has_process:
            cpus.append(b"%s%.2f\n" % (cpu, sample[0]))
            memories.append(b"%s%d\n" % (memory, sample[1]))

    def _prefix(self, instance: InstanceId) -> Prefixes:
        labels = (instance.pool, str(instance))
        up, backoff, cpu, memory = (filled(one, labels).encode("utf-8", "replace") for one in _SERIES)
        found = self._prefixes[instance] = (up, backoff, cpu, memory)
        return found

    def _stage(self, instance: Instance, now: float, since: set[Labels], until: set[Labels]) -> None:
        """Where on the ladder it is; who has left it has no series."""
        rung, stop = instance.rung, instance.stop
        if rung is None or stop is None:
            return
        labels = (instance.id.pool, str(instance.id), rung.name)
        since.add(labels)
        self._families.set("pitboss_stage_seconds", round(max(0.0, now - stop.rung_since), 3), *labels)
        if instance.deadline is not None:
            until.add(labels)
            left = round(max(0.0, instance.deadline - now), 3)
            self._families.set("pitboss_stage_remaining_seconds", left, *labels)

    def _pools(self, host: Host, in_flight: Mapping[str, int], depth: Mapping[str, int]) -> Iterator[bytes]:
        families, ready = self._families, host.shutdown is None
        for number_of, pool in enumerate(tuple(host.census), 1):
            census = host.census.get(pool)
            if census is None:
                continue
            families.set("pitboss_drain_inflight", in_flight.get(pool, 0), pool)
            families.set("pitboss_queue_depth", depth.get(pool, 0), pool)
            critical = host.pools[pool].plan.critical
            ready = ready and (not critical or pool_health(host, pool).ok)
            ready_now = census.ready + census.surge_ready
            seen = (critical, ready_now, census.wanted, census.finished, *census.phases.values())
            if self._census_seen.get(pool) != seen:
                self._census_seen[pool] = seen
                families.set("pitboss_pool_critical", int(critical), pool)
                families.set("pitboss_pool_ready", ready_now, pool)
                families.set("pitboss_pool_wanted", census.wanted, pool)
                families.set("pitboss_pool_finished", census.finished, pool)
                for phase, count in census.phases.items():
                    families.set("pitboss_pool_instances", count, pool, phase.value)
            if number_of % _POOLS_A_STEP == 0:
                yield b""
        families.set("pitboss_host_ready", int(ready))
        families.set("pitboss_shutting_down", int(host.shutdown is not None))
