"""Drains and restarts: no task is cut, a drained pool stays drained, and a bad build is not rolled out."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, script, tally, worker
from tests.e2e.daemon import BIN, Daemon
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

GENTLE = [{"signal": "SIGTERM", "target": "main", "grace": "30s"}]


def tasker(record: Path, instances: int = 2) -> dict[str, object]:
    """A pool whose workers do tasks of 0.3 s and can be drained by a signal."""
    return {
        "command": worker("tasker", str(record), "0.3", "drains"),
        "instances": instances,
        "readiness": {"notify": True},
        "drain": {"signal": "SIGUSR1", "window": "30s"},
        "stop": {"stages": GENTLE},
        "rollout": {"min_ready": "200ms"},
    }


def wait_for_tasks(record: Path, more: int) -> None:
    """Wait until so many more tasks are done than now."""
    wanted = len(tally(record)[1]) + more
    eventually(lambda: len(tally(record)[1]) >= wanted)


def wait_gone(pid: int) -> None:
    """Wait until a process is no more."""
    eventually(lambda: not is_alive(pid))


def test_every_task_that_was_begun_is_done(daemon: Make, tmp_path: Path) -> None:
    """Restart, drain, resume and the end of the daemon: the workers' own record shows no task cut."""
    record = tmp_path / "record"
    one = daemon({"pools": {"jobs": tasker(record, 3)}})
    one.wait_ready()
    for verb in (["restart", "jobs"], ["drain", "jobs"], ["resume", "jobs"], ["restart", "jobs/1"]):
        if verb[0] != "resume":
            wait_for_tasks(record, 1)
        done = one.ctl(*verb)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
    wait_for_tasks(record, 4)
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    begun, finished = tally(record)
    assert len(finished) > 10
    assert begun == [] or sorted(begun) == sorted(finished)
    assert len(set(finished)) == len(finished)


def test_drained_stays_drained_over_a_restart_of_the_daemon(daemon: Make, tmp_path: Path) -> None:
    """Also over kill -9: an operator's word holds until the operator takes it back."""
    one = daemon(
        {
            "pools": {
                "jobs": tasker(tmp_path / "a"),
                "other": tasker(tmp_path / "b"),
                "third": tasker(tmp_path / "c"),
            }
        }
    )
    one.wait_ready()
    assert one.ctl("drain", "jobs").returncode == 0
    assert one.ctl("stop", "other/1").returncode == 0
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    one.start()
    one.wait_ready("third")
    assert one.pool("jobs")["status"] == "drained"
    assert [shown["phase"] for shown in one.pool("jobs")["instances"]] == ["stopped", "stopped"]
    eventually(lambda: one.instance("other/0")["ready"])
    assert one.instance("other/1")["phase"] == "stopped"
    assert one.get("/readyz").status_code == 503
    refused = one.ctl("start", "jobs")
    assert refused.returncode != 0
    assert "resume" in refused.stderr + refused.stdout
    for verb in (["resume", "jobs"], ["drain", "third"]):
        done = one.ctl(*verb)
        assert done.returncode == 0, done.stdout + done.stderr
    pids = [shown["pid"] for shown in one.pool("jobs")["instances"]]
    one.signal(signal.SIGKILL)
    one.wait_end()
    for pid in pids:
        # The daemon was killed: taking its workers over is a later step, so the test ends them itself.
        subprocess.run(["kill", str(pid)], check=False)
        wait_gone(pid)
    one.start()
    one.wait_ready("jobs")
    assert one.pool("third")["status"] == "drained"


def test_a_rolling_restart_keeps_all_but_one_ready(daemon: Make, tmp_path: Path) -> None:
    """Looked at after every change: never more than max_unavailable are missing; all pids change."""
    one = daemon({"pools": {"jobs": tasker(tmp_path / "record", 4)}})
    one.wait_ready()
    before = {shown["name"]: shown["pid"] for shown in one.pool("jobs")["instances"]}
    operation = one.post("/v1/pools/jobs/restart").json()["id"]
    again = one.post("/v1/pools/jobs/restart").json()["id"]
    assert again == operation, "repeating the wish changes nothing further"
    lowest, revision = 4, 0
    while one.get(f"/v1/operations/{operation}").json()["state"] == "running":
        shown = one.get(f"/v1/pools/jobs?after={revision}&wait=5").json()
        revision = shown["revision"]
        lowest = min(lowest, shown["ready"])
    assert one.operation(operation)["state"] == "succeeded"
    assert lowest >= 3, "a look may come too late to see the one that is missing, and never sees two"
    after = {shown["name"]: shown["pid"] for shown in one.pool("jobs")["instances"]}
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("import signal\nsignal.pause()", "never ready"),
        ("import time, sys, os\nimport threading\nthreading.Event().wait(1.1)\nsys.exit(7)", "crashes late"),
        ("import sys\nsys.exit(9)", "crashes at once"),
    ],
    ids=["never-ready", "crash-late", "crash-at-once"],
)
def test_a_bad_build_halts_at_the_first_instance(daemon: Make, tmp_path: Path, broken: str, why: str) -> None:
    """The old ones keep serving, the ctl says why and exits with 1."""
    program = tmp_path / "program.py"
    good = (
        "import os, socket, signal\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
        "signal.pause()\n"
    )
    ready = good.removesuffix("signal.pause()\n")
    program.write_text(good)
    command = script(f"exec(open({str(program)!r}).read())")
    one = daemon(
        {
            "pools": {
                "web": pool(
                    command,
                    instances=3,
                    readiness={"notify": True},
                    startup={"timeout": "2s"},
                    rollout={"min_ready": "3s"},
                    restart={"backoff": {"initial": "30s", "jitter": "none"}},
                )
            }
        }
    )
    one.wait_ready()
    before = [shown["pid"] for shown in one.pool("web")["instances"]]
    program.write_text(ready + broken if why == "crashes late" else broken)
    done = one.ctl("restart", "web", "--timeout", "60s")
    assert done.returncode == 1
    assert "web/0" in done.stdout + done.stderr
    shown = one.pool("web")["instances"]
    assert [instance["pid"] for instance in shown[1:]] == before[1:]
    assert all(instance["ready"] for instance in shown[1:])
    operation = one.get("/v1/operations").json()["operations"][0]
    assert operation["state"] == "failed"
    assert "web/0" in operation["message"]
    # Slow is not broken: the same pool with a good build again rolls to the end.
    program.write_text("import threading\nthreading.Event().wait(0.7)\n" + good)
    assert one.ctl("restart", "web", "--timeout", "90s").returncode == 0


def test_an_operator_may_change_their_mind_at_any_moment(daemon: Make, tmp_path: Path) -> None:
    """Restart, drain, stop, start, resume on top of one another end where the last wish says."""
    one = daemon({"pools": {"jobs": tasker(tmp_path / "record", 3)}})
    one.wait_ready()
    for verb in ("restart", "drain", "resume", "stop", "start", "restart", "drain", "stop", "resume"):
        answer = one.post(f"/v1/pools/jobs/{verb}")
        assert answer.status_code == 202, (verb, answer.text)
    one.wait_ready()
    assert one.ctl("wait", "jobs", "--for", "ready", "--timeout", "60s").returncode == 0
    states = {operation["state"] for operation in one.get("/v1/operations").json()["operations"]}
    assert states <= {"succeeded", "failed", "aborted"}
    begun, finished = tally(tmp_path / "record")
    running = {shown["pid"] for shown in one.pool("jobs")["instances"]}
    cut = [task for task in set(begun) - set(finished) if int(task.split("-")[0]) not in running]
    assert cut == []


def test_a_failed_instance_is_restarted_alone(daemon: Make, tmp_path: Path) -> None:
    """`restart --failed` touches only those that failed."""
    flag = tmp_path / "ok"
    text = (
        "import os, sys, signal\n"
        f"if os.environ['PITBOSS_INDEX'] == '1' and not os.path.exists({str(flag)!r}): sys.exit(3)\n"
        "signal.pause()"
    )
    one = daemon(
        {
            "pools": {
                "web": pool(
                    script(text),
                    instances=3,
                    restart={"backoff": FAST_BACKOFF, "give_up": {"starts": 3, "within": "1m"}},
                )
            }
        }
    )
    shown = one.wait_phase("web/1", "failed")
    assert shown["last_exit"]["detail"] == "exit 3"
    eventually(lambda: one.pool("web")["ready"] == 2)
    others = [one.instance(f"web/{index}")["pid"] for index in (0, 2)]
    flag.touch()
    done = one.ctl("restart", "--failed", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert one.instance("web/1")["ready"]
    assert [one.instance(f"web/{index}")["pid"] for index in (0, 2)] == others


def test_the_ctl_finds_the_daemon_by_itself(daemon: Make, tmp_path: Path) -> None:
    """By the environment, and in the user's runtime directory."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    done = subprocess.run(
        [str(BIN / "pitbossctl"), "status"],
        env={"PATH": "/usr/bin:/bin", "PITBOSS_SOCKET": str(one.socket)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "web" in done.stdout


def test_a_request_id_goes_through_everything(daemon: Make) -> None:
    """The id of a request is on its operation, in the log lines of what it moved, and with the new worker."""
    one = daemon({"pools": {"web": pool(worker("obedient"), rollout={"min_ready": "0s"})}})
    one.wait_ready()
    answer = one.post("/v1/pools/web/restart", headers={"X-Request-ID": "deploy-42"})
    assert answer.headers["X-Request-ID"] == "deploy-42"
    operation = one.operation(answer.json()["id"])
    assert operation["request_id"] == "deploy-42"
    environment = Path(f"/proc/{one.instance('web/0')['pid']}/environ").read_text().split("\0")
    assert "PITBOSS_REQUEST_ID=deploy-42" in environment

    def moves() -> set[str | None]:
        return {line.get("to") for line in one.log_records() if line.get("request_id") == "deploy-42"}

    eventually(lambda: {"stopping", "starting"} <= moves(), 60, "its lines in the log")
    assert "deploy-42" in one.get("/v1/operations").text
