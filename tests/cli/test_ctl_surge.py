"""What the ctl shows of the extra instance of a restart, in eighty columns."""

import time

from supervisor.cli.ctl.follow import Picture
from supervisor.cli.ctl.progress import operation_frame
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.view import host_view, operation_view
from tests.cli.ctl_runs import ctl
from tests.cli.stub_daemon import Stub, host, instance, pool


def restarting(*, ready: bool) -> dict[str, object]:
    """A pool of two whose restart has brought a third."""
    extra = instance("jobs/2", surge=True, generation=3)
    if not ready:
        extra |= {"phase": "starting", "ready": False, "waiting_for": "READY=1", "deadline_seconds": 58.0}
    leaving = instance("jobs/0", phase="stopping", ready=False, stage="stage-1", deadline_seconds=20.0)
    leaving |= {"stage_since_seconds": 5.0, "waiting_for": "exit after SIGTERM"}
    first = leaving if ready else instance("jobs/0")
    rollout = {"operation": "op1", "state": "running", "waiting": 1, "turns": ["jobs/0"], "surge": ["jobs/2"]}
    return host(
        pool("jobs", [first, instance("jobs/1"), extra], wanted=2, instances_declared=2, rollout=rollout)
    )


def test_the_table_marks_it() -> None:
    """Ready beyond wanted is shown as it is, and the extra row says what it is."""
    with Stub(restarting(ready=True)) as stub:
        lines = ctl(stub, "status").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.startswith("jobs")}
    assert max(map(len, lines)) <= 80
    assert rows["jobs"].split()[2] == "2/2"
    assert rows["jobs/2"].split()[-1] == "surge"
    with Stub(restarting(ready=False)) as stub:
        lines = ctl(stub, "status").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.startswith("jobs")}
    assert rows["jobs"].split()[2] == "2/2"
    assert "surge, 58s left: READY=1" in rows["jobs/2"]


def test_it_is_no_name_to_be_suggested() -> None:
    """Only the declared ones are there to be named."""
    with Stub(restarting(ready=True)) as stub:
        done = ctl(stub, "status", "jobs/7")
    assert "It has jobs/0 to jobs/1." in done.stderr


def frame(*, ready: bool, detail: str) -> list[str]:
    """The lines of the progress of a restart."""
    steps = [
        {"instance": "jobs/0", "state": "running", "detail": "generation 1 stopping (stage-1)"},
        {"instance": "jobs/1", "state": "waiting", "detail": ""},
        {"instance": "jobs/2", "state": "running", "detail": detail},
    ]
    answer = {"id": "op1", "kind": "restart", "target": "jobs", "state": "running", "total": 3}
    operation = operation_view({**answer, "steps": steps})
    now = time.monotonic()
    picture = Picture(now, host_view(restarting(ready=ready)), now, operations={"op1": operation})
    lines = operation_frame(picture, Screen(), ["op1"])
    return ["".join(span.text for span in line) for line in lines]


def test_the_progress_of_a_restart_says_who_stands_in() -> None:
    """While it starts, and when it is ready."""
    lines = frame(ready=False, detail="surge: starting")
    assert any("jobs/2" in line and "surge, waiting for READY=1" in line for line in lines), lines
    lines = frame(ready=True, detail="surge: generation 3 stands in")
    assert any("jobs/2" in line and "surge: generation 3 stands in" in line for line in lines), lines
    assert max(map(len, lines)) <= 80
