"""Metrics: what is counted and where, that Prometheus reads it, and that the reference names it."""

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from docs.generate.metrics import page
from supervisor.core import effects
from supervisor.core.effects import (
    Cause,
    Moved,
    OperationChanged,
)
from supervisor.core.events import Booted, Exited, Scope, Spawned, Tick, Told
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan, PoolPlan, Readiness
from supervisor.core.state import Host, Operation, OperationState, Shutdown, StepState, create
from supervisor.telemetry.metric_table import CLOSED, TABLE, Kind
from supervisor.telemetry.metrics import COUNTED_OPERATIONS, Metrics
from tests.telemetry.scripted import ONE, TWO, Clock, filled, make_host, put, samples, stop_since

EXPECTED: Mapping[tuple[str, ...], float] = {
    ("pitboss_build_info", "1.2.3"): 1,
    ("pitboss_host_ready",): 0,
    ("pitboss_shutting_down",): 0,
    ("pitboss_manifest_revision_info", "emails", "r-e"): 1,
    ("pitboss_pool_instances", "emails", "backoff"): 1,
    ("pitboss_pool_instances", "emails", "running"): 1,
    ("pitboss_pool_instances", "emails", "stuck"): 0,
    ("pitboss_pool_instances", "web", "pending"): 1,
    ("pitboss_pool_ready", "emails"): 1,
    ("pitboss_pool_wanted", "emails"): 2,
    ("pitboss_instance_up", "emails", "emails/0"): 0,
    ("pitboss_instance_up", "emails", "emails/1"): 1,
    ("pitboss_starts_total", "emails", "boot"): 1,
    ("pitboss_starts_total", "emails", "retry"): 1,
    ("pitboss_starts_total", "web", "boot"): 0,
    ("pitboss_restarts_total", "emails"): 1,
    ("pitboss_restarts_total", "web"): 0,
    ("pitboss_exits_total", "emails", "failure"): 1,
    ("pitboss_exits_total", "emails", "clean"): 0,
    ("pitboss_backoff_seconds", "emails", "emails/0"): 1.5,
    ("pitboss_backoff_seconds", "emails", "emails/1"): 0,
    ("pitboss_start_seconds_bucket", "emails", "0.25"): 0,
    ("pitboss_start_seconds_bucket", "emails", "0.5"): 1,
    ("pitboss_start_seconds_bucket", "emails", "+Inf"): 1,
    ("pitboss_start_seconds_sum", "emails"): 0.3,
    ("pitboss_start_seconds_count", "emails"): 1,
    ("pitboss_start_seconds_count", "web"): 0,
    ("pitboss_stop_stage_seconds_count", "emails", "stage-1", "window-closed"): 1,
    ("pitboss_stop_extension_seconds_total", "emails"): 12.5,
    ("pitboss_stops_total", "emails", "escalated"): 1,
    ("pitboss_stops_total", "web", "clean"): 0,
    ("pitboss_leftovers_total", "emails"): 2,
    ("pitboss_drain_inflight", "emails"): 5,
    ("pitboss_queue_depth", "emails"): 7,
    ("pitboss_tasks_total", "emails", "completed"): 5,
    ("pitboss_tasks_total", "emails", "cancelled"): 2,
    ("pitboss_task_seconds_count", "emails"): 2,
    ("pitboss_probe_failures_total", "emails", "liveness"): 1,
    ("pitboss_operation_seconds_sum", "restart", "succeeded"): 4,
    ("pitboss_log_bytes_total", "emails"): 1000,
    ("pitboss_log_dropped_total", "emails"): 10,
    ("pitboss_notify_dropped_total", "emails"): 7,
    ("pitboss_core_faults_total",): 0,
    ("pitboss_journal_failures_total",): 6,
    ("pitboss_checks_not_asked_total",): 7,
}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_report_is_counted_where_it_belongs(openmetrics: bool) -> None:
    """After the scripted reports both parsers read the expected values."""
    found = samples(filled()[0], openmetrics=openmetrics)
    assert {key: found.get(key) for key in EXPECTED} == EXPECTED
    assert not [key for key in found if "gone" in key]


def test_who_is_on_a_rung_is_shown_with_its_times_and_nobody_else() -> None:
    """On which rung, since when, until when; a hold has no end of its own, and who is off has no series."""
    clock = Clock()
    metrics, host = filled(clock)
    since, until = clock() - 4.0, clock() + 21.0
    put(host, TWO, phase=Phase.STOPPING, stop=stop_since(since), deadline=until, ready=False)
    labels = '{pool="emails",instance="emails/1",stage="stage-1"}'
    text = metrics.render()[0].decode()
    assert f"pitboss_stage_seconds{labels} 4\n" in text.replace(" 4.0\n", " 4\n")
    assert f"pitboss_stage_remaining_seconds{labels} 21\n" in text.replace(" 21.0\n", " 21\n")
    put(host, TWO, deadline=None)
    text = metrics.render()[0].decode()
    assert f"pitboss_stage_seconds{labels}" in text
    assert "pitboss_stage_remaining_seconds{" not in text
    put(host, TWO, phase=Phase.STOPPED, stop=None)
    assert "pitboss_stage_seconds{" not in metrics.render()[0].decode()


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_metric_of_the_table_has_series(openmetrics: bool) -> None:
    """The reference promises nothing that a scrape does not have, and a scrape has nothing else."""
    metrics, host = filled()
    put(host, TWO, phase=Phase.STOPPING, stop=stop_since(0.0), deadline=9.0, ready=False)
    body = metrics.render(openmetrics=openmetrics)[0].decode()
    parse = parse_openmetrics if openmetrics else parse_text
    families = {family.name: family for family in parse(body)}
    # Both parsers name a counter's family without its suffix.
    names = {m.name.removesuffix("_total") if m.kind is Kind.COUNTER else m.name: m for m in TABLE}
    assert set(families) == set(names)
    for name, metric in names.items():
        assert families[name].type == metric.kind
        assert families[name].documentation == metric.help
        assert families[name].samples, name
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_the_label_values_are_those_of_the_closed_lists() -> None:
    """What the reference lists is what is rendered from the start."""
    found = samples(filled()[0])
    for (name, _), values in CLOSED.items():
        rendered = {key[2] for key in found if key[0] == name}
        assert rendered <= set(values)
        if name not in {"pitboss_stop_stage_seconds", "pitboss_operation_seconds"}:
            assert rendered == set(values)


def test_promtool_agrees() -> None:
    """Prometheus' own linter finds nothing, where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=filled()[0].render()[0], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_life_of_a_real_host() -> None:
    """Driven through the real core: boot, ready, crash, retry; the counts tell the story."""
    pool = PoolPlan("emails", 1, readiness=Readiness.NOTIFY)
    host = create(HostPlan("shop", {"emails": pool}))
    metrics = Metrics(version="1")
    now = 0.0

    def happens(event: Any) -> None:
        reports = [one for one in step(host, event, now) if isinstance(one, effects.Report)]
        metrics(reports, host, now)

    happens(Booted())
    happens(Tick())
    happens(Spawned(ONE, 1, 4242))
    now = 2.0
    happens(Told(ONE, 1, ready=True, in_flight=4))
    found = samples(metrics)
    assert found["pitboss_host_ready",] == 1
    assert found["pitboss_start_seconds_sum", "emails"] == 2.0
    assert found["pitboss_drain_inflight", "emails"] == 4
    now = 3.0
    happens(Exited(ONE, 1, ExitStatus(code=3)))
    found = samples(metrics)
    assert found["pitboss_exits_total", "emails", "failure"] == 1
    assert found["pitboss_host_ready",] == 0
    assert found["pitboss_pool_instances", "emails", "backoff"] == 1
    assert found["pitboss_backoff_seconds", "emails", "emails/0"] >= 0
    now = next_deadline(host) or now
    happens(Tick())
    found = samples(metrics)
    assert found["pitboss_starts_total", "emails", "boot"] == 1
    assert found["pitboss_starts_total", "emails", "retry"] == 1
    assert found["pitboss_restarts_total", "emails"] == 1
    assert found["pitboss_backoff_seconds", "emails", "emails/0"] == 0
    assert found["pitboss_instance_up", "emails", "emails/0"] == 0


def test_before_the_first_report() -> None:
    """A scrape that comes before anything happened is answered: not ready, and nothing made up."""
    found = samples(Metrics(version="1"))
    assert found["pitboss_host_ready",] == 0
    assert found["pitboss_core_faults_total",] == 0
    assert ("pitboss_pool_ready", "emails") not in found


def test_a_broken_invariant_makes_the_host_unready() -> None:
    """As /readyz does."""
    host = create(HostPlan("shop", {}))
    faults = 0
    metrics = Metrics(version="1", faults=lambda: faults)
    metrics([], host, 0.0)
    assert samples(metrics)["pitboss_host_ready",] == 1
    faults = 1
    found = samples(metrics)
    assert (found["pitboss_host_ready",], found["pitboss_core_faults_total",]) == (0, 1)


def test_a_shutdown_shows() -> None:
    """From the request on."""
    metrics, host = filled()
    host.shutdown = Shutdown(1.0, 300.0, 1.0, {}, "op")
    found = samples(metrics)
    assert (found["pitboss_shutting_down",], found["pitboss_host_ready",]) == (1, 0)


def test_counters_go_on_when_a_pool_changes() -> None:
    """A new revision keeps the counts; a pool that is gone leaves no series; a new one begins at 0."""
    metrics, _ = filled()
    pools = {"emails": PoolPlan("emails", 1, revision="r-2"), "jobs": PoolPlan("jobs", 1, revision="r-j")}
    after = create(HostPlan("shop", pools))
    metrics([Moved(ONE, 3, Phase.PENDING, Phase.STARTING, Cause.RESTART)], after, 11.0)
    metrics([Moved(InstanceId("web", 0), 3, Phase.PENDING, Phase.STARTING, Cause.RESTART)], after, 11.0)
    found = samples(metrics)
    assert found["pitboss_starts_total", "emails", "retry"] == 1
    assert found["pitboss_starts_total", "emails", "restart"] == 1
    assert found["pitboss_manifest_revision_info", "emails", "r-2"] == 1
    assert ("pitboss_manifest_revision_info", "emails", "r-e") not in found
    assert found["pitboss_starts_total", "jobs", "boot"] == 0
    assert not [key for key in found if "web" in key or "emails/1" in key]


def test_an_operation_is_counted_once() -> None:
    """However often its end is reported; running ones not at all; what is remembered is bounded."""
    metrics, host = filled()
    metrics([OperationChanged("op-1"), OperationChanged("unknown")], host, 11.0)
    host.operations["op-2"] = Operation("op-2", "drain", Scope(), OperationState.RUNNING, 0, 2, 5.0)
    metrics([OperationChanged("op-2")], host, 11.0)
    found = samples(metrics)
    assert found["pitboss_operation_seconds_count", "restart", "succeeded"] == 1
    assert not [key for key in found if "drain" in key and key[0].startswith("pitboss_operation")]
    for number_ in range(COUNTED_OPERATIONS + 50):
        name = f"op-x-{number_}"
        host.operations = {name: Operation(name, "stop", Scope(), OperationState.FAILED, 0, 1, 5.0, 6.0)}
        metrics([OperationChanged(name)], host, 11.0)
    assert len(metrics._counted) == COUNTED_OPERATIONS
    assert samples(metrics)["pitboss_operation_seconds_count", "stop", "failed"] == COUNTED_OPERATIONS + 50


def rollout(host: Host, state: OperationState, **steps: str) -> None:
    """A restart of the whole host that has ended, with these steps."""
    name = f"op-{len(host.steps) + 10}"
    host.operations[name] = Operation(name, "restart", Scope(), state, 0, len(steps), 5.0, 6.0)
    host.steps[name] = {InstanceId(pool, 0): StepState(step) for pool, step in steps.items()}


def test_a_rollout_is_counted_for_each_pool_by_what_became_of_it() -> None:
    """Halted is the pool whose replacement failed; those it left untouched are aborted; no progress halts."""
    metrics, host = filled()
    rollout(host, OperationState.SUCCEEDED, emails="done", web="aborted", gone="done")
    rollout(host, OperationState.FAILED, emails="failed", web="aborted")
    rollout(host, OperationState.FAILED, emails="failed", web="done")
    rollout(host, OperationState.FAILED, emails="aborted")
    rollout(host, OperationState.ABORTED, emails="aborted", web="done")
    metrics([OperationChanged(name) for name in host.operations], host, 11.0)
    found = samples(metrics)
    counts = {key[1:]: value for key, value in found.items() if key[0] == "pitboss_rollouts_total"}
    assert counts == {
        ("emails", "succeeded"): 1, ("emails", "halted"): 3, ("emails", "aborted"): 1,
        ("web", "succeeded"): 3, ("web", "halted"): 0, ("web", "aborted"): 1,
    }  # fmt: skip


def test_a_pool_that_ran_to_completion_is_not_short_of_anything() -> None:
    """Ready + finished is what wanted is compared with; whether the pool is critical is told too."""
    metrics, host = filled()
    put(host, InstanceId("web", 0), phase=Phase.STOPPED, finished=True)
    found = samples(metrics)
    assert [found[f"pitboss_pool_{name}", "web"] for name in ("wanted", "ready", "finished", "critical")] == [
        1,
        0,
        1,
        1,
    ]


async def test_each_scrape_tells_how_late_the_loop_is() -> None:
    """A host without timers due and with few instances has no other witness."""
    clock = Clock()
    metrics, _ = filled(clock)
    metrics.render()
    clock.now += 0.25
    await asyncio.sleep(0)
    assert samples(metrics)["pitboss_daemon_loop_lag_seconds",] == 0.25


def test_dropped_messages_only_ever_grow() -> None:
    """The count of a pool survives the socket of an instance being made anew."""
    drops = {ONE: 5}
    metrics = Metrics(version="1", notify_drops=lambda: drops)
    metrics([], make_host(), 0.0)
    counts = []
    for value in (5, 7, 0, 2, None, 1):
        drops.clear()
        if value is not None:
            drops[ONE] = value
        counts.append(samples(metrics)["pitboss_notify_dropped_total", "emails"])
    assert counts == [5, 7, 7, 9, 9, 10]


def test_the_reference_names_every_metric() -> None:
    """Name, kind, labels and meaning of each, and each closed list."""
    text = page()
    for metric in TABLE:
        assert f"| `{metric.name}` | {metric.kind} |" in text
    for name, label in CLOSED:
        metric = next(one for one in TABLE if one.name == name)
        assert label in metric.labels
