"""What the Grafana dashboard shows: rows of panels, each a title, a unit and its expressions.

Decides what is shown and in which order. How Grafana wants it written is the business of `dashboard`. Tests
hold every expression against the metrics that exist.
"""

from dataclasses import dataclass

HOST = 'job=~"$job", instance=~"$instance"'
_P = f'{HOST}, pool=~"$pool"'
_RATE = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: `queries` are pairs of an expression and the text of its legend."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False


def _rate(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{_P}{more}}}{_RATE}))"


def _quantile(share: float, name: str, by: str) -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket{{{_P}}}{_RATE})))"


def _sum(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) ({name}{{{_P}{more}}})"


def _sum_of_operations(part: str) -> str:
    return f"sum by (kind, outcome) (pitboss_operation_seconds_{part}{{{HOST}}})"


_MISSING = " - ".join(f"pitboss_pool_{part}{{{_P}}}" for part in ("wanted", "ready", "finished"))

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "How it stands",
        (
            Panel(
                "Hosts that answer",
                "Scrapes that work.",
                ((f"sum(up{{{HOST}}})", "up"), (f"count(up{{{HOST}}})", "known")),
                kind="stat",
                width=4,
            ),
            Panel(
                "Hosts that are ready",
                "What /readyz says.",
                ((f"sum(pitboss_host_ready{{{HOST}}})", "ready"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Missing instances",
                "Wanted, and neither ready nor finished.",
                ((f"sum({_MISSING})", "missing"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Instances by phase",
                "Everything but running asks for a look when it lasts.",
                ((_sum("pitboss_pool_instances", "phase"), "{{phase}}"),),
                width=12,
                stacked=True,
            ),
        ),
    ),
    (
        "Boot",
        (
            Panel(
                "Time to ready",
                "From spawn to ready, per pool.",
                (
                    (_quantile(0.5, "pitboss_start_seconds", "pool"), "{{pool}} median"),
                    (_quantile(0.95, "pitboss_start_seconds", "pool"), "{{pool}} 95 %"),
                ),
                unit="s",
            ),
            Panel(
                "Not up yet",
                "Instances that wait for another pool, and those that get ready.",
                ((_sum("pitboss_pool_instances", "pool, phase", ', phase=~"pending|starting"'),
                  "{{pool}} {{phase}}"),),
                stacked=True,
            ),
            Panel(
                "Starts",
                "By why: boot, a wish, a retry after a failure, a restart.",
                ((_rate("pitboss_starts_total", "reason"), "{{reason}}"),),
                unit="ops",
            ),
        ),
    ),
    (
        "Restarts",
        (
            Panel(
                "Restarts by pool",
                "Any start but the first of an instance.",
                ((_rate("pitboss_restarts_total", "pool"), "{{pool}}"),),
                unit="ops",
                width=6,
            ),
            Panel(
                "Ends by how",
                "Anything but clean is a failure, and the class says of what.",
                ((_rate("pitboss_exits_total", "class"), "{{class}}"),),
                unit="ops",
                width=6,
            ),
            Panel(
                "Waiting for the next attempt",
                "The delay of the backoff; it grows while a crash loop lasts.",
                ((f"max by (pool) (pitboss_backoff_seconds{{{_P}}})", "{{pool}}"),),
                unit="s",
                width=6,
            ),
            Panel(
                "Rollouts and failed checks",
                "A halted rollout has met a replacement that did not become ready.",
                (
                    (f"sum by (outcome) (increase(pitboss_rollouts_total{{{_P}}}[$__range]))",
                     "rollouts {{outcome}}"),
                    (f"sum by (check) (increase(pitboss_probe_failures_total{{{_P}}}[$__range]))",
                     "{{check}} failed"),
                ),
                width=6,
            ),
        ),
    ),
    (
        "Stops",
        (
            Panel(
                "How long stages last",
                "Ninety-five of a hundred are over by then; compare it with the grace of the stage.",
                ((_quantile(0.95, "pitboss_stop_stage_seconds", "pool, stage"), "{{pool}} {{stage}}"),),
                unit="s",
                width=6,
            ),
            Panel(
                "How stages are left",
                "window-closed: the worker did not do in time what the stage asked for.",
                ((_rate("pitboss_stop_stage_seconds_count", "stage, outcome"), "{{stage}} {{outcome}}"),),
                unit="ops",
                width=6,
            ),
            Panel(
                "How stops end",
                "escalated and killed: what workers held may be lost.",
                ((_rate("pitboss_stops_total", "outcome"), "{{outcome}}"),),
                unit="ops",
                width=6,
            ),
            Panel(
                "On the ladder now",
                "Who is on which rung, and for how long still.",
                (
                    (f"max by (exported_instance, stage) (pitboss_stage_seconds{{{_P}}})",
                     "{{exported_instance}} {{stage}} since"),
                    (f"max by (exported_instance, stage) (pitboss_stage_remaining_seconds{{{_P}}})",
                     "{{exported_instance}} {{stage}} left"),
                ),
                unit="s",
                width=6,
            ),
        ),
    ),
    (
        "Work",
        (
            Panel(
                "Tasks completed against cancelled",
                "As workers say. Cancelled ones were cut off, by a stop for example.",
                ((_rate("pitboss_tasks_total", "outcome"), "{{outcome}}"),),
                unit="ops",
            ),
            Panel(
                "Share of tasks that did not complete",
                "Per pool.",
                (
                    (
                        _rate("pitboss_tasks_total", "pool", ', outcome!="completed"')
                        + " / ("
                        + _rate("pitboss_tasks_total", "pool")
                        + " > 0)",
                        "{{pool}}",
                    ),
                ),
                unit="percentunit",
            ),
            Panel(
                "How long tasks take",
                "Against this the windows of drains and stages are set.",
                (
                    (_quantile(0.5, "pitboss_task_seconds", "pool"), "{{pool}} median"),
                    (_quantile(0.95, "pitboss_task_seconds", "pool"), "{{pool}} 95 %"),
                ),
                unit="s",
            ),
        ),
    ),
    (
        "Drain",
        (
            Panel(
                "In flight",
                "What a drain waits for: it must fall to 0.",
                ((_sum("pitboss_drain_inflight", "pool"), "{{pool}}"),),
            ),
            Panel(
                "Waiting in queues",
                "As workers say; while a pool drains, this grows.",
                ((_sum("pitboss_queue_depth", "pool"), "{{pool}}"),),
            ),
            Panel(
                "Draining instances",
                "How many are at it, by pool.",
                ((_sum("pitboss_pool_instances", "pool", ', phase="draining"'), "{{pool}}"),),
                stacked=True,
            ),
        ),
    ),
    (
        "Workers",
        (
            Panel(
                "Memory",
                "Resident memory of main processes.",
                ((f"pitboss_instance_memory_bytes{{{_P}}}", "{{exported_instance}}"),),
                unit="bytes",
            ),
            Panel(
                "CPU",
                "Of main processes and their reaped children, in cores.",
                ((f"rate(pitboss_instance_cpu_seconds_total{{{_P}}}{_RATE})", "{{exported_instance}}"),),
            ),
            Panel(
                "Output",
                "What workers print; dropped bytes reached no file.",
                (
                    (_rate("pitboss_log_bytes_total", "pool"), "{{pool}}"),
                    (_rate("pitboss_log_dropped_total", "pool"), "{{pool}} dropped"),
                ),
                unit="Bps",
            ),
        ),
    ),
    (
        "The daemon",
        (
            Panel(
                "Loop lag",
                "The longest that ready work waited in the last minute. Usual: below 2 ms.",
                ((f"pitboss_daemon_loop_lag_seconds{{{HOST}}}", "{{instance}}"),),
                unit="s",
                width=6,
            ),
            Panel(
                "CPU of pitbossd",
                "In cores.",
                ((f"rate(process_cpu_seconds_total{{{HOST}}}{_RATE})", "{{instance}}"),),
                width=4,
            ),
            Panel(
                "Memory of pitbossd",
                "Resident.",
                ((f"process_resident_memory_bytes{{{HOST}}}", "{{instance}}"),),
                unit="bytes",
                width=4,
            ),
            Panel(
                "Operations",
                "How long wishes take, by kind and outcome.",
                ((f"{_sum_of_operations('sum')} / {_sum_of_operations('count')}", "{{kind}} {{outcome}}"),),
                unit="s",
                width=5,
            ),
            Panel(
                "Faults",
                "Anything but 0 has a runbook.",
                (
                    (f"sum by (instance) (pitboss_core_faults_total{{{HOST}}})", "{{instance}} broken steps"),
                    (f"sum by (instance) (pitboss_journal_failures_total{{{HOST}}})", "{{instance}} journal"),
                    (f"sum by (instance) (pitboss_notify_dropped_total{{{_P}}})", "{{instance}} messages"),
                ),
                width=5,
            ),
        ),
    ),
)  # fmt: skip
