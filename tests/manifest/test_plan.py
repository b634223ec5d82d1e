"""From the manifest to what decisions read."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

from typing import get_args

import pytest

from supervisor.core.plan import (
    DEFAULT_STAGES,
    KILL_SECONDS,
    LINGER_SECONDS,
    SWEEP_SECONDS,
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
from supervisor.manifest.model import PresetName
from supervisor.manifest.presets import PRESETS
from tests.manifest.conftest import Loader


def plan_of(manifest: Loader, keys: str) -> PoolPlan:
    """The plan of one pool with these keys."""
    return manifest(f"pools: {{a: {{command: x, {keys}}}}}").plan.pools["a"]


def test_the_defaults_are_those_of_the_core(manifest: Loader) -> None:
    """A pool of one line has every default that a plan has by itself."""
    plan = manifest("pools: {a: {command: x}}").plan
    assert plan.pools["a"] == PoolPlan("a", revision=plan.pools["a"].revision)
    assert (plan.name, plan.shutdown_deadline_seconds) == ("testhost", 300.0)


def test_everything_arrives(manifest: Loader) -> None:
    """Each key of a pool reaches its place in the plan."""
    plan = manifest(
        """
        name: shop
        shutdown: {deadline: 90s}
        pools:
          a:
            command: x
            instances: 3
            critical: false
            depends_on: {b: started, t: completed}
            startup: {timeout: 50s, min_uptime: 2s}
            readiness: {exec: [a], period: 3s, timeout: 2s, failure_threshold: 4, success_threshold: 2, initial_delay: 1s}
            liveness: {tcp: 80, period: 500ms}
            watchdog: 30s
            restart:
              policy: on-failure
              backoff: {initial: 1s, factor: 3, max: 50s, jitter: none, reset_after: 70s}
              give_up: {starts: 10, within: 10m}
              permanent_exit_codes: [78, 78, 2]
            drain: {http: "http://x/", until: {tcp: 81}, settle: 5s, window: 61s}
            stop: {stages: [{signal: INT, grace: 10s}, {signal: SIGQUIT, target: all, grace: 500ms}], extend: {step: 1s, total: 2s}}
            rollout: {max_unavailable: 2, max_surge: 3, min_ready: 6s, progress_deadline: 7m}
          b: {command: x, depends_on: [t]}
          t: {command: x, kind: task}
        """
    ).plan
    assert (plan.name, plan.shutdown_deadline_seconds) == ("shop", 90.0)
    assert list(plan.pools) == ["a", "b", "t"]
    assert plan.pools["a"] == PoolPlan(
        name="a",
        instances=3,
        kind=Kind.SERVICE,
        critical=False,
        depends_on={"b": Condition.STARTED, "t": Condition.COMPLETED},
        startup_timeout_seconds=50.0,
        min_uptime_seconds=2.0,
        readiness=Readiness.PROBE,
        readiness_probe=ProbePolicy(3.0, 2.0, 4, 2, 1.0),
        liveness_probe=ProbePolicy(0.5, 0.5, 3, 1, 0.0),
        watchdog_seconds=30.0,
        restart=RestartRules(
            RestartPolicy.ON_FAILURE,
            Backoff(1.0, 3.0, 50.0, 0.0, 70.0),
            GiveUp(10, 600.0),
            frozenset({2, 78}),
        ),
        drain=DrainPolicy(None, True, True, 5.0, 61.0),
        stop=StopPolicy((Stage("SIGINT", Target.MAIN, 10.0), Stage("SIGQUIT", Target.ALL, 0.5)), 1.0, 2.0),
        rollout=RolloutRules(2, 6.0, 420.0, 3),
        revision=plan.pools["a"].revision,
    )
    assert plan.pools["b"].depends_on == {"t": Condition.READY}
    assert plan.pools["t"].kind is Kind.TASK
    assert plan.pools["t"].restart.policy is RestartPolicy.ON_FAILURE


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("drain: {signal: USR1}", DrainPolicy("SIGUSR1", window_seconds=30.0)),
        ("drain: {notify: true}", DrainPolicy(window_seconds=30.0)),
        ("drain: {settle: 5s}", DrainPolicy(settle_seconds=5.0, window_seconds=0.0)),
        ("drain: {exec: [x], window: 1s}", DrainPolicy(has_action=True, window_seconds=1.0)),
        ("drain: {until: {tcp: 80}}", DrainPolicy(has_until=True, window_seconds=30.0)),
        ("drain: {signal: USR1, notify: false}", DrainPolicy("SIGUSR1", window_seconds=30.0)),
        ("stop: {preset: sidekiq}", DrainPolicy("SIGTSTP", window_seconds=10.0)),
        ("stop: {preset: sidekiq}, drain: {window: 40s}", DrainPolicy("SIGTSTP", window_seconds=40.0)),
        ("stop: {preset: sidekiq}, drain: {}", DrainPolicy("SIGTSTP", window_seconds=10.0)),
        ("stop: {preset: sidekiq}, drain: {exec: [x]}", DrainPolicy(has_action=True, window_seconds=30.0)),
        ("stop: {preset: celery}", None),
    ],
)  # fmt: skip
def test_drains(manifest: Loader, keys: str, expected: DrainPolicy | None) -> None:
    """A drain lasts for nothing where nothing could end it, and a preset fills in what is not said."""
    assert plan_of(manifest, keys).drain == expected


def test_readiness_by_notify_has_no_probe(manifest: Loader) -> None:
    """The worker is believed, nobody asks."""
    plan = plan_of(manifest, "readiness: {notify: true}")
    assert (plan.readiness, plan.readiness_probe) == (Readiness.NOTIFY, None)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(manifest: Loader, name: str) -> None:
    """Each preset is a ladder that begins with the main process alone, and says why."""
    plan = plan_of(manifest, f"stop: {{preset: {name}}}")
    assert plan.stop.stages == PRESETS[name].stages
    assert plan.stop.stages[0].target is Target.MAIN
    assert PRESETS[name].why.endswith(".")
    assert "|" not in PRESETS[name].why


def test_the_first_signal_of_each_preset_is_the_graceful_one() -> None:
    """What each worker takes for "finish and go"; for these TERM would be the wrong one."""
    first = {name: preset.stages[0].signal for name, preset in PRESETS.items()}
    assert {name: signal for name, signal in first.items() if signal != "SIGTERM"} == {
        "huey": "SIGINT",
        "nginx": "SIGQUIT",
        "php-fpm": "SIGQUIT",
        "postgresql": "SIGINT",
        "node": "SIGINT",
    }
    assert set(get_args(PresetName)) == set(PRESETS)


def test_without_stages_the_ladder_is_the_default_one(manifest: Loader) -> None:
    """An empty stop block changes nothing."""
    assert plan_of(manifest, "stop: {extend: {total: 0}}").stop == StopPolicy(DEFAULT_STAGES, 60.0, 0.0)


def test_the_worst_case_of_a_shutdown(manifest: Loader) -> None:
    """Drains run at once; stages wait for dependents; the longest chain counts."""
    text = """
        shutdown: {deadline: %s}
        pools:
          db: {command: x, drain: {settle: 50s}, stop: {stages: [{signal: TERM, grace: 10s}]}}
          api:
            command: x
            depends_on: [db]
            drain: {signal: USR1, settle: 5s, window: 20s}
            stop: {stages: [{signal: TERM, grace: 30s}]}
          aside: {command: x, stop: {stages: [{signal: TERM, grace: 40s}]}}
          none: {command: x, instances: 0, depends_on: [db], stop: {stages: [{signal: TERM, grace: 400s}]}}
        """
    loaded = manifest(text % "86s")
    after_main = LINGER_SECONDS + SWEEP_SECONDS + KILL_SECONDS
    assert loaded.worst_case_shutdown_seconds == 5 + 20 + 30 + after_main + 10 + after_main
    assert not [one for one in loaded.warnings if one.path == "shutdown.deadline"]
    warned = [str(one) for one in manifest(text % "85s").warnings if one.path == "shutdown.deadline"]
    assert len(warned) == 1
    assert warned[0].endswith(
        "m.yaml:1:22: shutdown.deadline: expected at least as long as the pools may take, "
        "found windows that add up to 85.4s (they are scaled to fit)"
    )
