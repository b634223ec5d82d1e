"""Every metric: its name, kind, labels and meaning. The reference page is made from this table.

Label values come from the manifest or from closed lists only, so that the number of series is known
from the manifest: nothing a worker or a client says becomes a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from supervisor.core.effects import Cause
from supervisor.core.events import CheckKind
from supervisor.core.exits import ExitClass
from supervisor.core.phases import Phase
from supervisor.core.state import OperationState


class Kind(StrEnum):
    """What a series is, in the words of the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of series. A counter's `name` ends in `_total`; `buckets` are upper bounds in seconds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


STARTS = (Cause.BOOT.value, Cause.START.value, Cause.RETRY.value, Cause.RESTART.value, Cause.SURGE.value)
STOPS = ("clean", "escalated", "killed", "stuck")
TASKS = ("completed", "failed", "cancelled")
CHECKS = (CheckKind.READINESS.value, CheckKind.LIVENESS.value, CheckKind.DRAIN.value)
ROLLOUTS = ("succeeded", "halted", "aborted")
OUTCOMES = ("exit", "drained", "window-closed", "hurried", "released", "cancelled", "stuck")

CLOSED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("pitboss_pool_instances", "phase"): tuple(phase.value for phase in Phase),
    ("pitboss_starts_total", "reason"): STARTS,
    ("pitboss_exits_total", "class"): tuple(one.value for one in ExitClass),
    ("pitboss_stop_stage_seconds", "outcome"): OUTCOMES,
    ("pitboss_stops_total", "outcome"): STOPS,
    ("pitboss_rollouts_total", "outcome"): ROLLOUTS,
    ("pitboss_tasks_total", "outcome"): TASKS,
    ("pitboss_probe_failures_total", "check"): CHECKS,
    ("pitboss_operation_seconds", "outcome"): tuple(one.value for one in OperationState if one.is_final),
}
"""The values of a metric's label that come from a closed list."""

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_LIVES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

_POOL = ("pool",)
_INSTANCE = ("pool", "instance")
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

TABLE: tuple[Metric, ...] = (
    Metric("pitboss_build_info", _G, "The running version; always 1.", ("version",)),
    Metric(
        "pitboss_host_ready",
        _G,
        "1 when /readyz says yes: every critical pool is at its goal, and that is up.",
    ),
    Metric("pitboss_shutting_down", _G, "1 from the request to shut the host down until its end."),
    Metric(
        "pitboss_manifest_revision_info",
        _G,
        "The definition a pool's next start uses; always 1.",
        ("pool", "revision"),
    ),
    Metric("pitboss_pool_instances", _G, "Instances of a pool by phase.", ("pool", "phase")),
    Metric("pitboss_pool_ready", _G, "Instances that may get work.", _POOL),
    Metric("pitboss_pool_wanted", _G, "Instances whose goal is up.", _POOL),
    Metric(
        "pitboss_pool_finished",
        _G,
        "Instances whose goal is up and that need not run: they ran to completion.",
        _POOL,
    ),
    Metric("pitboss_pool_critical", _G, "1 when trouble of the pool turns /readyz.", _POOL),
    Metric("pitboss_instance_up", _G, "1 while the instance is ready.", _INSTANCE),
    Metric(
        "pitboss_starts_total",
        _C,
        "Starts, by why: boot, start, retry after a failure, restart.",
        ("pool", "reason"),
    ),
    Metric("pitboss_restarts_total", _C, "Starts of any but the first generation of an instance.", _POOL),
    Metric("pitboss_exits_total", _C, "Generations that ended, by how.", ("pool", "class")),
    Metric(
        "pitboss_backoff_seconds",
        _G,
        "The delay an instance waits out before its next start; 0 when it does not wait.",
        _INSTANCE,
    ),
    Metric("pitboss_start_seconds", _H, "From spawn to ready, first time in a generation.", _POOL, _LIVES),
    Metric(
        "pitboss_stop_stage_seconds",
        _H,
        "Time spent on a rung of the stop ladder, by how it was left.",
        ("pool", "stage", "outcome"),
        _LIVES,
    ),
    Metric(
        "pitboss_stage_seconds",
        _G,
        "How long an instance has been on its rung of the stop ladder; only while it is on one.",
        ("pool", "instance", "stage"),
    ),
    Metric(
        "pitboss_stage_remaining_seconds",
        _G,
        "How long that rung may still last; a hold, which waits for other pools, has no such time.",
        ("pool", "instance", "stage"),
    ),
    Metric(
        "pitboss_stop_extension_seconds_total",
        _C,
        "Time granted to workers that asked for more (EXTEND_TIMEOUT_USEC).",
        _POOL,
    ),
    Metric(
        "pitboss_stops_total",
        _C,
        "Stops that ended, by how: clean, escalated to a later stage, killed, stuck.",
        ("pool", "outcome"),
    ),
    Metric(
        "pitboss_rollouts_total",
        _C,
        "Rollouts that ended: all replaced, halted at a replacement that failed, or aborted.",
        ("pool", "outcome"),
    ),
    Metric("pitboss_leftovers_total", _C, "Processes that main processes left behind.", _POOL),
    Metric(
        "pitboss_drain_inflight",
        _G,
        "Work in flight as workers say (X_PITBOSS_INFLIGHT): what a drain waits for.",
        _POOL,
    ),
    Metric("pitboss_queue_depth", _G, "Work waiting as workers say (X_PITBOSS_QUEUE_DEPTH).", _POOL),
    Metric(
        "pitboss_tasks_total",
        _C,
        "Tasks that workers say they ended (X_PITBOSS_TASKS_*).",
        ("pool", "outcome"),
    ),
    Metric(
        "pitboss_task_seconds",
        _H,
        "How long tasks took as workers say (X_PITBOSS_TASK_SECONDS).",
        _POOL,
        _QUICK,
    ),
    Metric("pitboss_probe_failures_total", _C, "Negative answers of checks.", ("pool", "check")),
    Metric(
        "pitboss_operation_seconds",
        _H,
        "From the request of an operation to its end.",
        ("kind", "outcome"),
        _LIVES,
    ),
    Metric("pitboss_log_bytes_total", _C, "Output captured from workers.", _POOL),
    Metric(
        "pitboss_log_dropped_total",
        _C,
        "Bytes of captured output that reached no file: rate limit, full disk, unwritable target.",
        _POOL,
    ),
    Metric(
        "pitboss_notify_dropped_total", _C, "sd_notify messages, or parts of one, that were not taken.", _POOL
    ),
    Metric(
        "pitboss_instance_cpu_seconds_total",
        _C,
        "CPU time of the main process of the present generation, its reaped children included.",
        _INSTANCE,
    ),
    Metric("pitboss_instance_memory_bytes", _G, "Resident memory of the main process.", _INSTANCE),
    Metric(
        "pitboss_daemon_loop_lag_seconds",
        _G,
        "The longest that ready work waited for the daemon's loop in the last minute, as seen at scrapes.",
    ),
    Metric(
        "pitboss_core_faults_total", _C, "Steps that broke an invariant; anything but 0 is a bug of pitboss."
    ),
    Metric("pitboss_journal_failures_total", _C, "Writes to the journal that failed."),
    Metric(
        "pitboss_checks_not_asked_total",
        _C,
        "Checks that were not made for want of descriptors, memory or processes; they count for nobody.",
    ),
    Metric("process_cpu_seconds_total", _C, "CPU time of the daemon."),
    Metric("process_resident_memory_bytes", _G, "Resident memory of the daemon."),
    Metric("process_virtual_memory_bytes", _G, "Virtual memory of the daemon."),
    Metric("process_start_time_seconds", _G, "When the daemon started, seconds since the epoch."),
    Metric("process_open_fds", _G, "Descriptors the daemon holds open."),
    Metric("process_max_fds", _G, "Descriptors the daemon may hold open."),
)

BEGUN = tuple(
    metric.name
    for metric in TABLE
    if metric.labels[:1] == ("pool",)
    and (metric.kind is _C or metric.name == "pitboss_start_seconds")
    and "instance" not in metric.labels
)
"""What every pool has from the start, at 0: its counters, and the histogram that each of them will fill."""
