"""A host and reports that touch every metric, behind a clock that a test turns by hand."""

import os

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

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
from supervisor.core.events import CheckKind, Scope
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Rung, RungKind, Stop
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, Operation, OperationState, create
from supervisor.telemetry.metrics import Metrics

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
    host.instances[key] = host.instances[key]._replace(**changes)  # type: ignore[arg-type]
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
