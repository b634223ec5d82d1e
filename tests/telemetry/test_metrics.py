"""Metrics: what is counted, that the text is what Prometheus reads, and that nothing ever raises."""

import asyncio
import io
import logging
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from docs.generate.metrics import page
from supervisor.core import effects
from supervisor.core.effects import (
    BackedOff,
    Cause,
    Climbed,
    Ended,
    Extended,
    GoalChanged,
    Moved,
    OperationChanged,
    ProbeFailed,
    ReadyChanged,
    Report,
    StopEnded,
    TasksReported,
)
from supervisor.core.events import Booted, CheckKind, Exited, Scope, Spawned, Tick, Told
from supervisor.core.exits import ExitClass, ExitRecord, ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Rung, RungKind, Stop
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import HostPlan, PoolPlan, Readiness
from supervisor.core.state import Host, Operation, OperationState, Shutdown, StepState, create
from supervisor.telemetry.exposition import Family, Histogram, escaped, number
from supervisor.telemetry.lag import WINDOW_SECONDS, Lag
from supervisor.telemetry.log_forms import HumanForm, JournalForm, JsonForm
from supervisor.telemetry.metric_table import CLOSED, TABLE, Kind, Metric
from supervisor.telemetry.metrics import COUNTED_OPERATIONS, Metrics
from supervisor.telemetry.move_log import MoveLog
from supervisor.telemetry.process_samples import (
    PASS_SECONDS,
    SLICE,
    Sampler,
    own_figures,
    own_start_time,
    read_stat,
)
from tests.waiting import async_eventually, eventually

ONE, TWO = InstanceId("emails", 0), InstanceId("emails", 1)


class Clock:
    """Time that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def make_host(instances: int = 2) -> Host:
    """Two pools."""
    pools = {
        "emails": PoolPlan("emails", instances, revision="r-e"),
        "web": PoolPlan("web", 1, revision="r-w"),
    }
    return create(HostPlan("shop", pools))


def samples(metrics: Metrics, *, openmetrics: bool = False) -> dict[tuple[str, ...], float]:
    """Every sample of a render by its name and label values, as the official parser reads it."""
    body, kind = metrics.render(openmetrics=openmetrics)
    assert kind.startswith("application/openmetrics-text" if openmetrics else "text/plain")
    parse = parse_openmetrics if openmetrics else parse_text
    found: dict[tuple[str, ...], float] = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def scripted() -> list[Report]:
    """At least one report of each kind that a metric comes from."""
    record = ExitRecord(1, ExitClass.FAILURE, "exit 3", 9.0, 4.0, leftovers=2)
    return [
        Moved(ONE, 1, Phase.PENDING, Phase.STARTING, Cause.BOOT),
        Moved(ONE, 2, Phase.PENDING, Phase.STARTING, Cause.RETRY),
        ReadyChanged(ONE, 2, True, "", 0.3),
        ReadyChanged(ONE, 2, False, "probe"),
        Climbed(ONE, 2, "stage-1", 3.0, "window-closed", "stage-2"),
        StopEnded(ONE, 2, "escalated", 3.5),
        Extended(ONE, 2, 12.5),
        Ended(ONE, record),
        ProbeFailed(ONE, 2, CheckKind.LIVENESS, "refused"),
        BackedOff(ONE, 1.5, 1),
        Moved(ONE, 2, Phase.STARTING, Phase.BACKOFF, Cause.EXIT),
        TasksReported(ONE, 5, 1, 2, (0.02, 0.2, float("nan"), -1.0)),
        GoalChanged(Scope("emails"), Goal.UP),
        OperationChanged("op-1"),
    ]


def put(host: Host, key: InstanceId, **changes: object) -> None:
    """Change an instance behind the core's back, counts included."""
    host.census[key.pool].count(host.instances[key], -1)
    host.instances[key] = replace(host.instances[key], **changes)  # type: ignore[arg-type]
    host.census[key.pool].count(host.instances[key], 1)


def stop_since(moment: float) -> Stop:
    """A stop that has been on its first stage since then."""
    rung = Rung(RungKind.STAGE, 25.0, 1, "SIGTERM")
    return Stop(Cause.STOP, (rung,), began_at=moment, rung_since=moment)


def filled(clock: Clock | None = None) -> tuple[Metrics, Host]:
    """Metrics after the scripted reports."""
    metrics = Metrics(
        version="1.2.3",
        main_pids=lambda: {TWO: os.getpid()},
        log_counters=lambda: {"emails": (1000, 10), "gone": (5, 5)},
        notify_drops=lambda: {ONE: 3, TWO: 4, InstanceId("gone", 0): 9},
        faults=lambda: 0,
        journal_failures=lambda: 6,
        checks_not_asked=lambda: 7,
        clock=clock or Clock(),
    )
    host = make_host()
    for instance, changes in (
        (ONE, {"phase": Phase.BACKOFF, "in_flight": 3, "queue_depth": 7}),
        (TWO, {"phase": Phase.RUNNING, "ready": True, "in_flight": 2, "pid": os.getpid()}),
    ):
        put(host, instance, **changes)
    host.operations["op-1"] = Operation(
        "op-1", "restart", Scope("emails"), OperationState.SUCCEEDED, 2, 2, 5.0, 9.0
    )
    metrics(scripted(), host, 10.0)
    return metrics, host


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


# ── the format ───────────────────────────────────────────────────────────────────────────────────


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30))
def test_any_label_value_is_read_back(value: str) -> None:
    """Quotes, backslashes and newlines in a name come out of both parsers as they went in."""
    family = Family(Metric("x", Kind.GAUGE, "help", ("label",)))
    family.set(1, value)
    text = "# HELP x help\n# TYPE x gauge\n" + family.text().decode()
    for parse, ending in ((parse_text, ""), (parse_openmetrics, "# EOF\n")):
        parsed = parse(text + ending)
        assert [one.labels for one in next(iter(parsed)).samples] == [{"label": value}]
    assert "\n" not in escaped(value)


@given(st.floats() | st.integers(-(2**70), 2**70))
def test_any_value_is_read_back(value: float) -> None:
    """Also infinities, NaN, and numbers too large for a float's integers."""
    text = number(value)
    assert float(text) == float(value) or (math.isnan(value) and text == "NaN")


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_adds_up(values: list[float]) -> None:
    """Buckets are cumulative with inclusive bounds, the last is the count."""
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(Metric("x", Kind.HISTOGRAM, "help", (), bounds))
    histogram.begin()
    for value in values:
        histogram.observe(value)
    found = {}
    for sample in next(iter(parse_text("# TYPE x histogram\n" + histogram.text().decode()))).samples:
        found[sample.name, sample.labels.get("le")] = sample.value
    for bound in bounds:
        assert found["x_bucket", repr(bound)] == sum(value <= bound for value in values)
    assert found["x_bucket", "+Inf"] == found["x_count", None] == len(values)
    assert found["x_sum", None] == pytest.approx(sum(values))


def test_an_unchanged_family_is_not_rendered_again() -> None:
    """The text of a family is kept until something in it changes."""
    family = Family(Metric("x_total", Kind.COUNTER, "help", ("a",)))
    family.add(1, "b")
    first = family.text()
    assert family.text() is first
    family.set(1, "b")
    assert family.text() is first
    family.add(0.5, "b")
    assert family.text() == b'x_total{a="b"} 1.5\n'


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_scrape_is_sound_whatever_happens_between_its_pieces(openmetrics: bool) -> None:
    """Instances move, tasks end and pools go while the text is made: it is parsed all the same.

    No histogram is torn, and the work is done in steps: several for a thousand instances.
    """
    metrics = Metrics(version="1", clock=Clock())
    host = make_host(1000)
    metrics([], host, 0.0)
    _, pieces = metrics.scrape(openmetrics=openmetrics)
    got = []
    for turn, piece in enumerate(pieces):
        got.append(piece)
        key = InstanceId("emails", turn)
        reports: list[Report] = [Moved(key, 1, Phase.PENDING, Phase.STARTING, Cause.BOOT)]
        reports += [TasksReported(key, 1, 0, 0, (0.3, 7.0)), ReadyChanged(key, 1, True, "", 0.2)]
        if "web" in host.pools and turn > 20:
            host.plan = replace(host.plan, pools={"emails": host.plan.pools["emails"]})
            del host.pools["web"], host.census["web"], host.instances[InstanceId("web", 0)]
        metrics(reports, host, 1.0)
    assert sum(not piece for piece in got) > 5
    parse = parse_openmetrics if openmetrics else parse_text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(b"".join(got).decode())
        for sample in family.samples
    }
    assert len([key for key in found if key[0] == "pitboss_instance_up"]) == 1000
    for name in ("pitboss_task_seconds", "pitboss_start_seconds"):
        for labels in [one[1:] for one in found if one[0] == f"{name}_count"]:
            assert found[f"{name}_count", *labels] == found[f"{name}_bucket", *labels, "+Inf"]
    after = samples(metrics)
    assert after["pitboss_tasks_total", "emails", "completed"] == len(got)
    assert not [key for key in after if "web" in key]


def test_a_scrape_that_is_dropped_half_way_does_no_harm() -> None:
    """The client of one scrape has left; the next one is whole."""
    metrics, _ = filled()
    whole = samples(filled()[0])
    for length in range(0, 40, 3):
        _, pieces = metrics.scrape()
        for _ in zip(range(length), pieces, strict=False):
            pass
    assert {key for key in samples(metrics) if key[0].startswith("pitboss")} == {
        key for key in whole if key[0].startswith("pitboss")
    }


# ── samples of processes ─────────────────────────────────────────────────────────────────────────


def test_the_daemon_measures_itself() -> None:
    """The figures of this process are plausible and current."""
    figures = own_figures()
    assert figures["process_resident_memory_bytes"] > 5_000_000
    assert figures["process_virtual_memory_bytes"] > figures["process_resident_memory_bytes"]
    assert figures["process_cpu_seconds_total"] > 0
    assert figures["process_max_fds"] >= figures["process_open_fds"] > 2
    born = os.stat(f"/proc/{os.getpid()}").st_ctime
    assert own_start_time() == pytest.approx(born, abs=30)
    opened = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(50)]
    assert own_figures()["process_open_fds"] >= figures["process_open_fds"] + 50
    for descriptor in opened:
        os.close(descriptor)


def test_a_worker_is_measured(tmp_path: Path) -> None:
    """CPU and memory of the main process are those of the kernel, whatever it is called."""
    hostile = tmp_path / "a) 1 2 (c"
    hostile.symlink_to(shutil.which("sleep") or "/bin/sleep")
    child = subprocess.Popen([str(hostile), "1000"])
    comm = Path(f"/proc/{child.pid}/comm")
    try:
        eventually(lambda: comm.read_text().strip() == hostile.name)
        clock = Clock()
        sampler = Sampler(lambda: {ONE: child.pid, TWO: 2**30}, lambda _: None, clock)

        def size() -> int:
            clock.now += PASS_SECONDS
            sampler.scraped()
            assert list(sampler.samples) == [ONE]
            seconds, memory = sampler.samples[ONE]
            assert 0 <= seconds < 30
            return memory

        eventually(lambda: size() == int(read_stat(child.pid)[21]) * os.sysconf("SC_PAGE_SIZE") > 0)
    finally:
        child.kill()
        child.wait()


async def test_many_processes_are_read_in_slices() -> None:
    """One turn of the loop reads one slice; the figures change all at once when the pass is over."""
    pids = {InstanceId("many", index): os.getpid() for index in range(3 * SLICE + 1)}
    lags: list[float] = []
    clock = Clock()
    sampler = Sampler(lambda: pids, lags.append, clock)
    sampler.scraped()
    assert sampler.samples == {}
    assert len(sampler._fresh) == SLICE
    sampler.scraped()
    assert len(sampler._fresh) == SLICE
    await async_eventually(lambda: len(sampler.samples) == len(pids))
    assert len(lags) == 3 + 2, "each slice that waited, and each scrape"
    del pids[InstanceId("many", 0)]
    sampler.scraped()
    assert len(sampler.samples) == 3 * SLICE + 1, "a second scrape at once reads nothing"
    clock.now += PASS_SECONDS
    sampler.scraped()
    await async_eventually(lambda: len(sampler.samples) == 3 * SLICE)


async def test_nothing_is_read_when_nobody_scrapes() -> None:
    """Reports alone cause no look at /proc and leave nothing for the loop to do."""
    asked = 0

    def pids() -> Mapping[InstanceId, int]:
        nonlocal asked
        asked += 1
        return {}

    metrics = Metrics(version="1", main_pids=pids)
    metrics(scripted(), make_host(), 0.0)
    await asyncio.sleep(0)
    assert asked == 0
    metrics.render()
    assert asked == 1


def test_the_lag_is_forgotten_after_a_while() -> None:
    """The longest wait is shown for at least half a window and at most a whole one."""
    clock = Clock()
    lag = Lag(clock)
    lag.note(0.5)
    lag.note(0.2)
    clock.now += WINDOW_SECONDS / 2
    assert lag.longest() == 0.5
    lag.note(0.1)
    clock.now += WINDOW_SECONDS / 2
    assert lag.longest() == 0.1
    clock.now += WINDOW_SECONDS
    assert lag.longest() == 0.0


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────

TEXT = st.text(max_size=8)
POOLS = st.sampled_from(["emails", "web", "gone", ""])
IDS = st.builds(InstanceId, POOLS, st.integers(-1, 3))
SECONDS = st.floats() | st.floats(0, 100)
COUNT = st.integers(0, 5)
OPERATION_IDS = st.sampled_from(["op-1", "op-2", "op-3", "none"])
RECORDS = st.builds(
    ExitRecord,
    COUNT,
    st.sampled_from(ExitClass),
    TEXT,
    SECONDS,
    SECONDS,
    leftovers=COUNT,
    last_lines=st.tuples(TEXT),
)
REPORTS = st.one_of(
    st.builds(
        Moved,
        IDS,
        COUNT,
        st.sampled_from(Phase),
        st.sampled_from(Phase),
        st.sampled_from(Cause),
        TEXT,
        st.none() | TEXT,
        st.none() | SECONDS,
        TEXT,
    ),
    st.builds(Climbed, IDS, COUNT, TEXT, SECONDS, TEXT, st.none() | TEXT, st.none() | SECONDS, TEXT),
    st.builds(ReadyChanged, IDS, COUNT, st.booleans(), TEXT, st.none() | SECONDS),
    st.builds(Ended, IDS, RECORDS),
    st.builds(StopEnded, IDS, COUNT, TEXT, SECONDS),
    st.builds(Extended, IDS, COUNT, SECONDS),
    st.builds(ProbeFailed, IDS, COUNT, st.sampled_from(CheckKind), TEXT),
    st.builds(BackedOff, IDS, SECONDS, COUNT),
    st.builds(TasksReported, IDS, COUNT, COUNT, COUNT, st.lists(SECONDS, max_size=3).map(tuple)),
    st.builds(
        GoalChanged, st.builds(Scope, st.none() | TEXT, st.none() | COUNT), st.sampled_from(Goal), TEXT, TEXT
    ),
    st.builds(OperationChanged, OPERATION_IDS),
    st.builds(effects.Accepted, TEXT),
    st.builds(effects.Refused, TEXT, TEXT, TEXT),
)
OPERATIONS = st.builds(
    Operation,
    OPERATION_IDS,
    TEXT,
    st.just(Scope("emails")),
    st.sampled_from(OperationState),
    COUNT,
    COUNT,
    SECONDS,
    st.none() | SECONDS,
)


def test_the_strategy_knows_every_report() -> None:
    """A report added to the core is added here too."""
    assert {"Moved", "Refused"} <= {one.__name__ for one in effects.Report.__args__}
    assert len(effects.Report.__args__) == 13


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(REPORTS, max_size=6), max_size=6), st.lists(OPERATIONS, max_size=3))
def test_no_sequence_of_reports_raises(steps: list[list[Report]], operations: list[Operation]) -> None:
    """Whatever is reported, in any order and about anybody: both observers go on and the text is readable."""
    host = make_host()
    host.operations = {one.id: one for one in operations}
    metrics = Metrics(version="1", clock=Clock())
    silent = logging.getLogger("silent")
    silent.propagate = False
    silent.setLevel(logging.DEBUG)
    observers: list[Callable[..., None]] = [metrics, MoveLog(silent)]
    lines = io.StringIO()
    silent.handlers = [logging.StreamHandler(lines) for _ in range(3)]
    for handler, form in zip(
        silent.handlers, (HumanForm(colour=True), JsonForm(), JournalForm()), strict=True
    ):
        handler.setFormatter(form)
    for reports in steps:
        for observer in observers:
            observer(reports, host, 1.0)
        body, _ = metrics.render()
        list(parse_text(body.decode()))
    for key in samples(metrics, openmetrics=True):
        assert "gone" not in key
    assert all(line.replace("\x1b", "").isprintable() for line in lines.getvalue().split("\n"))


# ── the reference ────────────────────────────────────────────────────────────────────────────────


def test_the_reference_names_every_metric() -> None:
    """Name, kind, labels and meaning of each, and each closed list."""
    text = page()
    for metric in TABLE:
        assert f"| `{metric.name}` | {metric.kind} |" in text
    for name, label in CLOSED:
        metric = next(one for one in TABLE if one.name == name)
        assert label in metric.labels
