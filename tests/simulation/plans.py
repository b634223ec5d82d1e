"""A random host from a seed: pools with every policy there is, and dependencies without cycles."""

from random import Random

from supervisor.core.plan import (
    Backoff,
    Condition,
    DrainPolicy,
    GiveUp,
    HostPlan,
    Kind,
    PoolPlan,
    ProbePolicy,
    Readiness,
    RestartPolicy,
    RestartRules,
    RolloutRules,
    Stage,
    StopPolicy,
    Target,
)

DRAIN_SIGNAL = "SIGUSR1"
"""No stage uses it, so that a checker can tell the drain's signal from a stage's."""


def random_plan(rng: Random) -> HostPlan:
    """One to six pools of one to four instances."""
    names = [f"p{number}" for number in range(rng.randint(1, 6))]
    pools: dict[str, PoolPlan] = {}
    for name in names:
        pools[name] = _pool(rng, name, list(pools.values()))
    order = list(pools)
    rng.shuffle(order)
    deadline = rng.choice([0.0, 3.0, 12.0, 40.0, 300.0])
    return HostPlan("sim", {name: pools[name] for name in order}, deadline)


def _pool(rng: Random, name: str, earlier: list[PoolPlan]) -> PoolPlan:
    kind = Kind.TASK if rng.random() < 0.15 else Kind.SERVICE
    readiness = rng.choice(list(Readiness))
    probe = _probe(rng) if readiness is Readiness.PROBE else None
    # A start that can never be in time is the manifest's error, not the core's.
    slowest = 0.0 if probe is None else probe.initial_delay_seconds + 2 * probe.period_seconds + 2.0
    needed = rng.sample(earlier, k=min(len(earlier), rng.choice([0, 0, 1, 1, 2])))
    return PoolPlan(
        name,
        instances=rng.randint(1, 4),
        kind=kind,
        depends_on={other.name: _condition(rng, other) for other in needed},
        startup_timeout_seconds=max(slowest, rng.choice([3.0, 10.0, 30.0])),
        min_uptime_seconds=rng.choice([0.0, 0.3, 1.0, 2.5]),
        readiness=readiness,
        readiness_probe=probe,
        liveness_probe=_probe(rng) if rng.random() < 0.3 else None,
        watchdog_seconds=rng.choice([4.0, 10.0]) if rng.random() < 0.3 else None,
        restart=_restart(rng, kind),
        drain=_drain(rng) if rng.random() < 0.6 else None,
        stop=_stop(rng),
        rollout=_rollout(rng, kind),
        revision="1",
    )


def _rollout(rng: Random, kind: Kind) -> RolloutRules:
    max_surge = 0 if kind is Kind.TASK else rng.choice([0, 0, 1, 1, 2, 3])
    return RolloutRules(
        rng.randint(0 if max_surge else 1, 3),
        rng.choice([0.0, 0.7, 5.0]),
        rng.choice([15.0, 60.0, 600.0]),
        max_surge,
    )


def _condition(rng: Random, other: PoolPlan) -> Condition:
    if other.kind is Kind.TASK:
        return rng.choice([Condition.COMPLETED, Condition.STARTED])
    return rng.choice([Condition.READY, Condition.READY, Condition.STARTED])


def _probe(rng: Random) -> ProbePolicy:
    return ProbePolicy(
        period_seconds=rng.choice([1.0, 3.0, 10.0]),
        timeout_seconds=rng.choice([0.5, 1.0]),
        failure_threshold=rng.randint(1, 3),
        success_threshold=rng.randint(1, 2),
        initial_delay_seconds=rng.choice([0.0, 0.0, 0.5]),
    )


def _restart(rng: Random, kind: Kind) -> RestartRules:
    policies = list(RestartPolicy) if kind is Kind.TASK else [RestartPolicy.ALWAYS, *RestartPolicy]
    return RestartRules(
        rng.choice(policies),
        Backoff(
            initial_seconds=rng.choice([0.1, 0.5, 2.0]),
            factor=rng.choice([1.0, 2.0, 3.0]),
            max_seconds=rng.choice([2.0, 15.0]),
            jitter=rng.choice([0.0, 0.5, 1.0]),
            reset_after_seconds=rng.choice([5.0, 30.0]),
        ),
        GiveUp(rng.randint(2, 4), rng.choice([10.0, 60.0])) if rng.random() < 0.3 else None,
        frozenset({78}) if rng.random() < 0.5 else frozenset(),
    )


def _drain(rng: Random) -> DrainPolicy:
    way = rng.choice(["signal", "action", "wait"])
    return DrainPolicy(
        signal=DRAIN_SIGNAL if way == "signal" else None,
        has_action=way == "action",
        has_until=rng.random() < 0.4,
        settle_seconds=rng.choice([0.0, 0.0, 0.5, 4.0]),
        window_seconds=rng.choice([0.0, 2.0, 8.0, 30.0]),
    )


def _stop(rng: Random) -> StopPolicy:
    stages = [
        Stage(rng.choice(["SIGTERM", "SIGINT", "SIGQUIT"]), Target.MAIN, rng.choice([0.0, 1.0, 5.0, 25.0]))
        for _ in range(rng.choice([0, 1, 1, 2]))
    ]
    if rng.random() < 0.6:
        stages.append(Stage("SIGTERM", Target.ALL, rng.choice([0.5, 5.0])))
    return StopPolicy(tuple(stages), rng.choice([2.0, 60.0]), rng.choice([0.0, 5.0, 20.0]))
