"""What Prometheus scrapes: an observer that counts, and the text of everything it knows.

Decides how reports become series. The names are `metric_table`, the format is `exposition`. Nothing
is computed between scrapes but what a report adds to a counter, and nothing of it wakes the daemon.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from supervisor.core.effects import (
    BackedOff,
    Climbed,
    Ended,
    Extended,
    Moved,
    OperationChanged,
    ProbeFailed,
    ReadyChanged,
    Report,
    StopEnded,
    TasksReported,
)
from supervisor.core.exits import ExitClass
from supervisor.core.health import host_reasons
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan
from supervisor.core.state import Host
from supervisor.telemetry.exposition import (
    END,
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    Family,
    Histogram,
    header,
    number,
    series,
)
from supervisor.telemetry.metric_table import CHECKS, STARTS, STOPS, TABLE, TASKS, Kind
from supervisor.telemetry.process_samples import Sampler, own_figures, own_start_time

CHUNK_BYTES = 64 * 1024
"""Least size of a piece of `chunks`, but for the last."""

LAG_WINDOW_SECONDS = 60.0

COUNTED_OPERATIONS = 1024
"""Ended operations remembered, so that a late report about one is not counted again."""


def _nothing() -> Mapping[InstanceId, int]:
    return {}


def _no_pools() -> Mapping[str, tuple[int, int]]:
    return {}


def _zero() -> int:
    return 0


class Lag:
    """The longest wait of the last minute, in two half windows; nobody has to wake up to forget."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._latest = 0.0
        self._before = 0.0

    def note(self, seconds: float) -> None:
        """Something that was due waited this long."""
        self._turn()
        self._latest = max(self._latest, seconds)

    def longest(self) -> float:
        """Seconds."""
        self._turn()
        return max(self._latest, self._before)

    def _turn(self) -> None:
        half, now = LAG_WINDOW_SECONDS / 2, self._clock()
        if now - self._since >= half:
            self._before = self._latest if now - self._since < LAG_WINDOW_SECONDS else 0.0
            self._latest, self._since = 0.0, now


class Metrics:
    """Call it as an observer of the engine; `render` it for a scrape.

    `main_pids` names the main process of each instance, `log_counters` the bytes captured and dropped
    of each pool, `notify_drops` what the notify socket of each instance did not take, `faults` and
    `journal_failures` are counts. All are called at scrapes only.
    """

    def __init__(
        self,
        *,
        version: str,
        main_pids: Callable[[], Mapping[InstanceId, int]] = _nothing,
        log_counters: Callable[[], Mapping[str, tuple[int, int]]] = _no_pools,
        notify_drops: Callable[[], Mapping[InstanceId, int]] = _nothing,
        faults: Callable[[], int] = _zero,
        journal_failures: Callable[[], int] = _zero,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_counters = log_counters
        self._notify_drops = notify_drops
        self._notify_seen: dict[InstanceId, int] = {}
        self._faults = faults
        self._journal_failures = journal_failures
        self._clock = clock
        self.lag = Lag(clock)
        self._sampler = Sampler(main_pids, self.lag.note, clock)
        self._host: Host | None = None
        self._plan: HostPlan | None = None
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._series = {one.name: Family(one) for one in TABLE if one.kind is not Kind.HISTOGRAM}
        self._spreads = {one.name: Histogram(one) for one in TABLE if one.kind is Kind.HISTOGRAM}
        self._instances = _InstanceLines()
        self._census_seen: dict[str, tuple[int, ...]] = {}
        self._headers = {
            form: [header(metric, openmetrics=form) for metric in TABLE] for form in (False, True)
        }
        self._set("pitboss_build_info", 1, version)
        self._set("process_start_time_seconds", round(own_start_time(), 2))

    def _set(self, name: str, value: float, *labels: str) -> None:
        self._series[name].set(value, *labels)

    def _add(self, name: str, amount: float, *labels: str) -> None:
        self._series[name].add(amount, *labels)

    # ── what happened ────────────────────────────────────────────────────────────────────────────

    def __call__(self, reports: Sequence[Report], host: Host, _now: float) -> None:
        """Take the reports of one step."""
        self._know(host)
        for report in reports:
            match report:
                case OperationChanged(operation=operation):
                    self._operation(operation, host)
                case _:
                    instance = getattr(report, "instance", None)
                    # A report may outlive its pool; a series of a pool that is gone would stay for ever.
                    if instance is not None and instance.pool in host.pools:
                        self._count(report, instance.pool)

    def _count(self, report: Report, pool: str) -> None:
        match report:
            case Moved():
                self._moved(report, pool)
            case Climbed(source=source, seconds=seconds, outcome=outcome):
                self._spreads["pitboss_stop_stage_seconds"].observe(seconds, pool, source, outcome)
            case ReadyChanged(start_seconds=float(seconds)):
                self._spreads["pitboss_start_seconds"].observe(seconds, pool)
            case Ended(record=record):
                self._add("pitboss_exits_total", 1, pool, record.exit_class.value)
                self._add("pitboss_leftovers_total", record.leftovers, pool)
            case StopEnded(outcome=outcome):
                self._add("pitboss_stops_total", 1, pool, outcome)
            case Extended(seconds=seconds):
                self._add("pitboss_stop_extension_seconds_total", seconds, pool)
            case ProbeFailed(check=check):
                self._add("pitboss_probe_failures_total", 1, pool, check.value)
            case BackedOff(instance=instance, seconds=seconds):
                self._instances.backoff[instance] = seconds
            case TasksReported():
                self._tasks(report, pool)
            case _:
                pass

    def _moved(self, report: Moved, pool: str) -> None:
        if report.target is Phase.STARTING:
            self._add("pitboss_starts_total", 1, pool, report.cause.value)
            self._add("pitboss_restarts_total", report.generation > 1, pool)
        if report.source is Phase.BACKOFF:
            self._instances.backoff.pop(report.instance, None)

    def _tasks(self, report: TasksReported, pool: str) -> None:
        for outcome, count in zip(TASKS, (report.completed, report.failed, report.cancelled), strict=True):
            if count > 0:
                self._add("pitboss_tasks_total", count, pool, outcome)
        spread = self._spreads["pitboss_task_seconds"]
        for seconds in report.seconds:
            spread.observe(seconds, pool)

    def _operation(self, name: str, host: Host) -> None:
        operation = host.operations.get(name)
        if operation is None or not operation.state.is_final or name in self._counted:
            return
        self._counted[name] = None
        if len(self._counted) > COUNTED_OPERATIONS:
            self._counted.popitem(last=False)
        seconds = (operation.finished_at or operation.started_at) - operation.started_at
        self._spreads["pitboss_operation_seconds"].observe(seconds, operation.kind, operation.state.value)

    def _know(self, host: Host) -> None:
        """Begin the series of new pools at 0 and drop those of pools that are gone; the others go on."""
        self._host = host
        if host.plan is self._plan:
            return
        self._plan = host.plan
        for metric in TABLE:
            if metric.labels[:1] == ("pool",):
                family = self._series.get(metric.name) or self._spreads[metric.name]
                family.keep(lambda labels: labels[0] in host.pools)
        self._instances.keep(host)
        self._census_seen.clear()
        revisions = {(name, pool.plan.revision) for name, pool in host.pools.items()}
        self._series["pitboss_manifest_revision_info"].keep(lambda labels: labels in revisions)
        for pool, revision in sorted(revisions):
            self._set("pitboss_manifest_revision_info", 1, pool, revision)
            self._begin(pool)

    def _begin(self, pool: str) -> None:
        # A counter that appears with its first event hides that event from rate().
        for name, values in (
            ("pitboss_starts_total", STARTS),
            ("pitboss_exits_total", tuple(one.value for one in ExitClass)),
            ("pitboss_stops_total", STOPS),
            ("pitboss_tasks_total", TASKS),
            ("pitboss_probe_failures_total", CHECKS),
        ):
            for value in values:
                self._add(name, 0, pool, value)
        for name in (
            "pitboss_restarts_total",
            "pitboss_stop_extension_seconds_total",
            "pitboss_leftovers_total",
            "pitboss_log_bytes_total",
            "pitboss_log_dropped_total",
            "pitboss_notify_dropped_total",
        ):
            self._add(name, 0, pool)
        self._spreads["pitboss_start_seconds"].begin(pool)

    # ── what is ──────────────────────────────────────────────────────────────────────────────────

    def render(self, *, openmetrics: bool = False) -> tuple[bytes, str]:
        """The whole text and its content type."""
        return b"".join(self._parts(openmetrics)), OPENMETRICS_TYPE if openmetrics else TEXT_TYPE

    def chunks(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        """The same in pieces of a snapshot that is taken now; what happens between them does not show."""
        return _pieces(self._parts(openmetrics))

    def _parts(self, openmetrics: bool) -> list[bytes]:
        self._read_host()
        self._read_counts()
        self._sampler.scraped()
        per_instance: Mapping[str, bytes] = {}
        if self._host is not None:
            per_instance = self._instances.text(self._host, self._sampler.samples)
        parts: list[bytes] = []
        for metric, head in zip(TABLE, self._headers[openmetrics], strict=True):
            body = per_instance.get(metric.name)
            if body is None:
                body = (self._series.get(metric.name) or self._spreads[metric.name]).text()
            parts += (head, body)
        if openmetrics:
            parts.append(END)
        return parts

    def _read_host(self) -> None:
        host, faults = self._host, self._faults()
        self._set("pitboss_core_faults_total", faults)
        self._set("pitboss_journal_failures_total", self._journal_failures())
        if host is None:
            self._set("pitboss_host_ready", 0)
            self._set("pitboss_shutting_down", 0)
            return
        self._set("pitboss_host_ready", int(not faults and not host_reasons(host)))
        self._set("pitboss_shutting_down", int(host.shutdown is not None))
        instances = self._series["pitboss_pool_instances"]
        in_flight = dict.fromkeys(host.pools, 0)
        depth = dict.fromkeys(host.pools, 0)
        self._read_stages(host)
        for instance in host.instances.values():
            if instance.in_flight:
                in_flight[instance.id.pool] += instance.in_flight
            if instance.queue_depth:
                depth[instance.id.pool] += instance.queue_depth
        for pool, census in host.census.items():
            self._set("pitboss_drain_inflight", in_flight[pool], pool)
            self._set("pitboss_queue_depth", depth[pool], pool)
            seen = (census.ready, census.wanted, *census.phases.values())
            if self._census_seen.get(pool) == seen:
                continue
            self._census_seen[pool] = seen
            self._set("pitboss_pool_ready", census.ready, pool)
            self._set("pitboss_pool_wanted", census.wanted, pool)
            for phase, count in census.phases.items():
                instances.set(count, pool, phase.value)

    def _read_stages(self, host: Host) -> None:
        """Where on the ladder everybody is who is on it; who has left it has no series."""
        since, until = set[tuple[str, ...]](), set[tuple[str, ...]]()
        now = self._clock()
        for pool, census in host.census.items():
            if not census.phases[Phase.DRAINING] + census.phases[Phase.STOPPING]:
                continue
            for instance in host.instances_of(pool):
                rung, stop = instance.rung, instance.stop
                if rung is None or stop is None:
                    continue
                labels = (pool, str(instance.id), rung.name)
                since.add(labels)
                self._set("pitboss_stage_seconds", round(now - stop.rung_since, 3), *labels)
                if instance.deadline is not None:
                    until.add(labels)
                    left = round(max(0.0, instance.deadline - now), 3)
                    self._set("pitboss_stage_remaining_seconds", left, *labels)
        self._series["pitboss_stage_seconds"].keep(since.__contains__)
        self._series["pitboss_stage_remaining_seconds"].keep(until.__contains__)

    def _read_counts(self) -> None:
        pools = self._host.pools if self._host is not None else {}
        for pool, (read, dropped) in self._log_counters().items():
            if pool in pools:
                self._set("pitboss_log_bytes_total", read, pool)
                self._set("pitboss_log_dropped_total", dropped, pool)
        drops = self._notify_drops()
        for instance, count in drops.items():
            # The count of one instance begins anew when its socket does; the pool's only ever grows.
            grown = count - self._notify_seen.get(instance, 0)
            if grown and instance.pool in pools:
                self._add("pitboss_notify_dropped_total", grown if grown > 0 else count, instance.pool)
        self._notify_seen = dict(drops)
        self._set("pitboss_daemon_loop_lag_seconds", round(self.lag.longest(), 6))
        for name, value in own_figures().items():
            self._set(name, value)


def _pieces(parts: list[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        for start in range(0, len(part), CHUNK_BYTES):
            piece = part[start : start + CHUNK_BYTES]
            waiting.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


class _InstanceLines:
    """The series that every instance has, made in one pass over the instances."""

    def __init__(self) -> None:
        self.backoff: dict[InstanceId, float] = {}
        self._prefixes: dict[InstanceId, tuple[bytes, bytes, bytes, bytes]] = {}

    def keep(self, host: Host) -> None:
        """Forget the instances that are gone."""
        for known in (self.backoff, self._prefixes):
            for instance in [one for one in known if one not in host.instances]:
                del known[instance]

    def _prefix(self, instance: InstanceId) -> tuple[bytes, bytes, bytes, bytes]:
        labels = series("", ("pool", "instance"), (instance.pool, str(instance)))
        found = self._prefixes[instance] = (
            b"pitboss_instance_up" + labels,
            b"pitboss_backoff_seconds" + labels,
            b"pitboss_instance_cpu_seconds_total" + labels,
            b"pitboss_instance_memory_bytes" + labels,
        )
        return found

    def text(self, host: Host, samples: Mapping[InstanceId, tuple[float, int]]) -> Mapping[str, bytes]:
        """The lines of each of the families."""
        ups: list[bytes] = []
        backoffs: list[bytes] = []
        cpus: list[bytes] = []
        memories: list[bytes] = []
        for instance in host.instances.values():
            up, backoff, cpu, memory = self._prefixes.get(instance.id) or self._prefix(instance.id)
            ups.append(up + (b"1\n" if instance.ready else b"0\n"))
            if instance.phase is Phase.BACKOFF and instance.id in self.backoff:
                backoffs.append(backoff + number(self.backoff[instance.id]).encode() + b"\n")
            else:
                backoffs.append(backoff + b"0\n")
            sample = samples.get(instance.id)
            if sample is not None and instance.has_process:
                cpus.append(b"%s%.2f\n" % (cpu, sample[0]))
                memories.append(b"%s%d\n" % (memory, sample[1]))
        return {
            "pitboss_instance_up": b"".join(ups),
            "pitboss_backoff_seconds": b"".join(backoffs),
            "pitboss_instance_cpu_seconds_total": b"".join(cpus),
            "pitboss_instance_memory_bytes": b"".join(memories),
        }
