"""One long job in the hands of each program when it is stopped: with time enough, and without."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from supervisor.manifest.presets import PRESETS
from tests.waiting import eventually
from tests.workloads.harness import PATIENCE_SECONDS, Workload
from tests.workloads.programs import PROGRAMS, celery_left

Make = Callable[..., Workload]

JOBS = dict(enumerate(PROGRAMS, 1))
"""The number of each program's job."""

JOB_SECONDS = 8


def with_a_job_each(workload: Make, seconds: float, stop: dict[str, Any] | None = None) -> Workload:
    """Every program with one instance, and with a long job in hand."""
    only = {name: {"instances": 1, **({"stop": stop[name]} if stop else {})} for name in PROGRAMS}
    one = workload(*PROGRAMS, overrides={"pools": only})
    feeders = [one.feeder(name, f"--first={job}", f"--seconds={seconds}") for job, name in JOBS.items()]
    for feeder in feeders:
        feeder.feed(1)
    for feeder in feeders:
        feeder.end()
    one.wait_held(len(PROGRAMS))
    return one


def endings(one: Workload) -> dict[str, tuple[str, str]]:
    """How each pool's first instance ended: the rung, and the class."""
    last = {pool["name"]: pool["instances"][0]["last_exit"] for pool in one.daemon.status()["pools"]}
    return {name: (shown["rung"], shown["class"]) for name, shown in last.items()}


def test_a_stop_waits_for_the_job_in_flight(workload: Make) -> None:
    """Each job is done exactly once, by the worker that had begun it, and the first rung was enough."""
    one = with_a_job_each(workload, JOB_SECONDS)
    one.ctl("stop", "--all")
    assert endings(one) == dict.fromkeys(PROGRAMS, ("stage-1", "clean"))
    verdict = one.account(set(JOBS))
    assert verdict.complaints == []
    assert verdict.by_generation == {(f"{name}/0", 1): 1 for name in PROGRAMS}


def test_a_budget_that_is_too_small_is_on_record_and_the_job_is_done_again(workload: Make) -> None:
    """The preset with too short a first rung: the second one ends it, and the job comes back."""
    # More than a second: RQ takes a second signal within one for an echo of the first.
    short = {name: _shrunk(name, first_seconds=3.0) for name in PROGRAMS}
    # It must not end by itself, however slow the machine is; that it begins again is what is waited for.
    one = with_a_job_each(workload, 60, short)
    one.ctl("stop", "--all")
    assert set(one.account(set(JOBS)).lost) == set(JOBS)
    assert {name: rung for name, (rung, _) in endings(one).items()} == dict.fromkeys(PROGRAMS, "stage-2")
    metrics = one.daemon.get("/metrics").text
    for name in PROGRAMS:
        assert f'pitboss_stops_total{{pool="{name}",outcome="escalated"}} 1' in metrics
    one.ctl("start", "--all")
    again = {(f"{name}/0", 2): job for job, name in JOBS.items()}
    eventually(
        lambda: {by: rows[0].task for by, rows in one.held().items() if by[1] == 2} == again,
        PATIENCE_SECONDS,
        f"each has begun its job again: {one.held()}",
    )


def _shrunk(name: str, first_seconds: float) -> dict[str, Any]:
    """The stages of a preset as a manifest has them, with another window for the first."""
    first, *rest = PRESETS[name].stages
    stages = [replace(first, grace_seconds=first_seconds), *rest]
    return {
        "stages": [
            {"signal": one.signal, "target": one.target.value, "grace": f"{one.grace_seconds}s"}
            for one in stages
        ]
    }


@pytest.mark.parametrize("acknowledged", ["late", "early"])
def test_the_accounting_finds_what_a_wrong_manifest_does(workload: Make, acknowledged: str) -> None:
    """SIGTERM to all processes of a Celery worker: its settings decide whether jobs are repeated or lost.

    The check that the other stories trust must say which.
    """
    wrong = {"stages": [{"signal": "SIGTERM", "target": "all", "grace": "20s"}]}
    one = workload(
        "celery",
        overrides={"pools": {"celery": {"instances": 1, "stop": wrong}}},
        env={} if acknowledged == "late" else {"ACKNOWLEDGE_EARLY": "1"},
    )
    one.enqueue("celery", 2, f"--seconds={JOB_SECONDS}")
    one.wait_held(2)
    one.ctl("stop", "celery")
    # It looks like the best of stops.
    assert endings(one) == {"celery": ("stage-1", "clean")}
    one.ctl("start", "celery")
    one.enqueue("celery", 1, "--first=3", "--seconds=0")
    one.wait_done({3} if acknowledged == "early" else {1, 2, 3})
    eventually(lambda: celery_left(one) == 0, PATIENCE_SECONDS, "the broker has no task left")
    verdict = one.account({1, 2, 3})
    if acknowledged == "late":
        assert (list(verdict.repeated), list(verdict.lost)) == ([1, 2], [])
    else:
        assert (list(verdict.repeated), list(verdict.lost)) == ([], [1, 2])
