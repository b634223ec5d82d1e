"""What a fake process is like, drawn from the seed: obedient, slow, deaf, leaving children, lying."""

from dataclasses import dataclass
from random import Random
from typing import Any

from supervisor.core.exits import ExitStatus

FINE = ExitStatus(code=0)
FAILED = ExitStatus(code=1)


@dataclass(frozen=True)
class Child:
    """A process that outlives its main one; a None delay means that it ignores that."""

    dies_on_term: float | None
    dies_by_itself: float | None


@dataclass(frozen=True)
class Behaviour:
    """One generation's fate. Moments are seconds after its start, delays are seconds after their cause."""

    report_delay: float = 0.0
    spawn_error: str | None = None
    ready_after: float | None = 0.0
    crash_after: float | None = None
    crash_status: ExitStatus = FAILED
    exit_on_term: float | None = 0.1
    term_status: ExitStatus = FINE
    uninterruptible: float = 0.0
    children: tuple[Child, ...] = ()
    drain_takes: float | None = 0.5
    drain_ends_by: str = "exit"
    drain_refusals: int = 0
    asks_for_more: float | None = None
    watchdog_lost_after: float | None = None
    unready_share: float = 0.0
    unhealthy_after: float | None = None
    check_takes: float = 0.0
    loses_checks: float = 0.0
    says: tuple[tuple[float, dict[str, Any]], ...] = ()


HEALTHY = Behaviour()
HEALTHY_TASK = Behaviour(crash_after=1.5, crash_status=ExitStatus(code=0))

_MOMENTS = [0.0, 0.1, 0.25, 0.5, 1.0, 1.0, 2.0, 5.0, 12.0]


def moment(rng: Random) -> float:
    """A delay, mostly from a short list, so that things often fall on one moment."""
    return rng.choice(_MOMENTS) if rng.random() < 0.8 else rng.uniform(0.0, 20.0)


def random_behaviour(rng: Random, *, task: bool) -> Behaviour:
    """A process with a few things wrong with it; about a third have nothing wrong."""
    if rng.random() < 0.3:
        return HEALTHY_TASK if task else HEALTHY

    def maybe(share: float) -> float | None:
        return moment(rng) if rng.random() < share else None

    status = rng.choice(
        [ExitStatus(code=0), ExitStatus(code=1), ExitStatus(code=78), ExitStatus(signal="SIGSEGV")]
    )
    ending = ExitStatus(code=0) if task and rng.random() < 0.7 else status
    return Behaviour(
        report_delay=rng.choice([0.0, 0.0, 0.05, 0.5]),
        spawn_error="cannot run ./x: no such file" if rng.random() < 0.08 else None,
        ready_after=None if rng.random() < 0.1 else moment(rng),
        crash_after=moment(rng) * rng.choice([1, 1, 4]) if rng.random() < (0.9 if task else 0.35) else None,
        crash_status=ending,
        exit_on_term=None if rng.random() < 0.25 else moment(rng),
        term_status=rng.choice(
            [ExitStatus(code=0), ExitStatus(signal="SIGTERM"), ExitStatus(code=143), status]
        ),
        uninterruptible=rng.choice([2.0, 7.0, 30.0]) if rng.random() < 0.08 else 0.0,
        children=tuple(
            Child(None if rng.random() < 0.5 else rng.choice([0.0, 0.1, 3.0]), maybe(0.3))
            for _ in range(rng.choice([0, 0, 0, 1, 2]))
        ),
        drain_takes=None if rng.random() < 0.2 else moment(rng),
        drain_ends_by=rng.choice(["exit", "in-flight", "drained", "until", "in-flight"]),
        drain_refusals=rng.choice([0, 0, 1, 3]),
        asks_for_more=rng.choice([1.0, 5.0, 1e9]) if rng.random() < 0.25 else None,
        watchdog_lost_after=maybe(0.3),
        unready_share=rng.choice([0.0, 0.0, 0.3]),
        unhealthy_after=maybe(0.25),
        check_takes=rng.choice([0.0, 0.05, 0.5]),
        loses_checks=0.05 if rng.random() < 0.1 else 0.0,
        says=_hostile(rng),
    )


def _hostile(rng: Random) -> tuple[tuple[float, dict[str, Any]], ...]:
    """Messages at any moment that no manual foresees."""
    if rng.random() < 0.6:
        return ()
    messages: list[dict[str, Any]] = [
        {"ready": True},
        {"reloading": True},
        {"stopping": True},
        {"stopping": True, "ready": True},
        {"drained": True},
        {"in_flight": 0},
        {"in_flight": 3},
        {"extend_seconds": 1e9},
        {"extend_seconds": 0.001},
        {"watchdog_trigger": True},
        {"watchdog_seconds": 0.5},
        {"watchdog_seconds": 86400.0, "watchdog": True},
        {"status": "fine"},
        {"tasks_completed": 1, "task_seconds": (0.1,)},
    ]
    return tuple((moment(rng), rng.choice(messages)) for _ in range(rng.randint(1, 5)))
