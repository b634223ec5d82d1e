"""Five hundred tasks flow while operators do what operators do, and every one is accounted for."""

import re
from collections.abc import Callable

import pytest

from tests.waiting import eventually
from tests.workloads.harness import PATIENCE_SECONDS, Program, Workload
from tests.workloads.programs import PROGRAMS

Make = Callable[..., Workload]

TASKS = 500


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_no_task_is_lost_and_none_repeated(workload: Make, program: Program) -> None:
    """Three restarts, a drain, a resume, and SIGKILL to one instance: each task is done, and done once.

    Only the tasks in the hands of what was killed may have begun twice.
    """
    quick = {"pools": {program.name: {"rollout": {"max_unavailable": 2, "min_ready": "200ms"}}}}
    one = workload(program.name, overrides=quick)
    name, tasks = program.name, set(range(1, TASKS + 1))
    long = range(TASKS - 3 * program.slots + 1, TASKS + 1)
    feeder = one.feeder(name, TASKS - len(long), f"--per-second={program.per_second}")

    one.wait_held(2)
    one.ctl("restart", name)
    generation, at = one.kill_busy_instance(program, long)
    one.daemon.wait_ready(within=PATIENCE_SECONDS)
    one.wait_held(2)
    one.ctl("restart", name)
    one.wait_held(2)
    one.ctl("drain", name)
    assert one.held() == {}
    one.ctl("resume", name)
    one.wait_held(2)
    one.ctl("restart", name)

    assert feeder.wait(PATIENCE_SECONDS) == 0
    one.wait_done(tasks)
    eventually(lambda: program.left(one) == 0, PATIENCE_SECONDS, "the broker has no task left")
    verdict = one.account(tasks, {generation: at})
    assert verdict.complaints == []
    assert len(verdict.done_once) + len(verdict.excused) == TASKS
    # Nothing was in doubt: whoever was killed held a task in each of its slots.
    assert 1 <= len(verdict.excused) <= program.slots
    stops = one.daemon.get("/metrics").text
    assert not re.search(r'pitboss_stops_total{pool="\w+",outcome="(escalated|killed|stuck)"} [1-9]', stops)
