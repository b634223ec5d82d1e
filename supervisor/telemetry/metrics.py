"""What Prometheus scrapes: an observer that counts, and the text of everything it knows.

Decides how reports become series. The names are `metric_table`, the format is `exposition`, what is
read from the state is `host_series`. Nothing is computed between scrapes but what a report adds to a
counter, and nothing of it wakes the daemon.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from supervisor.core.effects import (
    BackedOff,
    Cause,
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
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan
from supervisor.core.state import Host, Operation, OperationState
from supervisor.telemetry.exposition import OPENMETRICS_TYPE, STEP, TEXT_TYPE, Families, Labels
from supervisor.telemetry.host_series import HostSeries
from supervisor.telemetry.lag import Lag
from supervisor.telemetry.metric_table import BEGUN, CLOSED, TABLE, TASKS
from supervisor.telemetry.process_samples import Sampler, own_figures, own_start_time

COUNTED_OPERATIONS = 1024
"""Ended operations remembered, so that a late report about one is not counted again."""

_ROLLOUTS = frozenset({"restart", "reload", "rollback"})
"""The kinds of operation that replace generations."""


def _nothing() -> Mapping[InstanceId, int]:
    return {}


def _no_pools() -> Mapping[str, tuple[int, int]]:
    return {}


def _zero() -> int:
    return 0


def _further_labels(name: str) -> tuple[Labels, ...]:
    """The values of the label after `pool`, for a metric that has one from a closed list."""
    closed = [values for (owner, _), values in CLOSED.items() if owner == name]
    return tuple((value,) for value in closed[0]) if closed else ((),)


_BEGUN = {name: _further_labels(name) for name in BEGUN}


class Metrics:
    """Call it as an observer of the engine; `render` it for a scrape.

    `main_pids` names the main process of each instance, `log_counters` the bytes captured and dropped
    of each pool, `notify_drops` what the notify socket of each instance did not take, `faults`,
    `journal_failures` and `checks_not_asked` are counts. All are called at scrapes only.
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
        checks_not_asked: Callable[[], int] = _zero,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log_counters = log_counters
        self._notify_drops = notify_drops
        self._notify_seen: dict[InstanceId, int] = {}
        self._faults = faults
        self._journal_failures = journal_failures
        self._checks_not_asked = checks_not_asked
        self._clock = clock
        self.lag = Lag(clock)
        self._sampler = Sampler(main_pids, self.lag.note, clock)
        self._host: Host | None = None
        self._plan: HostPlan | None = None
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._families = Families(TABLE)
        self._host_series = HostSeries(self._families)
        self._set, self._add, self._observe = self._families.set, self._families.add, self._families.observe
        self._counters: Mapping[type, Callable[[Any, str], None]] = {
            Moved: self._moved,
            Climbed: self._climbed,
            ReadyChanged: self._ready_changed,
            Ended: self._ended,
            StopEnded: self._stop_ended,
            Extended: self._extended,
            ProbeFailed: self._probe_failed,
            BackedOff: self._backed_off,
            TasksReported: self._tasks,
        }
        self._set("pitboss_build_info", 1, version)
        self._set("process_start_time_seconds", round(own_start_time(), 2))

    # ── what happened ────────────────────────────────────────────────────────────────────────────

    def __call__(self, reports: Sequence[Report], host: Host, _now: float) -> None:
        """Take the reports of one step."""
        self._host = host
        for report in reports:
            if isinstance(report, OperationChanged):
                self._operation(report.operation, host)
                continue
            count, instance = self._counters.get(type(report)), getattr(report, "instance", None)
            # A report may outlive its pool; a series of a pool that is gone would stay for ever.
            if count is not None and instance is not None and instance.pool in host.pools:
                count(report, instance.pool)

    def _climbed(self, report: Climbed, pool: str) -> None:
        self._observe("pitboss_stop_stage_seconds", report.seconds, pool, report.source, report.outcome)

    def _ready_changed(self, report: ReadyChanged, pool: str) -> None:
        if report.start_seconds is not None:
            self._observe("pitboss_start_seconds", report.start_seconds, pool)

    def _ended(self, report: Ended, pool: str) -> None:
        self._add("pitboss_exits_total", 1, pool, report.record.exit_class.value)
        self._add("pitboss_leftovers_total", report.record.leftovers, pool)

    def _stop_ended(self, report: StopEnded, pool: str) -> None:
        self._add("pitboss_stops_total", 1, pool, report.outcome)

    def _extended(self, report: Extended, pool: str) -> None:
        self._add("pitboss_stop_extension_seconds_total", report.seconds, pool)

    def _probe_failed(self, report: ProbeFailed, pool: str) -> None:
        self._add("pitboss_probe_failures_total", 1, pool, report.check.value)

    def _backed_off(self, report: BackedOff, _pool: str) -> None:
        self._host_series.backoff[report.instance] = report.seconds

    def _moved(self, report: Moved, pool: str) -> None:
        if report.target is Phase.STARTING:
            self._add("pitboss_starts_total", 1, pool, report.cause.value)
            # The generations of surge instances are counted on over rollouts; the slot is a new one.
            again = report.generation > 1 and report.cause is not Cause.SURGE
            self._add("pitboss_restarts_total", again, pool)
        if report.source is Phase.BACKOFF:
            self._host_series.backoff.pop(report.instance, None)

    def _tasks(self, report: TasksReported, pool: str) -> None:
        for outcome, count in zip(TASKS, (report.completed, report.failed, report.cancelled), strict=True):
            if count > 0:
                self._add("pitboss_tasks_total", count, pool, outcome)
        for seconds in report.seconds:
            self._observe("pitboss_task_seconds", seconds, pool)

    def _operation(self, name: str, host: Host) -> None:
        operation = host.operations.get(name)
        if operation is None or not operation.state.is_final or name in self._counted:
            return
        self._counted[name] = None
        if len(self._counted) > COUNTED_OPERATIONS:
            self._counted.popitem(last=False)
        seconds = (operation.finished_at or operation.started_at) - operation.started_at
        self._observe("pitboss_operation_seconds", seconds, operation.kind, operation.state.value)
        if operation.kind in _ROLLOUTS:
            self._rollout(operation, host)

    def _rollout(self, operation: Operation, host: Host) -> None:
        """A restart of the whole host is one operation, and may halt in one pool and be done in another."""
        steps: dict[str, set[str]] = {}
        for instance, step in host.steps.get(operation.id, {}).items():
            steps.setdefault(instance.pool, set()).add(step.state)
        named = any("failed" in states for states in steps.values())
        for pool, states in steps.items():
            if pool not in host.pools:
                continue
            if operation.state is OperationState.SUCCEEDED or states == {"done"}:
                outcome = "succeeded"
            elif operation.state is OperationState.FAILED and ("failed" in states or not named):
                outcome = "halted"
            else:
                outcome = "aborted"
            self._add("pitboss_rollouts_total", 1, pool, outcome)

    # ── what is ──────────────────────────────────────────────────────────────────────────────────

    def render(self, *, openmetrics: bool = False) -> tuple[bytes, str]:
        """The whole text and its content type."""
        kind, pieces = self.scrape(openmetrics=openmetrics)
        return b"".join(pieces), kind

    def scrape(self, *, openmetrics: bool = False) -> tuple[str, Iterator[bytes]]:
        """The content type, and the text in pieces.

        Some pieces are empty: each stands for a step of work, after which the loop may turn. Only one
        such iterator may be under way at a time; one that is dropped half way does no harm.
        """
        return OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, self._pieces(openmetrics)

    def _pieces(self, openmetrics: bool) -> Iterator[bytes]:
        lines: dict[str, bytes] = {}
        host, faults = self._host, self._faults()
        self._sampler.scraped()
        if host is None:
            self._set("pitboss_host_ready", 0)
            self._set("pitboss_shutting_down", 0)
        else:
            yield from self._know(host)
            yield from self._host_series.read(host, self._sampler.samples, self._clock(), lines)
            if faults:
                self._set("pitboss_host_ready", 0)
            yield from self._read_counts(host)
        self._set("pitboss_core_faults_total", faults)
        self._set("pitboss_journal_failures_total", self._journal_failures())
        self._set("pitboss_checks_not_asked_total", self._checks_not_asked())
        self._set("pitboss_daemon_loop_lag_seconds", round(self.lag.longest(), 6))
        for name, value in own_figures().items():
            self._set(name, value)
        yield from self._families.pieces(lines, openmetrics=openmetrics)

    def _know(self, host: Host) -> Iterator[bytes]:
        """Begin the series of new pools at 0 and drop those of pools that are gone; the others go on."""
        if host.plan is self._plan:
            return
        self._host_series.keep(host)
        for metric in TABLE:
            if metric.labels[:1] == ("pool",):
                self._families.keep(metric.name, lambda labels: labels[0] in host.pools)
                yield b""
        revisions = {(name, pool.plan.revision) for name, pool in host.pools.items()}
        self._families.keep("pitboss_manifest_revision_info", revisions.__contains__)
        plan = host.plan
        for pool, revision in sorted(revisions):
            self._set("pitboss_manifest_revision_info", 1, pool, revision)
            # A counter that appears with its first event hides that event from rate().
            for name, further in _BEGUN.items():
                for values in further:
                    self._families.begin(name, pool, *values)
            yield b""
        self._plan = plan

    def _read_counts(self, host: Host) -> Iterator[bytes]:
        for number, (pool, (read, dropped)) in enumerate(tuple(self._log_counters().items())):
            if pool in host.pools:
                self._set("pitboss_log_bytes_total", read, pool)
                self._set("pitboss_log_dropped_total", dropped, pool)
            if number % STEP == 0:
                yield b""
        drops = dict(self._notify_drops())
        yield b""
        for instance, count in drops.items():
            # The count of one instance begins anew when its socket does; the pool's only ever grows.
            grown = count - self._notify_seen.get(instance, 0)
            if grown and instance.pool in host.pools:
                self._add("pitboss_notify_dropped_total", grown if grown > 0 else count, instance.pool)
        self._notify_seen = drops
