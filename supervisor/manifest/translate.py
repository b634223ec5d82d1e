"""From the validated model of a pool to the plan that decisions read.

Decides what a preset and a default mean for a pool; it checks nothing, `checks` did.
"""

import hashlib
import json
from collections.abc import Mapping

from supervisor.core.launch import Identity
from supervisor.core.plan import (
    DEFAULT_STAGES,
    Backoff,
    Condition,
    DrainPolicy,
    GiveUp,
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
from supervisor.manifest import model
from supervisor.manifest.presets import PRESETS

DRAIN_WINDOW_SECONDS = 30.0
PROBE_TIMEOUT_SECONDS = 1.0
REVISION_DIGITS = 12


def pool_plan(
    name: str, pool: model.Pool, revision: str, sockets: Mapping[str, str] | None = None
) -> PoolPlan:
    """What decisions need to know of a pool, and what it listens on, by name."""
    return PoolPlan(
        name=name,
        instances=pool.instances,
        kind=Kind(pool.kind),
        critical=pool.critical,
        depends_on={other: Condition(condition) for other, condition in pool.depends_on.items()},
        startup_timeout_seconds=pool.startup.timeout,
        min_uptime_seconds=pool.startup.min_uptime,
        readiness=_readiness(pool.readiness),
        readiness_probe=_probe(pool.readiness) if pool.readiness and not pool.readiness.notify else None,
        liveness_probe=_probe(pool.liveness) if pool.liveness else None,
        watchdog_seconds=pool.watchdog,
        restart=_restart(pool),
        drain=drain_policy(pool),
        stop=StopPolicy(stages(pool), pool.stop.extend.step, pool.stop.extend.total),
        rollout=RolloutRules(
            pool.rollout.max_unavailable,
            pool.rollout.min_ready,
            pool.rollout.progress_deadline,
            pool.rollout.max_surge,
        ),
        sockets=dict(sockets or {}),
        revision=revision,
    )


def stages(pool: model.Pool) -> tuple[Stage, ...]:
    """The ladder of a pool: its own, its preset's, or the default one."""
    if pool.stop.stages is not None:
        return tuple(Stage(one.signal, Target(one.target), one.grace) for one in pool.stop.stages)
    return PRESETS[pool.stop.preset].stages if pool.stop.preset is not None else DEFAULT_STAGES


def drain_policy(pool: model.Pool) -> DrainPolicy | None:
    """How a pool drains. A preset's signal stands in where the pool names no other way."""
    preset = PRESETS[pool.stop.preset] if pool.stop.preset is not None else None
    block = pool.drain
    if block is None:
        if preset is None or preset.drain_signal is None:
            return None
        return DrainPolicy(preset.drain_signal, window_seconds=preset.drain_window_seconds)
    signal, window = block.signal, block.window
    if preset and preset.drain_signal and not has_drain_action(block):
        signal = preset.drain_signal
        window = preset.drain_window_seconds if window is None else window
    has_action = block.http is not None or block.exec is not None
    if window is None:
        waits = signal or has_action or block.notify or block.until
        window = DRAIN_WINDOW_SECONDS if waits else 0.0
    return DrainPolicy(signal, has_action, block.until is not None, block.settle, window)


def has_drain_action(block: model.Drain) -> bool:
    """Whether a drain block says how the worker is told, or that it need not be."""
    return bool(block.signal or block.http or block.exec or block.notify)


def stop_budget_seconds(plan: PoolPlan) -> float:
    """What a worker may count on from the drain request to SIGKILL, seconds."""
    window = plan.drain.window_seconds if plan.drain else 0.0
    return window + sum(stage.grace_seconds for stage in plan.stop.stages)


def probe_timeout_seconds(probe: model.Probe) -> float:
    """How long an answer may take."""
    return min(PROBE_TIMEOUT_SECONDS, probe.period) if probe.timeout is None else probe.timeout


def restart_policy(pool: model.Pool) -> RestartPolicy:
    """Which exits are followed by a new start: a task has done its work when it ends well."""
    if pool.restart.policy is not None:
        return RestartPolicy(pool.restart.policy)
    return RestartPolicy.ON_FAILURE if pool.kind == "task" else RestartPolicy.ALWAYS


def revision(
    pool: model.Pool, directories: Mapping[str, str], identity: Identity | None, files: Mapping[str, str]
) -> str:
    """Which definition of a pool this is: the beginning of a hash over all that a generation comes from.

    `instances` is left out, because another instance does not make the living ones outdated. The
    contents of environment files go in as they are read, and cannot be read back.
    """
    canonical = {
        "pool": pool.model_dump(mode="json", by_alias=True, exclude={"instances"}),
        "directories": dict(directories),
        "identity": None if identity is None else [identity.uid, identity.gid, sorted(identity.groups)],
        "files": dict(files),
    }
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:REVISION_DIGITS]


def _readiness(block: model.Readiness | None) -> Readiness:
    if block is None:
        return Readiness.UPTIME
    return Readiness.NOTIFY if block.notify else Readiness.PROBE


def _probe(probe: model.Probe) -> ProbePolicy:
    return ProbePolicy(
        probe.period,
        probe_timeout_seconds(probe),
        probe.failure_threshold,
        probe.success_threshold,
        probe.initial_delay,
    )


def _restart(pool: model.Pool) -> RestartRules:
    rules = pool.restart
    backoff = rules.backoff
    return RestartRules(
        policy=restart_policy(pool),
        backoff=Backoff(backoff.initial, backoff.factor, backoff.max, backoff.jitter, backoff.reset_after),
        give_up=GiveUp(rules.give_up.starts, rules.give_up.within) if rules.give_up else None,
        permanent_exit_codes=frozenset(rules.permanent_exit_codes),
    )
