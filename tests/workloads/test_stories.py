"""Five hundred tasks flow while operators do what operators do, and every one is accounted for."""

import re
from collections.abc import Callable

import pytest

from tests.waiting import eventually
from tests.workloads.harness import PATIENCE_SECONDS, Program, Workload
from tests.workloads.programs import PROGRAMS

Make = Callable[..., Workload]

TASKS = 500


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
def test_no_task_is_lost_and_none_repeated(workload: Make, program: Program) -> None:
    """Three restarts, a drain, a resume, and SIGKILL to one instance: each task is done, and done once.

    Only the tasks in the hands of what was killed may have begun twice.
    """
    quick = {"pools": {program.name: {"rollout": {"max_unavailable": 2, "min_ready": "200ms"}}}}
    one = workload(program.name, overrides=quick)
    name, tasks = program.name, set(range(1, TASKS + 1))
    long = range(TASKS - program.instances * program.slots + 1, TASKS + 1)
    feeder = one.feeder(name, f"--per-second={program.per_second}")
    portion, rest = divmod(TASKS - len(long), 5)

    def with_tasks_in_hand(verb: str) -> None:
        # However long the last wish took: this one meets tasks that have begun, and more come meanwhile.
        feeder.feed(portion)
        one.wait_held(2)
        one.ctl(verb, name)

    with_tasks_in_hand("restart")
    one.kill_busy_instance(program, long)
    one.daemon.wait_ready(within=PATIENCE_SECONDS)
    with_tasks_in_hand("restart")
    with_tasks_in_hand("drain")
    assert one.held() == {}
    feeder.feed(portion)
    one.ctl("resume", name)
    with_tasks_in_hand("restart")

    feeder.feed(rest)
    feeder.end()
    one.wait_done(tasks)
    eventually(lambda: program.left(one) == 0, PATIENCE_SECONDS, "the broker has no task left")
    verdict = one.account(tasks)
    assert verdict.complaints == []
    assert len(verdict.done_once) + len(verdict.excused) == TASKS
    # Nothing was in doubt: whoever was killed held a task in each of its slots.
    assert 1 <= len(verdict.excused) <= program.slots
    stops = one.daemon.get("/metrics").text
    assert not re.search(r'pitboss_stops_total{pool="\w+",outcome="(escalated|killed|stuck)"} [1-9]', stops)
